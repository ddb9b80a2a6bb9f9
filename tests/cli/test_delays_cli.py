"""Delays on the command line."""

import pytest
import xarray as xr
from typer.testing import CliRunner

import neuroalign as na
from neuroalign import recordings
from neuroalign.cli.main import app


@pytest.mark.parametrize(("args", "expected"), [
    (("--delay", "2", "--delay", "4", "--downsample", "lanczos"), ([2.0, 4.0], None, "lanczos")),
    (("--trf", "-0.1", "0.5"), (None, (-0.1, 0.5), None)),
    ((), (None, None, None)),
])
def test_delays_reach_encode(args, expected, monkeypatch):
    seen = {}

    def encode(features, responses, **options):
        seen.update(options)
        raise ValueError("seen")

    monkeypatch.setattr(na, "extract", lambda *a, **k: xr.DataArray(0))
    monkeypatch.setattr(na, "load_stimuli", lambda name: name)
    monkeypatch.setattr(na, "encode", encode)
    monkeypatch.setattr(recordings, "prepare_responses", lambda *a, **k: (xr.DataArray(0), None))
    CliRunner().invoke(app, ["encode", "model", "--stimuli", "s", "--responses", "r", *args])
    assert (seen["delays"], seen["trf"], seen["downsample"]) == expected
