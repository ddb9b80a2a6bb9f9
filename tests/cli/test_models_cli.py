"""``neuroalign zoo``, ``extract``, ``verify`` and ``store`` from the command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from neuroalign.features import FeatureStore, jobs

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny

TEXTS = ["the quick brown fox", "it's raining", "again and again in the old town", "two words"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return str(tiny.build("bert", tmp_path_factory.mktemp("bert")))


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "texts.csv"
    pd.DataFrame({"stimulus_id": ["a", "b", "c", "d"], "text": TEXTS}).to_csv(path, index=False)
    return str(path)


def test_the_command_line_imports_nothing_heavy():
    code = ("import sys, neuroalign.cli.main\n"
            "print([m for m in ('torch', 'numpy', 'pandas', 'xarray', 'transformers', 'matplotlib', 'sklearn', 'mne') "
            "if m in sys.modules])")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_layers_are_listed_by_the_names_that_extract_takes(neuroalign, bert, table, tmp_path):
    code, out, _ = neuroalign("zoo", "layers", bert)
    names = [line.split()[0] for line in out.splitlines() if line.strip().startswith("encoder")]
    assert code == 0 and names == ["encoder.layer.0.input", *(f"encoder.layer.{i}" for i in range(3))]
    code, out, _ = neuroalign("zoo", "layers", bert, "--taps", "attention")
    assert code == 0 and "encoder.layer.1.attention.output.dense" in out
    code, out, _ = neuroalign("extract", bert, "--stimuli", table, "--layers", names[2], "--store", tmp_path, "-q")
    assert code == 0 and "1 feature spaces" in out and names[2] in out


def test_a_dry_run_states_the_size_and_stores_nothing(neuroalign, bert, table, tmp_path):
    options = ["--stimuli", table, "--store", tmp_path / "s", "--storage-dtype", "float16", "--taps", "mlp"]
    code, out, _ = neuroalign("extract", bert, *options, "--dry-run")
    assert "MB of memory" in out
    assert code == 0 and out.count(".output.dense:text") == 3 and not (tmp_path / "s").exists()
    code, out, _ = neuroalign("extract", bert, *options, "-q")
    (entry,) = FeatureStore(tmp_path / "s").entries()
    arrays = [entry.open(name) for name in entry.spaces]
    assert code == 0 and len(arrays) == 3 and {a.dtype for a in arrays} == {np.dtype("float16")}


def test_parts_of_a_job_array_make_one_store(neuroalign, bert, table, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 2)
    command = ["extract", bert, "--stimuli", table, "--store", tmp_path / "s", "-q"]
    code, out, _ = neuroalign(*command, "--shard", "0/2")
    assert code == 0 and "when all 2 parts are" in out
    assert FeatureStore(tmp_path / "s").ls().complete.tolist() == [0.5]
    code, out, _ = neuroalign(*command, "--shard", "1/2")
    assert code == 0 and FeatureStore(tmp_path / "s").ls().complete.tolist() == [1.0]
    for wrong in ("2/2", "1", "a/2", "-1/2"):
        code, _, err = neuroalign(*command, f"--shard={wrong}")
        assert code == 2 and "i from 0 to n - 1" in err


def test_wide_rows_are_projected(neuroalign, bert, table, tmp_path):
    code, _, _ = neuroalign("extract", bert, "--stimuli", table, "--store", tmp_path, "--projection", 5, "-q")
    (entry,) = FeatureStore(tmp_path).entries()
    assert code == 0 and {s["n_features"] for s in entry.spaces.values()} == {5}


@pytest.mark.filterwarnings("default::neuroalign.errors.NeuroalignWarning")
def test_bad_stimuli_are_an_error_or_skipped(neuroalign, bert, tmp_path):
    path = tmp_path / "texts.csv"
    pd.DataFrame({"stimulus_id": ["a", "b", "c"], "text": ["one", " ", "two"]}).to_csv(path, index=False)
    command = ["extract", bert, "--stimuli", path, "--store", tmp_path / "s", "-q"]
    code, _, err = neuroalign(*command)
    assert code == 1 and "neuroalign: BadStimuli: stimuli 'b': the text is empty" in err
    code, _, err = neuroalign(*command, "--on-error", "skip")
    assert "warning [stimuli-skipped]" in err and "'b'" in err
    (entry,) = FeatureStore(tmp_path / "s").entries()
    assert code == 0 and np.isnan(entry.open(next(iter(entry.spaces)))).all(1).tolist() == [False, True, False]
    code, _, err = neuroalign(*command, "--on-error", "leave")
    assert code == 1 and "on_error: got 'leave'" in err


def test_a_model_that_fails_does_not_keep_the_next_from_running(neuroalign, bert, table, tmp_path):
    code, out, err = neuroalign("extract", "minilmm", bert, "--stimuli", table, "--store", tmp_path, "-q")
    assert code == 1 and "5 feature spaces" in out
    assert "'minilmm': not in the zoo" in err and "Did you mean 'minilm'" in err
    assert "1 of 2 models failed: minilmm." in err
    code, out, err = neuroalign("verify", "minilmm", bert, "--store", tmp_path)
    assert code == 1 and ": passed" in out and "1 of 2 models failed: minilmm." in err


def test_verify_passes_an_exact_model_and_its_exit_code_says_so(neuroalign, bert, table, tmp_path):
    code, out, _ = neuroalign("verify", bert, "--store", tmp_path, "--stimuli", table)
    assert code == 0 and ": passed" in out and "hooks or hidden states" in out
    code, out, _ = neuroalign("verify", bert, "--store", tmp_path, "--tolerance", 0)
    assert code == 1 and ": FAILED" in out


def test_the_store_is_listed_verified_and_cleaned(neuroalign, bert, table, tmp_path):
    folder = tmp_path / "s"
    neuroalign("extract", bert, "--stimuli", table, "--store", folder, "-q")
    code, out, _ = neuroalign("store", "ls", "--store", folder)
    assert code == 0 and "1 entry" in out and Path(bert).name in out
    code, out, _ = neuroalign("store", "verify", "--store", folder)
    assert code == 0 and "5 ok, 0 partial, 0 corrupt" in out
    code, out, _ = neuroalign("store", "gc", "--store", folder)
    assert code == 0 and "removed 0 leftovers" in out
    (entry,) = FeatureStore(folder).entries()
    rows = entry.window(next(iter(entry.spaces)), 1, 2)
    rows[0, 0] += 1
    rows.flush()
    code, out, _ = neuroalign("store", "verify", "--store", folder)
    assert code == 1 and "4 ok, 0 partial, 1 corrupt" in out and "rows 0 to 4 do not match" in out
    code, _, err = neuroalign("store", "ls", "--store", tmp_path / "nowhere")
    assert code == 1 and "no folder" in err and not (tmp_path / "nowhere").exists()


def test_stores_are_merged(neuroalign, bert, table, tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "SHARD_ROWS", 2)
    for i in range(2):
        neuroalign("extract", bert, "--stimuli", table, "--store", tmp_path / f"p{i}", "--shard", f"{i}/2", "-q")
    code, out, _ = neuroalign("store", "merge", tmp_path / "p0", tmp_path / "p1", "--store", tmp_path / "all")
    assert code == 0 and "merged into" in out
    assert FeatureStore(tmp_path / "all").ls().complete.tolist() == [1.0]


def test_components_are_fitted_on_the_stimuli_of_a_file(neuroalign, bert, table, tmp_path):
    (tmp_path / "ids.txt").write_text("a\nc\nd\n")
    command = ["extract", bert, "--stimuli", table, "--store", tmp_path / "s", "-q", "--fit-on", tmp_path / "ids.txt"]
    code, _, _ = neuroalign(*command, "--projection", "pca:2")
    (entry,) = FeatureStore(tmp_path / "s").entries()
    assert code == 0 and {s["n_features"] for s in entry.spaces.values()} == {2}
    assert entry.record["description"]["projection"]["fit_on"] != "all"
    code, _, err = neuroalign(*command, "--projection", "2")
    assert code == 2 and "needs --projection pca:K" in err
