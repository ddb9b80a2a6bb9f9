"""The package imports quickly: nothing heavy before it is asked for."""

import subprocess
import sys

import pytest

import neuroalign as na

HEAVY = ("torch", "transformers", "nilearn", "mne", "sklearn", "matplotlib", "xarray", "pandas")


@pytest.mark.parametrize("module", ["neuroalign", "neuroalign.cli.main"])
def test_import_loads_nothing_heavy(module):
    code = f"import sys, {module}; print([m for m in {HEAVY!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", na.__all__)
def test_every_public_name_exists(name):
    assert getattr(na, name) is not None


def test_unknown_name():
    with pytest.raises(AttributeError, match="no attribute 'encoder'"):
        na.encoder  # noqa: B018
