"""Errors that a user can mend: one message on stderr."""

import sys

from neuroalign.errors import NeuroalignError

__all__ = ["EXPECTED", "print_failure"]

EXPECTED = (NeuroalignError, ValueError, KeyError, FileNotFoundError, NotADirectoryError, TypeError, ConnectionError,
            MemoryError, PermissionError)


def print_failure(error: Exception) -> None:
    """Print an expected error as one message on stderr."""
    message = error.args[0] if isinstance(error, KeyError) and error.args else error
    print(f"neuroalign: {type(error).__name__}: {message}", file=sys.stderr)
