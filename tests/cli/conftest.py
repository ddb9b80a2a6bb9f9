"""The command line, called as a user calls it."""

import sys
import warnings

import pytest

from neuroalign.cli import main


@pytest.fixture
def neuroalign(monkeypatch, capsys):
    """Return a function: arguments to exit code, stdout and stderr. It runs in this process: imports take seconds."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command line sets its own

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["neuroalign", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main.run()
        out, err = capsys.readouterr()
        return stop.value.code or 0, out, err

    return call
