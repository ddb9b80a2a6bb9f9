"""The command ``neuroalign partition``."""

import numpy as np
import pytest
import typer

import neuroalign as na
from neuroalign.cli.partition import _bands, _print_parts
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of, load


def test_two_layers_are_parted(neuroalign, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    words = ["fox", "dog", "bank", "rain", "goal", "north", "news", "vote"]
    texts = [f"{a} and {b}" for a in words for b in words[:3]]
    (tmp_path / "texts.csv").write_text("stimulus_id,text\n" + "\n".join(f"s{k},{t}" for k, t in enumerate(texts)))
    rows = "\n".join(f"s{k},{a:.3f},{b:.3f}" for k, (a, b) in enumerate(rng.standard_normal((24, 2))))
    (tmp_path / "voxels.csv").write_text(f"stimulus_id,v1,v2\n{rows}\n")
    code, out, err = neuroalign(
        "partition",
        "minilm",
        "--stimuli",
        "texts.csv",
        "--responses",
        "voxels.csv",
        "--stream",
        "all",
        "--layers",
        "encoder.layer.0",
        "--layers",
        "encoder.layer.5",
        "--by",
        "layer",
        "--candidates",
        4,
        "--bootstraps",
        50,
        "--n-splits",
        3,
        "--out",
        "parts.nc",
        "--quiet",
    )
    assert code == 0, err
    assert "encoder.layer.0, unique" in out and "ci_low" in out
    scores = load(tmp_path / "parts.nc")
    assert scores.sizes["space"] == 6 and set(attrs_of(scores)["bands"]) == {"encoder.layer.0", "encoder.layer.5"}


def test_spaces_are_gathered_by_a_part_of_their_names():
    spaces = ["a:l1:image", "a:l2:text", "b:l1:text"]
    assert _bands(spaces, "model") == {"a": spaces[:2], "b": spaces[2:]}
    assert list(_bands(spaces, "layer")) == ["l1", "l2"] and list(_bands(spaces, "space")) == spaces
    with pytest.raises(typer.BadParameter, match="space, model, layer, stream"):
        _bands(spaces, "region")


def test_all_parts_of_the_best_neuroids_are_printed_together(capsys):
    rng = np.random.default_rng(0)
    ids, noise = [f"s{k}" for k in range(40)], 3 * rng.standard_normal((40, 3))
    a, b = rng.standard_normal((2, 40, 1))
    y = make_responses(np.c_[a + noise[:, :1], a + b, b + noise[:, 1:2]], ids, ["half", "both", "other"])
    spaces = {m: make_features(x, ids, model=m) for m, x in (("a", a), ("b", b))}
    _print_parts(na.partition_variance(spaces, y, n_bootstraps=0), rows=6)
    title, header, *lines = capsys.readouterr().out.splitlines()
    assert title == "# R² of 6 models and parts for 3 neuroids, best 1" and header.startswith("neuroid\tpart\tspace")
    assert [line.split("\t")[:3] for line in lines] == [
        ["both", "model", "a"], ["both", "model", "b"], ["both", "model", "a + b"], ["both", "unique", "a, unique"],
        ["both", "unique", "b, unique"], ["both", "shared", "a & b, shared"]]
