"""``neuroalign probe flow``."""

import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from neuroalign.cli.main import app
from neuroalign.data.scores import attrs_of, load

sys.path.append(str(Path(__file__).resolve().parents[1] / "models"))
import tiny
import tiny_multimodal


def run(*args):
    return CliRunner().invoke(app, ["probe", "flow", *map(str, args)])


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A tiny LLaVA, a table of stimuli and one of responses."""
    folder = tmp_path_factory.mktemp("flow")
    (folder / "llava").mkdir()
    tiny_multimodal.build("llava", folder / "llava")
    rows = tiny.photographs(folder, 12)
    texts = ["A man, who", "A quick fox, who", "Two words, who", "Rain on the town, who"] * 3
    lines = [f'{r["stimulus_id"]},{r["image"]},"{t}","{t.split(",")[0]}"' for r, t in zip(rows, texts)]
    (folder / "asked.csv").write_text("stimulus_id,image,text,question\n" + "\n".join(lines) + "\n")
    rng = np.random.default_rng(0)
    lines = [f"{r['stimulus_id']},{a:.3f},{b:.3f}" for r, (a, b) in zip(rows, rng.standard_normal((12, 2)))]
    (folder / "brain.csv").write_text("stimulus_id,e0,e1\n" + "\n".join(lines) + "\n")
    return folder


@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")  # of so few stimuli
def test_flow_lens_ablation_and_sites(asked, tmp_path):
    out = run(asked / "llava", "--stimuli", asked / "asked.csv", "--edges", "image->question", "--edges",
              "question->last", "--window", 2, "--lens", "--ablate", "image", "--responses", asked / "brain.csv",
              "--cut", "0-1", "--controls", 1, "--bootstraps", 50, "--store", tmp_path / "store", "--out",
              tmp_path / "out", "--device", "cpu", "--quiet")
    assert out.exit_code == 0, out.output
    found = {name: load(tmp_path / "out" / f"{name}.nc") for name in ("flow", "lens", "ablation", "sites")}
    assert found["flow"].sizes["space"] == 6 and attrs_of(found["flow"])["window"] == 2
    assert found["lens"].sizes["space"] == 4 and set(found["ablation"].stream.values) == {"image"}
    assert set(found["sites"].window.values) == {"blocks 0-1"}
    for name in found:
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
    assert "image->question" in out.output and "flow.relative" in out.output


def test_wrong_use_is_explained(asked):
    assert "expected FIRST-LAST" in run(asked / "llava", "--stimuli", asked / "asked.csv", "--cut", "x").output
    assert run().exit_code == 2
    listed = run("--models", "real")
    assert listed.exit_code == 0 and "llava-1.5-7b" in listed.output
