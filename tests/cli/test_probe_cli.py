"""``neuroalign probe gap`` and ``probe alignment``."""

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import neuroalign as na
from neuroalign.cli.main import app
from neuroalign.data import StimulusSet
from neuroalign.data.scores import attrs_of, load

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny
import tiny_multimodal


def run(*args):
    return CliRunner().invoke(app, ["probe", *map(str, args)])


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny") / "llava"
    folder.mkdir()
    return tiny_multimodal.build("llava", folder)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    rows = tiny.photographs(folder, 5)
    words = ["A man.", "A quick fox", "Two words", "Rain on the town", "no"]
    lines = [f"{row['stimulus_id']},{row['image']},{text}" for row, text in zip(rows, words)]
    (folder / "pairs.csv").write_text("stimulus_id,image,text\n" + "\n".join(lines) + "\n")
    return folder / "pairs.csv"


def test_gap_of_embeddings_in_files(tmp_path):
    x, y = np.random.default_rng(0).standard_normal((2, 30, 6)).astype(np.float32) + [[[1]], [[-1]]]
    np.save(tmp_path / "both.npy", np.stack([x, y]))
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    for sources, more in (([tmp_path / "both.npy"], ["--shift", "--out", tmp_path / "out"]),
                          ([tmp_path / "x.npy", tmp_path / "y.npy"], [])):
        out = run("gap", *sources, "--permutations", 49, "--bootstraps", 10, *more, "--name", "mine")
        assert out.exit_code == 0, out.output
        if not more:
            assert "mine::image~text" in out.output
            continue
        found = load(tmp_path / "out" / "gap.nc")
        expected = na.probes.modality_gap(x, y, n_permutations=49, n_bootstraps=10)
        np.testing.assert_allclose(found.score, expected.score, atol=1e-6)
        assert found.space.values.tolist() == ["mine::image~text"] and "gap.distance" in out.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"gap.nc", "shift.nc", "shift.png", "gap-plane.png"}


def test_gap_of_the_layers_in_a_store(llava, pairs, tmp_path):
    na.extract(f"{llava}@random", StimulusSet.from_table(pairs), layers=["language_model.*"], streams=["image", "text"],
               store=tmp_path / "store", device="cpu", progress=False)
    out = run("gap", tmp_path / "store", "--permutations", 9, "--bootstraps", 10, "--out", tmp_path / "out")
    assert out.exit_code == 0, out.output
    found = load(tmp_path / "out" / "gap.nc")
    assert found.sizes["space"] == 4 and sorted(found.depth.values) == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert (tmp_path / "out" / "gap.png").is_file()
    layer = "language_model.layers.1"
    picked = run("gap", tmp_path / "store", "--a", f"{layer}:image", "--b", f"{layer}:text", "--permutations", 0,
                 "--bootstraps", 0)
    assert picked.exit_code == 0 and layer in picked.output and "layers.2" not in picked.output


def test_alignment_of_a_model(llava, pairs, tmp_path):
    out = run("alignment", llava, "--stimuli", pairs, "--mode", "avg", "--mode", "max_mean", "--permutations", 19,
              "--bootstraps", 10, "--words", "--weights", "--skip", "--store", tmp_path / "store", "--out",
              tmp_path / "out", "--device", "cpu", "--quiet")
    assert out.exit_code == 0, out.output
    names = ("alignment", "tokens", "words", "weights", "skip")
    expected = {f"{n}.{e}" for n in names for e in ("nc", "png")} | {"ima.nc"}
    assert {p.name for p in (tmp_path / "out").iterdir()} == expected
    found = load(tmp_path / "out" / "alignment.nc")
    assert found.sizes["space"] == 12 and attrs_of(found)["n_stimuli"] == 5
    score = load(tmp_path / "out" / "ima.nc")
    across = found.score.sel(metric="similarity.avg")[found.stream.values == "image~text"]
    assert score.score.item() == pytest.approx(float(across.mean()), abs=1e-6) and "ima.avg" in out.output


@pytest.mark.parametrize("probe, model", [("gap", "openai/clip-vit-base-patch32"), ("alignment", "14 GB")])
def test_real_models_are_listed_and_nothing_runs(probe, model):
    out = run(probe, "--models", "real")
    assert out.exit_code == 0 and model in out.output and "expect" in out.output


@pytest.mark.parametrize("args, words", [
    (("gap", "nowhere"), "no folder 'nowhere'"),
    (("gap", "nowhere.npy"), "no file 'nowhere.npy'"),
    (("gap",), "SOURCES: got none"),
    (("gap", "--models", "all"), "expected 'real'"),
    (("alignment", "minilm"), "give at least one MODEL and --stimuli"),
    (("alignment", "minilm", "minilmm", "--stimuli", "nowhere.csv"), "Did you mean 'minilm'"),
    (("flow", "minilm", "minilmm", "--stimuli", "nowhere.csv"), "Did you mean 'minilm'"),
])
def test_wrong_input_is_explained(args, words):
    out = run(*args)
    said = out.output + str(out.exception)
    assert out.exit_code != 0 and words in " ".join(said.replace("│", " ").split())
