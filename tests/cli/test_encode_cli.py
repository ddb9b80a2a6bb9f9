"""Options of ``neuroalign encode`` that change what is predicted, and from what."""

import numpy as np
import pytest
from typer.testing import CliRunner

import neuroalign as na
from neuroalign.cli.main import app
from neuroalign.data import make_features, make_responses


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Presentations of 40 stimuli, three neuroids of which one is noise, and features that a length confounds."""
    rng = np.random.default_rng(0)
    ids = [f"s{i:02d}" for i in range(40)]
    length, own = rng.standard_normal((40, 1)), rng.standard_normal((40, 2))
    x = make_features(length + 0.5 * own, ids, model="m", coords={"length": length[:, 0]})
    drive = np.c_[length[:, 0], own[:, 0], np.zeros(40)]
    y = make_responses(np.repeat(drive, 3, 0) + 0.7 * rng.standard_normal((120, 3)), np.arange(120),
                       ["by_length", "by_rest", "noise"], dim="presentation",
                       sample_coords={"stimulus_id": np.repeat(ids, 3), "kind": np.repeat(["a", "b", "c", "d"], 30)})
    y.to_netcdf(tmp_path / "y.nc", engine="h5netcdf")
    monkeypatch.setattr(na, "extract", lambda *a, **k: {"m::all": x})
    monkeypatch.setattr(na, "load_stimuli", lambda name: name)
    return tmp_path


def encode(folder, *args, command="encode"):
    metric = ["--metric", "r.pooled"] if command == "encode" else []
    return CliRunner().invoke(app, [command, "m", "--stimuli", "s", "--responses", str(folder / "y.nc"), "--out",
                                    str(folder / "out.nc"), *metric, *args])


@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
def test_nuisance_is_taken_out_and_noise_is_not_predicted(planted):
    done = encode(planted, "--nuisance", "length", "--residualize", "both", "--select-neuroids", "0.5",
                  "--baseline", "shuffled")
    assert done.exit_code == 0, done.output
    scores = na.scores.load(planted / "out.nc")
    score = scores.score.values[0, 0]
    assert score[0] < 0.3 and score[1] > 0.5 and np.isnan(score[2])
    assert (scores.shuffled[0, 0, :2] < 0.3).all() and scores.selected.values.tolist() == [1, 1, 0]
    assert "shuffled" in done.output and na.scores.attrs_of(scores)["leftover"]["m::all"]["mean"] < 0.01


@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
def test_variance_is_parted_without_the_nuisance_and_the_noise(planted, monkeypatch):
    x = na.extract()["m::all"]
    monkeypatch.setattr(na, "extract", lambda *a, **k: {"m:one:all": x[:, :1], "m:two:all": x[:, 1:]})
    done = encode(planted, "--nuisance", "length", "--residualize", "both", "--select-neuroids", "0.5", "--method",
                  "ridge", "--bootstraps", "0", command="partition")
    assert done.exit_code == 0, done.output
    scores = na.scores.load(planted / "out.nc")
    first = scores.score.sel(space="m:one:all, unique").values[0]
    assert first[0] < 0.3 and first[1] > 0.5 and np.isnan(first[2])
    assert scores.selected.values.tolist() == [1, 1, 0] and (scores.part != "nuisance").all()


@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
def test_bad_values_are_explained(planted):
    for args, words in ((("--residualize", "both"), "no nuisance to take out"),
                        (("--baseline", "drift"), "these stimuli have none"),
                        (("--groups", "word"), "no coord 'word'")):
        done = encode(planted, *args)
        assert done.exit_code != 0 and words in " ".join((done.output + str(done.exception)).split())


@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
def test_groups_are_tested_by_name(planted):
    done = encode(planted, "--groups", "kind", "--test", "c", "--test", "d")
    assert done.exit_code == 0, done.output
    folds = na.scores.attrs_of(na.scores.load(planted / "out.nc"))["folds"]
    assert folds["name"] == "split by name" and folds["n_folds"] == 1
    assert "needs --groups" in encode(planted, "--test", "c").output


@pytest.mark.parametrize("command,args,words", [
    ("encode", ("--metric", "r.poled"), "expected one of r.pooled"),
    ("encode", ("--cv", "kfolds"), "cv: got 'kfolds', expected one of 'auto', 'kfold'"),
    ("encode", ("--groups", "film"), "groups: no coord 'film' on 'presentation'; found"),
    ("encode", ("--out", "scores.txt"), "expected a name that ends in .nc"),
    ("encode", ("--responses", "nowhere.nc"), "nowhere.nc"),
    ("partition", ("--responses", "nowhere.nc"), "nowhere.nc"),
    ("partition", ("--out", "scores.txt"), "expected a name that ends in .nc"),
    ("compare", ("--metric", "cka"), "'cka.debiased'"),
    ("compare", ("--targets", "nowhere.csv"), "nowhere.csv"),
])
def test_what_is_misspelt_is_found_before_any_extraction(planted, monkeypatch, command, args, words):
    monkeypatch.setattr(na, "extract", lambda *a, **k: pytest.fail("extracted"))
    given = () if command == "compare" else ("--responses", planted / "y.nc")
    done = CliRunner().invoke(app, [command, "m", "--stimuli", "s", *map(str, given), *args])
    said = " ".join((done.output.replace("│", " ") + str(done.exception)).split())
    assert done.exit_code != 0 and words in said and "rsa.spearman" not in said * (command == "encode")


def test_bands_that_are_too_many_are_gathered_by_options(planted, monkeypatch):
    x = na.extract()["m::all"]
    monkeypatch.setattr(na, "extract", lambda *a, **k: {f"m:b.{k}:all": x for k in range(8)})
    done = CliRunner().invoke(app, ["partition", "m", "--stimuli", "s", "--responses", str(planted / "y.nc")])
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2 and "there are 8 bands" in said and "by --by model, layer or stream" in said
    assert "bands={" not in said
