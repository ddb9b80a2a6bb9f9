"""The command line as a user meets it: in a process of its own."""

import os
import subprocess
import sys

import pytest

from neuroalign.data import scores


def run(*args, cwd=None, **env):
    command = [sys.executable, "-m", "neuroalign.cli.main", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **env})


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    texts = ["a red fox", "a quick dog runs", "news of the election", "the bank raised rates", "rain in the north",
             "a goal in the last minute"]
    rows = "\n".join(f"s{i},{t}" for i, t in enumerate(texts))
    (folder / "texts.csv").write_text(f"stimulus_id,text\n{rows}\n")
    return folder


@pytest.mark.parametrize("args", [("--help",), ("extract", "--help"), ("encode", "--help"), ("zoo", "--help")])
def test_help_says_what_a_command_does(args):
    out = run(*args)
    assert out.returncode == 0 and "Usage" in out.stdout


def test_zoo_list_and_show():
    out = run("zoo", "list")
    assert out.returncode == 0 and "efficientnet-lite0" in out.stdout and "smollm2-135m" in out.stdout
    out = run("zoo", "show", "minilm")
    assert out.returncode == 0 and "licence" in out.stdout and "sha256" in out.stdout


def test_an_unknown_model_fails_with_the_nearest_name():
    out = run("zoo", "show", "minilmm")
    assert out.returncode == 1 and "minilm" in out.stderr and "Traceback" not in out.stderr


def test_a_wrong_option_is_a_usage_error():
    out = run("extract", "minilm", "--stimulus", "x.csv")
    assert out.returncode == 2 and "Usage" in out.stderr


def test_extract_writes_a_store_and_prints_the_spaces(sentences):
    out = run("extract", "minilm", "--stimuli", sentences / "texts.csv", "--layers", "encoder.layer.1", "--stream",
              "all", "--store", sentences / "store", "--quiet")
    assert out.returncode == 0, out.stderr
    assert "minilm:encoder.layer.1:all" in out.stdout and "384" in out.stdout
    assert list((sentences / "store").rglob("*.npy"))


def test_an_unknown_layer_names_the_nearest(sentences):
    out = run("extract", "minilm", "--stimuli", sentences / "texts.csv", "--layers", "encoder.layer.99", "--quiet")
    assert out.returncode == 1 and "encoder.layer" in out.stderr and "Traceback" not in out.stderr


def test_missing_stimuli_are_one_line():
    out = run("extract", "minilm", "--stimuli", "nowhere.csv", "--quiet")
    assert out.returncode == 1 and "nowhere.csv" in out.stderr and "Traceback" not in out.stderr


def test_compare_and_report(tmp_path):
    out = run("compare", "minilm", "--stimuli", "lee50", "--targets", "lee50", "--layers", "encoder.layer.5",
              "--stream", "all", "--rdm", "cosine", "--permutations", "50", "--out", tmp_path / "lee.nc", "--quiet")
    assert out.returncode == 0, out.stderr
    found = scores.load(tmp_path / "lee.nc")
    assert found["score"].item() == pytest.approx(0.5083, abs=0.01)  # sim.lee50.minilm.spearman
    out = run("report", tmp_path)
    assert out.returncode == 0 and str(tmp_path / "report.html") in out.stdout
    assert "minilm" in (tmp_path / "report.html").read_text()


def test_spaces_are_compared_with_one_another_without_targets(sentences, tmp_path):
    names = ["svcca", "cca.heldout", "shape.procrustes", "predictivity.forward", "cka.debiased"]
    out = run("compare", "minilm", "--stimuli", sentences / "texts.csv", "--layers", "encoder.layer.0", "--layers",
              "encoder.layer.5", "--stream", "all", *(a for m in names for a in ("--metric", m)), "--permutations", "9",
              "--out", tmp_path / "own.nc", "--quiet")
    assert out.returncode == 0, out.stderr
    found = scores.load(tmp_path / "own.nc")
    assert found.metric.values.tolist() == names and found.score.dims == ("metric", "space", "space_b")
    near = found.score.sel(metric="shape.procrustes").values
    assert near[0, 0] < 1e-5 and near[0, 1] > 0.05
    out = run("compare", "minilm", "--stimuli", sentences / "texts.csv", "--targets", "lee50", "--responses", "x.nc")
    assert out.returncode == 2 and "not both" in out.stderr


def test_report_of_an_empty_folder_says_what_to_do(tmp_path):
    out = run("report", tmp_path)
    assert out.returncode == 1 and "no Scores" in out.stderr


def test_encode_alice_by_word_rate_and_surprisal_needs_its_data(tmp_path):
    out = run("encode", "smollm2-135m", "--stimuli", "alice_fmri", "--responses", "alice_fmri", cwd=tmp_path)
    assert out.returncode == 1 and "NEUROALIGN_MIRROR" in out.stderr and "Traceback" not in out.stderr


@pytest.mark.slow
def test_encode_alice(mirror, tmp_path):
    out = run("encode", "smollm2-135m", "--stimuli", "alice_fmri", "--responses", "alice_fmri", "--stream", "word",
              "--output", "surprisal", "--nuisance", "word_rate", "--nuisance", "sound_power", "--hrf", "spm", "--at",
              "offset", "--high-pass", "0.0078125", "--average-subjects", "--n-splits", "6", "--metric", "r.pooled",
              "--out", tmp_path / "alice.nc", "--quiet", NEUROALIGN_MIRROR=str(mirror))
    assert out.returncode == 0, out.stderr
    found = scores.load(tmp_path / "alice.nc").squeeze()
    assert found["score"].sel(neuroid="LPTL").item() == pytest.approx(0.4675, abs=0.02)
    assert found["ceiling"].sel(neuroid="LPTL").item() == pytest.approx(0.9436, abs=0.02)


def test_doctor_and_data_list_name_what_is_there():
    out = run("doctor")
    assert out.returncode == 0 and "torch" in out.stdout and "minilm" in out.stdout
    out = run("data", "list")
    assert out.returncode == 0 and "objects92" in out.stdout and "lee50" in out.stdout


def test_data_verify_reads_the_files_of_a_data_set():
    found = run("data", "verify", "photographs")
    assert found.returncode == 0 and "ok" in found.stdout.splitlines()[-1]
