"""The commands ``neuroalign match`` and ``judge``, in this process."""

import itertools

import numpy as np
import pytest
from typer.testing import CliRunner

import neuroalign as na
from neuroalign.cli.main import app
from neuroalign.data.scores import load

WORDS = ["fox", "dog", "bank", "rain", "goal", "north", "news", "vote"]
LAYERS = ("--layers", "encoder.layer.0", "--layers", "encoder.layer.5", "--stream", "all", "--quiet")


def run(*args):
    return CliRunner().invoke(app, list(map(str, args)))


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write_texts(folder, n=24):
    texts = [f"{a} and {b}" for a in WORDS for b in WORDS[:3]][:n]
    (folder / "texts.csv").write_text("stimulus_id,text\n" + "\n".join(f"s{k},{t}" for k, t in enumerate(texts)))


@pytest.mark.filterwarnings("ignore:match. 8 queries a draw tell little:neuroalign.errors.NeuroalignWarning")
def test_pairs_are_searched_and_chance_is_printed(tmp_path):
    write_texts(tmp_path)
    out = run("match", "minilm", "minilm@random.0", "--with", "minilm", "--with", "minilm@random.0", "--stimuli",
              "texts.csv", "--metric", "cka.debiased", "--queries", 8, "--draws", 1, "--out", "pairs.nc", "--layers",
              "all", "--with-layers", "encoder.layer.5", "--stream", "all", "--quiet")
    assert out.exit_code == 0, out.output
    title = next(line for line in out.stdout.splitlines() if "pairs" in line)
    assert "16 anchors, 8 queries, 1 draws" in title and "affine.assignment 0.125 ± 0.12" in title
    assert "affine.top5 0.625 ± 0.17" in title and "Does geometry foretell match.affine.top1?" in out.stdout
    scores = load("pairs.nc")
    assert scores.sizes["space"] > 10 and scores.sizes["space_b"] == 2
    same = scores.score.sel(metric="cka.debiased", space="minilm:encoder.layer.5:all",
                            space_b="minilm:encoder.layer.5:all")
    assert abs(same.item() - 1) < 1e-5


def test_choices_and_ratings_are_judged(tmp_path):
    write_texts(tmp_path, 8)
    rng = np.random.default_rng(0)
    shown = [rng.permutation(8)[:3] for _ in range(30)]
    (tmp_path / "odd.csv").write_text("a,b,c,odd\n" + "\n".join(f"s{a},s{b},s{c},s{c}" for a, b, c in shown))
    (tmp_path / "two.csv").write_text("reference,a,b,choice\n" + "\n".join(f"s{a},s{b},s{c},s{b}" for a, b, c in shown))
    rows = [f"s{a},s{b},{(a * b) % 7 + k},p{k}" for k in range(2) for a, b in itertools.combinations(range(8), 2)]
    (tmp_path / "ratings.csv").write_text("stimulus_a,stimulus_b,rating,subject\n" + "\n".join(rows))
    asked = [(("--choices", "odd.csv"), ["choice.odd"]), (("--choices", "two.csv"), ["choice.2afc"]),
             (("--ratings", "ratings.csv", "--scale", 0, 7), ["rsa.spearman", "rsa.pearson"])]
    for options, metrics in asked:
        out = run("judge", "minilm", "--stimuli", "texts.csv", *options, "--permutations", 9, "--out", "found.nc",
                  *LAYERS)
        assert out.exit_code == 0, out.output
        assert set(metrics) <= set(load(tmp_path / "found.nc").metric.values) and metrics[0] in out.stdout


def test_wrong_options_are_explained(tmp_path):
    for options, words in (((), "one of them"), (("--ratings", "x.csv"), "two numbers"),
                           (("--choices", "x.csv", "--scale", 0, 1), "only then"),
                           (("--choices", "nothing.csv"), "no file 'nothing.csv'")):
        out = run("judge", "minilm", "--stimuli", "texts.csv", *options)
        said = f"{out.output} {out.exception}".replace("│", " ")
        assert out.exit_code != 0 and words in " ".join(said.split())


@pytest.mark.parametrize("args,words", [
    (("match", "minilm", "--with", "minilmm"), "Did you mean 'minilm'"),
    (("match", "minilm", "--with", "minilm", "--with-stimuli", "captions.csv"), "no file 'captions.csv'"),
    (("match", "minilm", "--with", "minilm", "--with-stimuli", "fewer.csv"), "'s23'"),
    (("match", "minilm", "--with", "minilm", "--metric", "cka"), "'cka.debiased'"),
    (("match", "minilm", "--with", "minilm", "--method", "afine"), "method: got 'afine'"),
    (("match", "minilm", "--with", "minilm", "--queries", 20), "anchors: got 4 pairs"),
    (("match", "minilm", "--with", "minilm", "--draws", 0), "'--draws'"),
    (("match", "minilm", "--with", "minilm", "--on-missing", "ignore"), "on_missing: got 'ignore'"),
    (("judge", "minilmm", "--choices", "odd.csv"), "Did you mean 'minilm'"),
    (("judge", "minilm", "--choices", "odd.csv", "--rdm", "cosin"), "rdm: got 'cosin'"),
    (("judge", "minilm", "--choices", "odd.csv", "--on-missing", "ignore"), "on_missing: got 'ignore'"),
    (("judge", "minilm", "--choices", "lost.csv"), "'s99' missing"),
    (("judge", "minilm", "--ratings", "ratings.csv", "--scale", 0, 1), "'5 (s0, s1)'"),
    (("judge", "minilm", "--ratings", "ratings.csv", "--scale", 0, 9), "'s99'"),
])
def test_what_is_wrong_is_found_before_any_extraction(tmp_path, monkeypatch, args, words):
    monkeypatch.setattr(na, "extract", lambda *a, **k: pytest.fail("extracted"))
    write_texts(tmp_path)
    text = (tmp_path / "texts.csv").read_text().splitlines()
    (tmp_path / "fewer.csv").write_text("\n".join(text[:-1]))
    (tmp_path / "odd.csv").write_text("a,b,c,odd\ns0,s1,s2,s2\n")
    (tmp_path / "lost.csv").write_text("a,b,c,odd\ns0,s1,s99,s0\n")
    (tmp_path / "ratings.csv").write_text("stimulus_a,stimulus_b,rating\ns0,s1,5\ns1,s2,3\ns2,s99,1\ns0,s2,0\n")
    out = run(*args, "--stimuli", "texts.csv")
    said = f"{out.output} {out.exception}".replace("│", " ")
    assert out.exit_code != 0 and words in " ".join(said.split()), said
