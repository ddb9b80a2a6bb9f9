"""Dissimilarities against scipy in float64, on hard inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import pdist, squareform

from neuroalign.alignment import condensed_distances, pair_distances, rdms
from neuroalign.alignment import rdm as rdm_module
from neuroalign.alignment.rdm import DISTANCES, positions, square
from neuroalign.data import make_features
from neuroalign.errors import NeuroalignWarning, NotAligned

IDS = [f"s{i}" for i in range(30)]
CHEAP = rdm_module._CHEAP
CATEGORIES = {
    "one-hot": np.eye(7)[np.arange(40) % 7],
    "blocks": np.repeat(np.eye(3), 256, 1)[np.arange(40) % 3],
    "counts": np.random.default_rng(0).integers(0, 3, (40, 5)) + 2 * np.arange(5),
    "tenths": (np.random.default_rng(1).integers(0, 2, (40, 2)) + np.array([0, 2])) / 10,
}


@pytest.fixture(autouse=True, params=[CHEAP, 0], ids=["few", "many"])
def size(request, monkeypatch):
    """Products of few stimuli are float64, and those of many are as asked."""
    monkeypatch.setattr(rdm_module, "_CHEAP", request.param)


def patterns(n=30, p=50, seed=0, mean=0.0):
    return (np.random.default_rng(seed).standard_normal((n, p)) + mean).astype(np.float32)


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_distances_equal_scipys_in_float64(metric, mean):
    x = patterns(mean=mean)
    expected = pdist(x.astype(np.float64), metric)
    if metric == "cosine" and mean:  # 1 - cosine of nearly parallel vectors: scipy itself keeps 1e-16 absolute
        unit = x.astype(np.float64) / np.linalg.norm(x.astype(np.float64), axis=1, keepdims=True)
        expected = pdist(unit, "sqeuclidean") / 2
    np.testing.assert_allclose(condensed_distances(x, metric), expected, rtol=5e-3 if metric == "cosine" else 2e-5)
    np.testing.assert_allclose(condensed_distances(x, metric, dtype="float64"), expected,
                               rtol=1e-6 if metric == "cosine" else 1e-9)


@pytest.mark.parametrize("metric", DISTANCES)
@pytest.mark.parametrize("kind", CATEGORIES)
def test_rounding_breaks_no_ties_of_categories_and_counts(kind, metric, monkeypatch):
    monkeypatch.setattr(rdm_module, "_CHEAP", CHEAP)
    values = CATEGORIES[kind]
    exact = np.round(pdist(values, metric), 9)
    for found in (condensed_distances(values, metric, device="cpu"),
                  pair_distances(values, *np.triu_indices(len(values), 1), metric, device="cpu")):
        assert len(np.unique(found)) == len(np.unique(exact))
        np.testing.assert_allclose(found, exact, atol=1e-6)


@pytest.mark.parametrize("metric", DISTANCES)
def test_near_duplicates_keep_their_small_distance(metric):
    x = patterns()
    x[3] = x[4] + 1e-4 * patterns(1, seed=1)[0]
    expected = pdist(x.astype(np.float64), metric)
    np.testing.assert_allclose(condensed_distances(x, metric), expected, rtol=1e-3)


@pytest.mark.parametrize("metric", ["euclidean", "correlation"])
def test_equal_rows_are_at_distance_zero(metric):
    x = patterns()
    x[7] = x[2]
    assert square(condensed_distances(x, metric))[2, 7] == 0


@pytest.mark.parametrize("metric", DISTANCES)
def test_blocks_of_rows_and_features_change_nothing(metric, monkeypatch):
    x = patterns(mean=3)
    whole = condensed_distances(x, metric)
    monkeypatch.setattr(rdm_module, "rows_per_chunk", lambda *args, **kwargs: 7)
    np.testing.assert_allclose(condensed_distances(x, metric), whole, rtol=1e-5)


def test_a_wide_memory_map_is_read_in_blocks_and_never_written(tmp_path, monkeypatch):
    x = patterns(12, 5000)
    np.save(tmp_path / "x.npy", x)
    stored = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(rdm_module, "rows_per_chunk", lambda *args, **kwargs: 11)
    np.testing.assert_allclose(condensed_distances(stored), pdist(x.astype(float), "correlation"), rtol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.1, 50), st.floats(-20, 20))
def test_correlation_distance_ignores_scale_and_shift_of_each_row(seed, scale, shift):
    x = patterns(8, 20, seed).astype(np.float64)
    moved = x * scale + shift * np.arange(8)[:, None]
    np.testing.assert_allclose(condensed_distances(moved), condensed_distances(x), atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_euclidean_distance_ignores_rotation_and_translation(seed):
    rng = np.random.default_rng(seed)
    x, q = rng.standard_normal((8, 6)), np.linalg.qr(rng.standard_normal((6, 6)))[0]
    np.testing.assert_allclose(condensed_distances(x @ q + 5, "euclidean"), condensed_distances(x, "euclidean"),
                               rtol=1e-5)


@pytest.mark.parametrize("metric", DISTANCES)
def test_nan_in_a_stimulus_reaches_its_own_pairs_alone(metric):
    x = patterns()
    expected = squareform(pdist(x.astype(float), metric))
    x[5, 3] = np.nan
    with pytest.warns(NeuroalignWarning, match=r"the values of 's5' hold NaN; their pairs are NaN") as caught:
        found = square(condensed_distances(x, metric, ids=IDS))
    assert caught[0].message.code == "nan-stimuli" and caught[0].message.count == 1
    others = np.arange(30) != 5
    assert np.isnan(found[5, others]).all()
    if metric in ("correlation", "cosine"):
        np.testing.assert_allclose(found[np.ix_(others, others)], expected[np.ix_(others, others)], atol=1e-5)
    assert np.isfinite(found[np.ix_(others, others)]).all()


def test_a_constant_stimulus_has_no_correlation_distance():
    x = patterns()
    x[4] = 0.1
    with pytest.warns(NeuroalignWarning, match=r"toy: features of 's4' are constant") as caught:
        found = square(condensed_distances(x, ids=IDS, name="toy"))
    assert caught[0].message.code == "constant-stimuli"
    assert np.isnan(found[4, np.arange(30) != 4]).all() and np.isnan(found).sum() == 58
    assert np.isfinite(condensed_distances(x, "euclidean")).all()


def test_pairs_alone_equal_those_of_the_full_triangle():
    x = patterns()
    first, second = np.array([3, 0, 29, 7]), np.array([1, 29, 4, 8])
    for metric in DISTANCES:
        whole = square(condensed_distances(x, metric))
        np.testing.assert_allclose(pair_distances(x, first, second, metric), whole[first, second], rtol=1e-5)


def test_spaces_make_one_target_each_with_their_coords():
    spaces = [make_features(patterns(seed=k), IDS, model="m", layer=f"l{k}", depth=k / 2) for k in range(3)]
    spaces[1] = spaces[1].isel(stimulus=slice(None, None, -1))
    found = rdms(spaces)
    assert found.dims == ("target", "pair") and found.attrs["distance"] == "correlation"
    assert found.target.values.tolist() == ["m:l0:all", "m:l1:all", "m:l2:all"]
    assert found.layer.values.tolist() == ["l0", "l1", "l2"] and found.n_features.values.tolist() == [50] * 3
    assert (found.stimulus_a.values[0], found.stimulus_b.values[-1]) == ("s0", "s29")
    np.testing.assert_allclose(found.values[1], pdist(patterns(seed=1).astype(float), "correlation"), rtol=1e-5)


def test_spaces_of_different_stimuli_are_refused_by_name():
    spaces = [make_features(patterns(), IDS, model="a"), make_features(patterns(), [*IDS[1:], "new"], model="b")]
    with pytest.raises(NotAligned, match=r"'b::all'.*'s0', 'new'"):
        rdms(spaces)


@pytest.mark.parametrize("call, words", [
    (lambda: condensed_distances(patterns(), "corelation"), r"rdm: got 'corelation'.*Did you mean 'correlation'"),
    (lambda: condensed_distances(patterns(1)), r"shape \(1, 50\), expected \(at least 2 rows"),
    (lambda: square([1.0, 2.0]), "no upper triangle"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_positions_point_into_the_triangle():
    first, second = np.triu_indices(9, 1)
    assert np.array_equal(positions(second, first, 9), np.arange(36))
