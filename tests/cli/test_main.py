"""The command line as a user meets it."""

import subprocess
import sys

import pytest

from neuroalign.data import scores

# What is said on stderr is looked for there; a warning is not to become an error on the way.
pytestmark = pytest.mark.filterwarnings("default::neuroalign.errors.NeuroalignWarning")


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    texts = [
        "a red fox",
        "a quick dog runs",
        "news of the election",
        "the bank raised rates",
        "rain in the north",
        "a goal in the last minute",
    ]
    rows = "\n".join(f"s{i},{t}" for i, t in enumerate(texts))
    (folder / "texts.csv").write_text(f"stimulus_id,text\n{rows}\n")
    return folder


@pytest.mark.parametrize("args", [("--help",), ("extract", "--help"), ("encode", "--help"), ("zoo", "--help")])
def test_help_says_what_a_command_does(neuroalign, args):
    code, out, _ = neuroalign(*args)
    assert code == 0 and "Usage" in out


def test_zoo_list_and_show(neuroalign):
    code, out, _ = neuroalign("zoo", "list")
    assert code == 0 and "efficientnet-lite0" in out and "smollm2-135m" in out
    assert "made of vit-base and bert-base" in out
    code, out, _ = neuroalign("zoo", "show", "minilm")
    assert code == 0 and "licence" in out and "sha256" in out


def test_an_unknown_model_fails_with_the_nearest_name():
    command = [sys.executable, "-m", "neuroalign", "zoo", "show", "minilmm"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "minilm" in done.stderr and "Traceback" not in done.stderr


def test_a_wrong_option_is_a_usage_error(neuroalign):
    code, _, err = neuroalign("extract", "minilm", "--stimulus", "x.csv")
    assert code == 2 and "Usage" in err


def test_extract_writes_a_store_and_prints_the_spaces(neuroalign, sentences):
    code, out, err = neuroalign(
        "extract",
        "minilm",
        "--stimuli",
        sentences / "texts.csv",
        "--layers",
        "encoder.layer.1",
        "--stream",
        "all",
        "--store",
        sentences / "store",
        "--quiet",
    )
    assert code == 0, err
    assert "minilm:encoder.layer.1:all" in out and "384" in out
    assert list((sentences / "store").rglob("*.npy"))


def test_an_unknown_layer_names_the_nearest(neuroalign, sentences):
    code, _, err = neuroalign(
        "extract", "minilm", "--stimuli", sentences / "texts.csv", "--layers", "encoder.layer.99", "--quiet"
    )
    assert code == 1 and "encoder.layer" in err and "Traceback" not in err


def test_missing_stimuli_are_one_line(neuroalign):
    code, _, err = neuroalign("extract", "minilm", "--stimuli", "nowhere.csv", "--quiet")
    assert code == 1 and "nowhere.csv" in err and "Traceback" not in err


def test_compare_and_report(neuroalign, tmp_path):
    code, out, err = neuroalign(
        "compare",
        "minilm",
        "--stimuli",
        "lee50",
        "--targets",
        "lee50",
        "--layers",
        "encoder.layer.5",
        "--stream",
        "all",
        "--rdm",
        "cosine",
        "--permutations",
        "50",
        "--out",
        tmp_path / "lee.nc",
        "--quiet",
    )
    assert code == 0, err
    found = scores.load(tmp_path / "lee.nc")
    assert found["score"].item() == pytest.approx(0.5083, abs=0.01)  # sim.lee50.minilm.spearman
    code, out, err = neuroalign("report", tmp_path)
    assert code == 0 and str(tmp_path / "report.html") in out
    assert "minilm" in (tmp_path / "report.html").read_text()


def test_spaces_are_compared_with_one_another_without_targets(neuroalign, sentences, tmp_path):
    names = ["svcca", "cca.heldout", "shape.procrustes", "predictivity.forward", "cka.debiased"]
    code, _, err = neuroalign(
        "compare",
        "minilm",
        "--stimuli",
        sentences / "texts.csv",
        "--layers",
        "encoder.layer.0",
        "--layers",
        "encoder.layer.5",
        "--stream",
        "all",
        *(a for m in names for a in ("--metric", m)),
        "--permutations",
        "9",
        "--out",
        tmp_path / "own.nc",
        "--quiet",
    )
    assert code == 0, err
    found = scores.load(tmp_path / "own.nc")
    assert found.metric.values.tolist() == names and found.score.dims == ("metric", "space", "space_b")
    near = found.score.sel(metric="shape.procrustes").values
    assert near[0, 0] < 1e-5 and near[0, 1] > 0.05
    code, _, err = neuroalign(
        "compare", "minilm", "--stimuli", sentences / "texts.csv", "--targets", "lee50", "--responses", "x.nc"
    )
    assert code == 2 and "not both" in err


def test_report_of_an_empty_folder_says_what_to_do(neuroalign, tmp_path):
    code, _, err = neuroalign("report", tmp_path)
    assert code == 1 and "no Scores" in err


def test_encode_alice_by_word_rate_and_surprisal_needs_its_data(neuroalign):
    code, _, err = neuroalign("encode", "smollm2-135m", "--stimuli", "alice_fmri", "--responses", "alice_fmri")
    assert code == 1 and "NEUROALIGN_MIRROR" in err and "Traceback" not in err


@pytest.mark.slow
def test_encode_alice(neuroalign, mirror, tmp_path):
    code, _, err = neuroalign(
        "encode",
        "smollm2-135m",
        "--stimuli",
        "alice_fmri",
        "--responses",
        "alice_fmri",
        "--stream",
        "word",
        "--output",
        "surprisal",
        "--nuisance",
        "word_rate",
        "--nuisance",
        "sound_power",
        "--hrf",
        "spm",
        "--at",
        "offset",
        "--high-pass",
        "0.0078125",
        "--average-subjects",
        "--n-splits",
        "6",
        "--metric",
        "r.pooled",
        "--out",
        tmp_path / "alice.nc",
        "--quiet",
    )
    assert code == 0, err
    found = scores.load(tmp_path / "alice.nc").squeeze()
    assert found["score"].sel(neuroid="LPTL").item() == pytest.approx(0.4675, abs=0.02)
    assert found["ceiling"].sel(neuroid="LPTL").item() == pytest.approx(0.9436, abs=0.02)


def test_doctor_and_data_list_name_what_is_there(neuroalign):
    code, out, _ = neuroalign("doctor")
    assert code == 0 and "torch" in out and "minilm" in out
    code, out, _ = neuroalign("data", "list")
    assert code == 0 and "objects92" in out and "lee50" in out


def test_data_verify_reads_the_files_of_a_data_set(neuroalign):
    code, out, _ = neuroalign("data", "verify", "photographs")
    assert code == 0 and "ok" in out.splitlines()[-1]
