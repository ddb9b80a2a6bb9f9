"""Clusters of encoding scores over time and neighbours: planted ones are found, heads are kept apart."""

import numpy as np
import pytest
from scipy.ndimage import label as neighbouring

import neuroalign as na
from neuroalign.alignment import cluster_scores, list_clusters
from neuroalign.data import make_features, make_responses
from neuroalign.data import scores as results
from neuroalign.reports.methods import methods

# Three penalties will do; noise rightly takes the largest.
pytestmark = pytest.mark.filterwarnings("ignore:the (small|larg)est penalty:neuroalign.errors.NeuroalignWarning")
TIMES = np.round(np.arange(-0.2, 0.8, 0.1), 1)


def recording(n=80, seed=0):
    """Ten neighbouring contacts in two heads; contacts 1 to 3 of the first follow the features from .2 to .4 s."""
    rng, ids = np.random.default_rng(seed), [f"s{i:03d}" for i in range(n)]
    x = rng.standard_normal((n, 4))
    Y = rng.standard_normal((n, 10, 10))
    Y[:, 1:4, 4:7] += (x @ rng.standard_normal((4, 3)))[..., None]
    place = np.tile(np.arange(5.0), 2) * 4
    responses = make_responses(Y, ids, [f"c{k}" for k in range(10)], time_bins=TIMES, neuroid_coords={
        "subject": np.repeat(["A", "B"], 5), "x": place, "y": np.zeros(10), "z": np.zeros(10)})
    spaces = (("cause", x), ("other", rng.standard_normal((n, 4))))
    return [make_features(v, ids, model=m) for m, v in spaces], responses


@pytest.fixture(scope="module")
def scores():
    spaces, responses = recording()
    return na.encode(spaces, responses, metric="r.pooled", alphas=[1.0, 100.0, 1e4], n_splits=4, n_inner_splits=2,
                     n_permutations=59, n_bootstraps=200, keep=["null", "bootstrap"])


def test_the_planted_cluster_is_found_and_no_other(scores):
    tests = cluster_scores(scores, radius=5.0)
    assert tests.score.dims == ("metric", "space", "neuroid", "time_bin")
    np.testing.assert_allclose(tests.score, scores.score)
    inside = np.zeros((10, 10), bool)
    inside[1:4, 4:7] = True
    p = tests.p.sel(space="cause::all").values[0]
    assert (p[inside] == 1 / 60).all() and (p[~inside] == 1 / 60).mean() < 0.1
    assert (tests.p.sel(space="other::all") > 0.05).all()
    table = list_clusters(tests)
    assert table.space.tolist() == ["cause::all"] and {"c1", "c2", "c3"} <= set(table.neuroids[0])
    assert table["first"][0] <= 0.2 and table["last"][0] >= 0.4 and len(list_clusters(tests, alpha=1)) > 1
    assert results.attrs_of(tests)["smallest_p"] == 1 / 60
    assert "neuroids of one subject within 5 mm; their masses were held against the largest" in methods(tests)
    assert "of 59 permutations (permute), each fitted again. The smallest possible p is 0.017" in methods(tests)


def test_masses_are_those_of_labelled_images(scores):
    tests = cluster_scores(scores.sel(space=["cause::all"]), threshold=1.5, radius=5.0)
    together = np.concatenate([scores.score.sel(space="cause::all").values, scores.null.sel(space="cause::all")[:, 0]])
    z = (together - together.mean(0)) / together.std(0)

    def masses(one):  # a line of contacts and time is an image; the heads are two images
        found = []
        for head in (one[:5], one[5:]):
            labels, n = neighbouring(head > 1.5)
            found += [head[labels == k + 1].sum() for k in range(n)]
        return sorted(found, reverse=True)

    observed, largest = masses(z[0]), np.array([max(masses(one), default=0) for one in z])
    table = list_clusters(tests, alpha=1)
    np.testing.assert_allclose(table.mass, observed, rtol=1e-5)
    np.testing.assert_allclose(table.p, [(largest >= m - 1e-4).mean() for m in observed])
    alone = cluster_scores(scores.sel(space=["cause::all"]), threshold=1.5)  # over time alone
    assert len(list_clusters(alone, alpha=1)) > len(table) and list_clusters(alone, alpha=1).n_neuroids.max() == 1


def test_differences_between_spaces_have_clusters_too(scores):
    tests = cluster_scores(scores, {"gain": ("cause::all", "other::all"), "loss": ("other::all", "cause::all")},
                           radius=5.0)
    gain = scores.score.sel(space="cause::all") - scores.score.sel(space="other::all")
    np.testing.assert_allclose(tests.score.sel(space="gain"), gain, atol=1e-6)
    assert (tests.p.sel(space="gain").values[0, 1:4, 4:7] <= 0.01).all()
    assert (tests.p.sel(space="loss").values[0, 1:4, 4:7] == 1).all()


def test_what_cannot_be_tested_is_explained(scores):
    with pytest.raises(ValueError, match="the null was not kept"):
        cluster_scores(scores.drop_vars("null"))
    with pytest.raises(ValueError, match="resampled scores were not kept"):
        cluster_scores(scores.drop_vars("bootstrap"), {"gain": ("cause::all", "other::all")})
    with pytest.raises(ValueError, match="expected neuroids and time bins"):
        cluster_scores(scores.isel(time_bin=0))
    with pytest.raises(ValueError, match="no coords 'y'"):
        cluster_scores(scores.drop_vars("y"), radius=5.0)
    lost = scores.assign_coords(x=("neuroid", np.r_[np.nan, scores.x.values[1:]]))
    with pytest.raises(ValueError, match="no place is known of 'c0'"):
        cluster_scores(lost, radius=5.0)
    with pytest.raises(ValueError, match="smallest attainable p is 0.091"):
        cluster_scores(scores.isel(permutation=slice(10)))
