"""Exceptions, warnings and the wording of messages: what, got, expected, what to do."""

import difflib
import sys
import warnings
from collections.abc import Iterable, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Integral

__all__ = [
    "MissingExtra",
    "NeuroalignError",
    "NeuroalignWarning",
    "NotAligned",
    "StoreCorrupt",
    "check_counts",
    "check_keywords",
    "check_option",
    "collect_warnings",
    "list_ids",
    "suggest",
    "warn_user",
]


class NeuroalignError(Exception):
    """Base class of the errors that neuroalign names itself."""


class MissingExtra(NeuroalignError, ImportError):
    """An optional package is not installed; the message carries the exact pip line."""


class StoreCorrupt(NeuroalignError):
    """A stored array does not match its recorded checksum or description."""


class NotAligned(NeuroalignError, ValueError):
    """Rows of two arrays cannot be matched by their ids."""


class NeuroalignWarning(UserWarning):
    """A counted, named warning.

    Attributes
    ----------
    code : str
        Short stable name, for example ``"constant-target"``.
    count : int
        How many things it concerns.
    ids : tuple of str
        Their ids (all of them; the text shows three).
    """

    def __init__(self, message: str, code: str = "", count: int = 0, ids: Sequence[str] = ()):
        super().__init__(message)
        self.code, self.count, self.ids = code, count, tuple(map(str, ids))


_collector: ContextVar[list | None] = ContextVar("neuroalign_warnings", default=None)


def warn_user(message: str, code: str, ids: Iterable = (), count: int | None = None) -> None:
    """Warn, and append the warning to the Scores that are being made, if any (`collect_warnings`)."""
    ids = tuple(map(str, ids))
    warning = NeuroalignWarning(message, code, len(ids) if count is None else count, ids)
    collected = _collector.get()
    if collected is not None:
        collected.append({"code": code, "message": message, "count": warning.count, "ids": list(ids)})
    warnings.warn(warning, stacklevel=_level_of_caller())


def _level_of_caller() -> int:
    """Return the stacklevel, as `warn_user` sees it, of the nearest frame outside of this package: the user's line."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "neuroalign":
        frame, level = frame.f_back, level + 1
    return level


@contextmanager
def collect_warnings():
    """Collect what `warn_user` says inside the block: yields a list of dicts (code, message, count, ids).

    A block inside another adds to the outer list as well, so that a workflow sees all of it.
    """
    outer, inner = _collector.get(), []
    token = _collector.set(inner)
    try:
        yield inner
    finally:
        _collector.reset(token)
        if outer is not None:
            outer.extend(inner)


def list_ids(ids: Iterable) -> str:
    """Spell the first three ids and a count: ``'a', 'b', 'c' and 4 more (7 in all)``."""
    ids = [str(i) for i in ids]
    shown = ", ".join(repr(i) for i in ids[:3])
    return shown if len(ids) <= 3 else f"{shown} and {len(ids) - 3} more ({len(ids)} in all)"


def suggest(name: str, candidates: Iterable[str]) -> str:
    """Return ``" Did you mean 'x' or 'y'?"`` for the nearest names, or an empty string."""
    names = [str(c) for c in candidates]
    near = [c for c in names if c.startswith(f"{name}.")][:3]  # a family: 'cka' for 'cka.debiased'
    near = near or difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(repr(n) for n in near)}?" if near else ""


def check_counts(**counts) -> None:
    """Raise a `ValueError` that names the first of some arguments that is not an integer of at least 0.

    Examples
    --------
    >>> check_counts(n_permutations=1000, n_bootstraps=0)
    """
    for name, value in counts.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 0:
            raise ValueError(f"{name}: got {value!r}, expected an integer of at least 0.")


def check_keywords(function: str, got: Iterable[str], allowed: Iterable[str]) -> None:
    """Raise a `TypeError` that names the first of the keywords in `got` that a function does not take.

    Examples
    --------
    >>> check_keywords("encode", ["cv"], ["cv", "groups"])
    """
    allowed = list(allowed)
    for name in got:
        if name not in allowed:
            raise TypeError(f"{function}: no option {name!r}; expected {', '.join(allowed)}.{suggest(name, allowed)}")


def check_option(name: str, got, allowed: Iterable):
    """Return `got` if it is one of `allowed`; otherwise raise a `ValueError` naming all of them.

    Examples
    --------
    >>> check_option("pooling", "mean", ["mean", "max"])
    'mean'
    """
    allowed = list(allowed)
    if got not in allowed:
        hint = suggest(got, allowed) if isinstance(got, str) else ""
        raise ValueError(f"{name}: got {got!r}, expected one of {', '.join(map(repr, allowed))}.{hint}")
    return got
