"""Circles: the right number in the right region, negative parts hatched, nothing to scale."""

from itertools import combinations

import numpy as np
import pytest

from neuroalign.data import scores as scores_
from neuroalign.plots import venn
from neuroalign.plots.venn import CENTRES, _middle

DIMS = ("metric", "space", "neuroid")


@pytest.fixture
def parts():
    """What `partition_variance` returns, with chosen values of the parts."""

    def make(bands=("vision", "language", "sound"), values=None, targets=("IT", "STS"), clear=True):
        bands = sorted(bands)
        members = [c for k in range(1, len(bands) + 1) for c in combinations(bands, k)]
        labels = [f"{m[0]}, unique" if len(m) == 1 else f"{' & '.join(m)}, shared" for m in members]
        values = np.arange(1, len(members) + 1) / 100 if values is None else np.asarray(values)
        models = [" + ".join(m) for m in members]
        whole = [values[[set(m) & set(c) != set() for m in members]].sum() for c in members]
        score = np.repeat(np.concatenate([whole, values])[:, None], len(targets), 1)[None]
        width = 0.005 if clear else 1.0
        kinds = ["model"] * len(models) + ["unique" if "unique" in x else "shared" for x in labels]
        return scores_.make({"score": (DIMS, score), "ci_low": (DIMS, score - width), "ci_high": (DIMS, score + width)},
                            {"metric": ["r2.pooled"], "space": [*models, *labels], "neuroid": list(targets),
                             "part": ("space", kinds)}, {"bands": {b: [b] for b in bands}})

    return make


def test_a_target_without_a_score_is_left_out(parts):
    scores = parts(("vision", "language"))
    scores = scores.assign(score=scores.score.where(scores.neuroid != "STS"))
    assert [a.get_title(loc="left")[:3] for a in venn(scores).axes if a.get_title(loc="left")] == ["IT "]
    with pytest.raises(ValueError, match="no target has a score"):
        venn(scores, targets=["STS"])


def inside(point, n):
    return tuple(np.flatnonzero(np.linalg.norm(CENTRES[n] - point, axis=1) < 1))


@pytest.mark.parametrize("bands", [("vision", "language"), ("vision", "language", "sound")])
def test_every_part_stands_in_its_region(parts, bands, pixels, overlaps):
    scores = parts(bands)
    figure = venn(scores, title="Parts")
    n, names = len(bands), sorted(bands)
    axis = figure.axes[0]
    members = [c for k in range(1, n + 1) for c in combinations(range(n), k)]
    found = {inside(t.get_position(), n): t.get_text() for t in axis.texts if t.get_text().endswith("*")}
    assert found == {m: f"{(k + 1) / 100:.3f}*" for k, m in enumerate(members)}
    total = sum(range(1, len(members) + 1)) / 100
    assert axis.get_title(loc="left") == f"IT   R² {total:.3f}"
    rims = {t.get_text(): t.get_position()[0] for t in axis.texts if not t.get_text().endswith("*")}
    assert set(rims) == set(names) and rims[names[0]] < rims[names[1]]
    assert "not to scale" in figure.caption and "excludes zero" in figure.caption
    assert overlaps(figure) == []
    pixels(figure)


def test_painted_regions_are_where_the_numbers_are(parts):
    """Whatever is painted last at a number's place is the outline of exactly its bands."""
    from matplotlib.patches import Polygon

    axis = venn(parts()).axes[0]
    polygons = [p for p in axis.patches if isinstance(p, Polygon)]
    members = [c for k in (1, 2, 3) for c in combinations(range(3), k)]
    for want in members:
        place = _middle(list(want), CENTRES[3])
        covering = [m for m, p in zip(members, polygons) if p.get_path().contains_point(place)]
        assert covering[-1] == want


def test_negative_parts_are_hatched_and_say_so(parts):
    figure = venn(parts(("a", "b"), [0.05, -0.02, 0.01], clear=False))
    from matplotlib.patches import Polygon

    assert [p.get_hatch() for p in figure.axes[0].patches if isinstance(p, Polygon)] == [None, "///", None]
    words = [t.get_text() for t in figure.axes[0].texts]
    assert "−0.020" in words and not any("*" in w for w in words)


@pytest.mark.parametrize("n_targets", [1, 5])
def test_no_words_overlap(parts, overlaps, n_targets):
    targets = [f"region {k}" for k in range(n_targets)]
    assert overlaps(venn(parts(("vision-model", "language-model", "multimodal-model"), targets=targets))) == []


def test_bad_requests_are_explained(parts, layered):
    with pytest.raises(ValueError, match="these Scores have no parts"):
        venn(layered())
    with pytest.raises(ValueError, match=r"got 4 bands, expected 2 or 3. Draw partition\(scores\)"):
        venn(parts(("a", "b", "c", "d")))
    with pytest.raises(ValueError, match="7 targets, expected at most 6"):
        venn(parts(targets=[f"t{k}" for k in range(7)]))
