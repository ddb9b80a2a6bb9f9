"""The figure of unique and shared parts."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.data import make_features, make_responses


@pytest.fixture(scope="module")
def parts():
    def make(bands="abc", neuroids=2, resamples=20):
        rng = np.random.default_rng(0)
        ids = [f"s{k}" for k in range(60)]
        common = rng.standard_normal((60, 2))
        spaces = {f"model {b}": make_features(np.c_[common, rng.standard_normal((60, 2))], ids, model=b) for b in bands}
        y = sum(s.values @ rng.standard_normal((4, neuroids)) for s in spaces.values())
        y = y + 2 * rng.standard_normal((60, neuroids))
        responses = make_responses(y, ids, [f"v{k}" for k in range(neuroids)],
                                   neuroid_coords={"region": np.array(["IT", "V4"])[np.arange(neuroids) % 2]})
        return na.partition_variance(spaces, responses, n_bootstraps=resamples, n_candidates=6, n_splits=3)

    return make


def heights(axis):
    return [bar.get_height() for bar in axis.patches]


@pytest.mark.parametrize("bands", ["ab", "abcd"])
def test_bars_are_the_parts_and_dots_their_bands(parts, pixels, overlaps, bands):
    scores = parts(bands)
    figure = na.plot.partition(scores, title="Parts")
    top, below = figure.axes[:2], figure.axes[2:]
    n = 2 ** len(bands) - 1
    for k, axis in enumerate(top):
        np.testing.assert_allclose(heights(axis), scores.score.values[0, n:, k])
        whole = scores.score.sel(space=" + ".join(f"model {b}" for b in bands)).values[0, k]
        assert axis.get_title(loc="left") == f"v{k}   R² {whole:.2f}"
    filled = [line for line in below[0].lines if line.get_markersize() == 6.5]
    assert [len(line.get_xdata()) for line in filled] == [len(s.split(" & ")) for s in scores.space.values[n:].tolist()]
    assert [t.get_text() for t in below[0].get_yticklabels()] == [f"model {b}" for b in bands]
    assert "Whiskers: interval" in figure.caption and "model a & model b" in figure.alt
    pixels(figure)
    assert not overlaps(figure)


def test_many_neuroids_are_averaged_by_region(parts):
    scores = parts("ab", neuroids=14)
    figure = na.plot.partition(scores)
    assert len(figure.axes) == 4 and "quartiles" in figure.caption
    mean = scores.score.values[0, 3:, ::2].mean(1)
    np.testing.assert_allclose(heights(figure.axes[0]), mean)
    alone = na.plot.partition(parts("ab", resamples=0), targets=["v1"])
    assert len(alone.axes) == 2 and "hiskers" not in alone.caption


def test_captions_say_what_the_nuisance_explains_and_is_not_drawn():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(60)]
    spaces = {m: make_features(rng.standard_normal((60, 2)), ids, model=m) for m in "abc"}
    y = 3 * spaces["c"].values + rng.standard_normal((60, 2))
    nuisance = spaces.pop("c")
    scores = na.partition_variance(spaces, make_responses(y, ids, ["v1", "v2"]), nuisance=nuisance, method="ridge",
                                   n_bootstraps=0, n_splits=3)
    low, high = sorted(scores.score.sel(space="nuisance").values.ravel())
    said = f"The nuisance variables explain {low:.2f} to {high:.2f} of the R² beside the name; that part is not drawn."
    assert low > 0.5 and said in na.plot.partition(scores).caption and said in na.plot.venn(scores).caption


def test_bad_input_is_explained(parts, layered):
    with pytest.raises(ValueError, match="Make them with neuroalign.partition_variance"):
        na.plot.partition(layered())
    with pytest.raises(ValueError, match="got 8 targets, expected at most 6"):
        na.plot.partition(parts("ab", neuroids=8))
