"""Delays on the command line."""

import numpy as np
import pytest
from typer.testing import CliRunner

import neuroalign as na
from neuroalign.cli.main import app
from neuroalign.data import make_responses


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Timed words, 200 samples of half a second, and an encoding that only notes its options."""
    words = "\n".join(f"w{k},word,p,{2.0 * k},0.5" for k in range(40))
    (tmp_path / "words.csv").write_text(f"stimulus_id,text,parent,onset,duration\n{words}\n")
    noise = np.random.default_rng(0).standard_normal((200, 3))
    make_responses(noise, np.arange(200) * 0.5, ["v1", "v2", "v3"], dim="time",
                   sfreq=2.0).to_netcdf(tmp_path / "bold.nc", engine="h5netcdf")
    seen = {}

    def encode(features, responses, **options):
        seen.update(options)
        raise ValueError("seen")

    monkeypatch.setattr(na, "extract", lambda *a, **k: {})
    monkeypatch.setattr(na, "encode", encode)
    monkeypatch.setattr(na, "partition_variance", encode)

    def call(*args, command="encode"):
        seen.clear()
        given = ["--stimuli", str(tmp_path / "words.csv"), "--responses", str(tmp_path / "bold.nc")]
        done = CliRunner().invoke(app, [command, "minilm", *given, *args])
        said = " ".join(f"{done.output} {done.exception}".replace("│", " ").split())
        return dict(seen), said

    return call


@pytest.mark.parametrize(("args", "expected"), [
    (("--delay", "2", "--delay", "4", "--downsample", "lanczos"), ([2.0, 4.0], None, "lanczos")),
    (("--trf", "-0.1", "0.5", "--downsample", "mean"), (None, (-0.1, 0.5), "mean")),
    (("--hrf", "glover"), (None, None, None)),
])
def test_delays_reach_encode(args, expected, recorded):
    seen, said = recorded(*args)
    assert seen, said
    assert (seen["delays"], seen["trf"], seen["downsample"]) == expected


def test_options_of_a_time_series_reach_encode(recorded):
    seen, said = recorded("--hrf", "spm", "--gap", "5", "--alphas", "0.1,1,10", "--permutations", "100", "--null",
                          "block", "--block", "5")
    assert seen, said
    assert {k: seen[k] for k in ("gap", "alphas", "null", "block", "n_permutations")} == {
        "gap": 5.0, "alphas": [0.1, 1.0, 10.0], "null": "block", "block": 5.0, "n_permutations": 100}


@pytest.mark.parametrize(("args", "words"), [
    ((), "convolve these by --hrf glover"),
    (("--downsample", "mean", "--delay", "4", "--gap", "2"), "shorter than the longest delay, 4 s"),
    (("--hrf", "glover", "--gap", "-1"), "expected seconds of at least 0"),
    (("--hrf", "glover", "--cv", "kfold"), "leaks between the neighbours"),
    (("--hrf", "gover"), "hrf: got 'gover'"),
    (("--hrf", "glover", "--at", "start"), "at: got 'start'"),
    (("--hrf", "glover", "--nuisance", "word_rat"), "Did you mean 'word_rate'"),
    (("--hrf", "glover", "--delay", "1", "--trf", "0", "1"), "not both"),
])
@pytest.mark.parametrize("command", ["encode", "partition"])
def test_what_does_not_fit_a_recording_is_refused_before_extraction(command, args, words, recorded, monkeypatch):
    monkeypatch.setattr(na, "extract", lambda *a, **k: pytest.fail("extracted"))
    assert words in recorded(*args, command=command)[1]
