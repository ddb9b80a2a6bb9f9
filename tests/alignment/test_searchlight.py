"""Searchlight RSA against a loop over scipy, neighbours against all distances."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist, pdist
from scipy.stats import kendalltau, spearmanr

import neuroalign as na
from neuroalign.alignment import neighbourhoods, searchlight_rsa
from neuroalign.alignment import searchlight as module
from neuroalign.data import make_features, make_responses
from neuroalign.errors import NeuroalignWarning, NotAligned
from neuroalign.stats import row_permutations

N, SITES = 14, 30
IDS = [f"s{k:02d}" for k in range(N)]


def data(seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-20, 20, (SITES, 3))
    x = rng.standard_normal((N, 8))
    values = rng.standard_normal((N, SITES)) + offset
    near = cdist(xyz, xyz[:1])[:, 0] < 18
    values[:, near] += 3 * x @ rng.standard_normal((8, near.sum()))
    coords = dict(zip("xyz", xyz.T)) | {"subject": ["a"] * 20 + ["b"] * 10}
    return make_features(x, IDS, model="m"), make_responses(values, IDS, [f"v{k}" for k in range(SITES)],
                                                            neuroid_coords=coords)


@pytest.mark.parametrize("rdm", ["correlation", "cosine", "euclidean"])
@pytest.mark.parametrize("spread", [0.0, 1000.0])
def test_raw_intensities_keep_their_small_differences(rdm, spread):
    """Sites that differ by a thousand times what stimuli change leave 1 - r of a millionth."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((N, SITES)) + 1e4 + spread * rng.standard_normal(SITES)
    values[3, -1] = np.nan  # belongs to no neighbourhood
    around = [np.arange(k, k + 12) for k in range(0, 15, 3)]
    for place, rows in module.searchlight_rdms(values, around, rdm, device="cpu"):
        expected = [pdist(values[:, near], rdm) for near in around[place]]
        if rdm == "cosine" and not spread:
            continue  # 1 - r of a hundred-millionth is below what float32 features hold
        np.testing.assert_allclose(rows, expected, rtol=2e-3)


@pytest.mark.parametrize("options", [{"radius": 18.0}, {"n_neighbours": 4}])
def test_neighbours_equal_a_search_over_all_distances(options):
    _, y = data()
    xyz, subject = np.stack([y[c].values for c in "xyz"], 1), y.subject.values
    found = neighbourhoods(xyz, groups=subject, **options)
    for k, near in enumerate(found):
        distance = np.where(subject == subject[k], np.linalg.norm(xyz - xyz[k], axis=1), np.inf)
        expected = np.flatnonzero(distance <= 18) if "radius" in options else np.argsort(distance)[:5]
        assert near[0] == k and sorted(near) == sorted(expected)


@pytest.mark.parametrize("rdm", ["correlation", "cosine", "euclidean", "sqeuclidean"])
def test_scores_equal_a_loop_over_sites(rdm, monkeypatch):
    x, y = data(offset=100.0 if "euclid" in rdm else 1.0)
    monkeypatch.setattr(module, "rows_per_chunk", lambda *a, **k: 7)  # several blocks of unequal neighbourhoods
    found = searchlight_rsa(x, y, radius=45, rdm=rdm, device="cpu")
    around = neighbourhoods(np.stack([y[c].values for c in "xyz"], 1), radius=45, groups=y.subject.values)
    model = pdist(x.values.astype(float), rdm)
    for k, near in enumerate(around):
        expected = spearmanr(model, pdist(y.values[:, near].astype(float), rdm))[0]
        assert found.score[0, 0, k].item() == pytest.approx(expected, abs=1e-4)
    assert found.n_sites.values.tolist() == [len(a) for a in around] and (found.n.values == 91).all()


def test_the_null_equals_scores_of_permuted_models_and_the_planted_sites_are_found():
    x, y = data()
    found = searchlight_rsa(x, y, n_neighbours=4, n_permutations=99, device="cpu")
    near = cdist(np.stack([y[c].values for c in "xyz"], 1), np.stack([y[c].values for c in "xyz"], 1)[:1])[:, 0] < 8
    assert (found.p.values[0, 0][near] == 0.01).all() and found.p_max.values[0, 0, 0] == 0.01
    orders = row_permutations(N, 99)
    around = neighbourhoods(np.stack([y[c].values for c in "xyz"], 1), n_neighbours=4, groups=y.subject.values)
    row = pdist(y.values[:, around[5]].astype(float), "correlation")
    null = [spearmanr(pdist(x.values[o].astype(float), "correlation"), row)[0] for o in orders]
    assert found.null_mean[0, 0, 5].item() == pytest.approx(np.mean(null), abs=1e-4)
    assert found.null_sd[0, 0, 5].item() == pytest.approx(np.std(null), abs=1e-4)


def test_tau_a_is_a_metric_of_searchlights():
    x, y = data()
    found = searchlight_rsa(x, y.isel(neuroid=slice(0, 4)), n_neighbours=3, metric="rsa.tau_a", n_permutations=5,
                            device="cpu")
    expected = kendalltau(pdist(x.values.astype(float), "correlation"), pdist(y.values[:, :4].astype(float),
                                                                              "correlation"))[0]
    assert found.score.values.ravel()[0] == pytest.approx(expected, abs=1e-4) and found.p.notnull().all()


def test_all_sites_as_neighbours_are_what_compare_gives():
    x, y = data()
    one = y.isel(neuroid=slice(0, 20))
    whole = na.compare(x, one, n_permutations=0, device="cpu").score.item()
    found = searchlight_rsa(x, one, n_neighbours=19, device="cpu")
    np.testing.assert_allclose(found.score, whole, atol=1e-5)


def test_sites_that_cannot_be_scored_are_named():
    x, y = data()
    broken = y.copy(deep=True)
    broken[:, 3] = np.nan
    far = broken.assign_coords(x=("neuroid", np.where(np.arange(SITES) == 7, 500.0, broken.x.values)))
    with pytest.warns(NeuroalignWarning, match=r"1 hold NaN.*1 have too few neighbours.*at least 3 sites") as caught:
        found = searchlight_rsa(x, far, radius=45, device="cpu")
    assert np.flatnonzero(found.score.isnull().values[0, 0]).tolist() == [3, 7] == sorted(
        int(i[1:]) for i in caught[0].message.ids)
    whole = searchlight_rsa(x, y.isel(neuroid=[k for k in range(SITES) if k not in (3, 7)]), radius=45, device="cpu")
    np.testing.assert_allclose(found.score.values[0, 0, :3], whole.score.values[0, 0, :3], atol=1e-6)


@pytest.mark.parametrize("call, words", [
    (lambda x, y: searchlight_rsa(x, y), "give either radius"),
    (lambda x, y: searchlight_rsa(x, y, radius=-1), "radius: got -1, expected mm above 0"),
    (lambda x, y: searchlight_rsa(x, y, n_neighbours=0), "n_neighbours: got 0"),
    (lambda x, y: searchlight_rsa(x, y.drop_vars("z"), radius=5), "no coord 'z'"),
    (lambda x, y: searchlight_rsa(x, y, radius=5, metric="cka.debiased"), "expected an RSA metric"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises((ValueError, NotAligned), match=words):
        call(*data())
