"""Options of ``neuroalign encode`` that change what is predicted, and from what."""

import numpy as np
import pytest
from typer.testing import CliRunner

import neuroalign as na
from neuroalign import recordings
from neuroalign.cli.main import app
from neuroalign.cli.options import _penalties
from neuroalign.data import make_features, make_responses


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Presentations of 40 stimuli, three neuroids of which one is noise, and features that a length confounds."""
    rng = np.random.default_rng(0)
    ids = [f"s{i:02d}" for i in range(40)]
    length, own = rng.standard_normal((40, 1)), rng.standard_normal((40, 2))
    x = make_features(length + 0.5 * own, ids, model="m")
    drive = np.c_[length[:, 0], own[:, 0], np.zeros(40)]
    y = make_responses(np.repeat(drive, 3, 0) + 0.7 * rng.standard_normal((120, 3)), np.arange(120),
                       ["by_length", "by_rest", "noise"], dim="presentation",
                       sample_coords={"stimulus_id": np.repeat(ids, 3), "kind": np.repeat(["a", "b", "c", "d"], 30),
                                      "length": np.repeat(length[:, 0], 3)})
    y.to_netcdf(tmp_path / "y.nc", engine="h5netcdf")
    monkeypatch.setattr(na, "extract", lambda *a, **k: {"m::all": x})
    monkeypatch.setattr(na, "load_stimuli", lambda name: na.StimulusSet.from_texts(["a word"] * 40, ids))
    return tmp_path


def encode(folder, *args, command="encode"):
    metric = ["--metric", "r.pooled"] if command == "encode" else []
    return CliRunner().invoke(app, [command, "minilm", "--stimuli", "s", "--responses", str(folder / "y.nc"), "--out",
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


@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
def test_predictions_are_written_with_the_scores(planted):
    done = encode(planted, "--keep", "prediction", "--keep", "fold_score", "--alphas", "1,10", "--n-splits", "4")
    assert done.exit_code == 0, done.output
    scores = na.scores.load(planted / "out.nc")
    measured = na.average_repetitions(na.load_responses(planted / "y.nc"))
    predicted = scores.prediction.sel(stimulus=measured.stimulus_id.values).squeeze("space")
    by_hand = [np.corrcoef(measured[:, k], predicted[:, k])[0, 1] for k in range(3)]
    assert np.allclose(scores.score[0, 0], by_hand, atol=1e-5) and scores.sizes["fold"] == 4
    assert na.scores.attrs_of(scores)["alphas"] == [1.0, 10.0]


@pytest.mark.parametrize("text,alphas", [("0.1, 1,10", [0.1, 1, 10]), ("5", [5]),
                                         ("logspace:-1:2:4", [0.1, 1, 10, 100])])
def test_penalties_are_read(text, alphas):
    assert np.allclose(_penalties(text), alphas, rtol=1e-12)


COMMON = [
    (("--cv", "kfolds"), "cv: got 'kfolds', expected one of 'auto', 'kfold'"),
    (("--n-splits", "1"), "'--n-splits'"),
    (("--n-splits", "41"), "expected 2 to 40"),
    (("--cv", "groups", "--groups", "kind", "--n-splits", "9"), "expected 2 to 4"),
    (("--groups", "film"), "groups: no coord 'film' on 'stimulus'; found"),
    (("--groups", "kind", "--test", "e"), "no group 'e'"),
    (("--gap", "3"), "gap: got 3.0 s, but the samples are on 'stimulus'"),
    (("--nuisance", "lengt"), "Did you mean 'length'"),
    (("--residualize", "all"), "residualize: got 'all'"),
    (("--reduce", "pca"), "reduce: got 'pca'"),
    (("--alphas", "0,1"), "got '0,1', expected numbers above 0"),
    (("--alphas", "ten"), "such as 0.1,1,10"),
    (("--alphas", "1,nan"), "expected numbers above 0"),
    (("--alphas", "logspace:1:2"), "logspace:-1:8:20"),
    (("--alphas", "logspace:1:2:0"), "logspace:-1:8:20"),
    (("--on-missing", "ignore"), "on_missing: got 'ignore'"),
    (("--bootstraps", "5"), "at least 20"),
    (("--responses", "nowhere.nc"), "nowhere.nc"),
    (("--out", "scores.txt"), "expected a name that ends in .nc"),
    (("--device", "gpu"), "device: got 'gpu'"),
]


@pytest.mark.parametrize("command,args,words", [
    *[("encode", *case) for case in COMMON],
    *[("partition", *case) for case in COMMON[::4]],
    ("encode", ("--metric", "r.poled"), "expected one of r.pooled"),
    ("encode", ("--metric", "r.pooled", "--metric", "2v2"), "in two calls"),
    ("encode", ("--metric", "2v2", "--keep", "prediction", "--out", "s.nc"), "is of the scores of neuroids"),
    ("encode", ("--metric", "2v2", "--by", "region"), "by: no coord 'region' on 'neuroid'"),
    ("encode", ("--baseline", "shuffle"), "baselines: got 'shuffle'"),
    ("encode", ("--null", "permute"), "needs --permutations"),
    ("encode", ("--null", "rotate", "--permutations", "9"), "null: got 'rotate'"),
    ("encode", ("--null", "shift", "--permutations", "9"), "the samples have no order in time"),
    ("encode", ("--permutations", "-1"), "'--permutations'"),
    ("encode", ("--keep", "prediction"), "needs --out"),
    ("encode", ("--keep", "weights", "--out", "s.nc"), "keep: got 'weights'"),
    ("encode", ("--keep", "null", "--out", "s.nc"), "n_permutations is 0"),
    ("encode", ("--nested", "--alphas", "1"), "at least two"),
    ("partition", ("--by", "region"), "got 'region', expected one of space"),
    ("partition", ("--by", "model"), "there are 1 bands ('minilm')"),
    ("partition", ("--method", "lasso"), "method: got 'lasso'"),
    ("partition", ("--candidates", "0"), "'--candidates'"),
    ("compare", ("--metric", "cka"), "'cka.debiased'"),
    ("compare", ("--targets", "nowhere.csv"), "nowhere.csv"),
    ("compare", ("--rdm", "cosin"), "rdm: got 'cosin'"),
    ("compare", ("--ceiling", "mean"), "ceiling: got 'mean'"),
    ("compare", ("--on-missing", "ignore"), "on_missing: got 'ignore'"),
])
def test_what_is_wrong_is_found_before_any_extraction(planted, monkeypatch, command, args, words):
    monkeypatch.setattr(na, "extract", lambda *a, **k: pytest.fail("extracted"))
    given = () if command == "compare" else ("--responses", planted / "y.nc")
    done = CliRunner().invoke(app, [command, "minilm", "--stimuli", "s", *map(str, given), *args])
    said = " ".join((done.output.replace("│", " ") + str(done.exception)).split())
    assert done.exit_code != 0 and words in said and "rsa.spearman" not in said * (command == "encode")


@pytest.mark.parametrize("command", ["encode", "partition", "compare"])
def test_names_are_checked_before_any_extraction(planted, monkeypatch, command):
    monkeypatch.setattr(na, "extract", lambda *a, **k: pytest.fail("extracted"))
    given = ["--stimuli", "s", "--responses", str(planted / "y.nc")]
    done = CliRunner().invoke(app, [command, "minilm", "minilmm@random", *given])
    assert "'minilmm' is not in the zoo" in str(done.exception) and "Did you mean 'minilm'" in str(done.exception)
    fewer = na.StimulusSet.from_texts(["a word"] * 39, [f"s{i:02d}" for i in range(39)], "fewer")
    monkeypatch.setattr(na, "load_stimuli", lambda name: fewer)
    done = CliRunner().invoke(app, [command, "minilm", *given])
    assert "'s39' missing in the features" in str(done.exception), done.exception


def test_a_ceiling_of_the_mean_subject_does_not_forbid_residuals(planted, monkeypatch):
    seen = {}
    monkeypatch.setattr(na, "encode", lambda *a, **options: seen.update(options))
    monkeypatch.setattr(recordings, "prepare_responses",
                        lambda name, **k: (na.load_responses(name), np.ones(3)))
    encode(planted, "--nuisance", "length", "--residualize", "both", "--average-subjects")
    assert seen["ceiling"] is None
    encode(planted, "--nuisance", "length", "--average-subjects")
    assert np.all(seen["ceiling"] == 1)


def test_bands_that_are_too_many_are_gathered_by_options(planted, monkeypatch):
    x = na.extract()["m::all"]
    monkeypatch.setattr(na, "extract", lambda *a, **k: {f"m:b.{k}:all": x for k in range(8)})
    done = CliRunner().invoke(app, ["partition", "minilm", "--stimuli", "s", "--responses", str(planted / "y.nc")])
    said = " ".join(done.output.replace("│", " ").split())
    assert done.exit_code == 2 and "there are 8 bands" in said and "by --by model, layer or stream" in said
    assert "bands={" not in said
