"""What ``neuroalign compare`` prints of many scores."""

import numpy as np
import pytest
from typer.testing import CliRunner

import neuroalign as na
from neuroalign.cli.main import app
from neuroalign.data import make_features


@pytest.fixture
def layers(monkeypatch):
    """Put features of so many layers in the place of an extraction."""
    ids = [f"s{i}" for i in range(20)]
    monkeypatch.setattr(na, "load_stimuli", lambda name: na.StimulusSet.from_texts(["a word"] * 20, ids))

    def install(n):
        rng = np.random.default_rng(0)
        common = rng.standard_normal((20, 4))
        spaces = {f"m:l{k}:all": make_features(common + 0.1 * k * rng.standard_normal((20, 4)), ids, model="m",
                                               layer=f"l{k}") for k in range(n)}
        monkeypatch.setattr(na, "extract", lambda *a, **k: spaces)

    return install


def compare(*metrics):
    args = [a for m in metrics for a in ("--metric", m)]
    done = CliRunner().invoke(app, ["compare", "minilm", "--stimuli", "s", "--permutations", "0", *args])
    assert done.exit_code == 0, done.output
    rows = [line.split()[:3] for line in done.output.splitlines()]
    return " ".join(done.output.split()), [tuple(row) for row in rows if row and row[0] in metrics]


def test_best_are_chosen_within_each_metric(layers):
    layers(7)  # 21 pairs; a distance, negated, is below every similarity
    out, rows = compare("cka.biased", "shape.procrustes")
    assert "98 scores, 42 without spaces against themselves and pairs turned round, best 20 of each metric" in out
    assert [m for m, *_ in rows] == ["cka.biased"] * 20 + ["shape.procrustes"] * 20
    first = next(pair for m, *pair in rows if m == "shape.procrustes")
    assert set(first) == {"m:l0:all", "m:l1:all"}  # the least noisy two are the nearest


def test_pairs_are_printed_once_unless_the_direction_matters(layers):
    layers(3)
    out, rows = compare("cka.debiased", "predictivity.forward")
    assert "18 scores, 9 without" in out and "best" not in out
    assert all(a != b for _, a, b in rows)
    assert len({frozenset(r[1:]) for r in rows if r[0] == "cka.debiased"}) == 3
    assert len({r[1:] for r in rows if r[0] == "predictivity.forward"}) == 6
