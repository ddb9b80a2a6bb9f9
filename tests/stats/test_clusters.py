"""Clusters against those of MNE, their largest masses by brute force, and no links across subjects."""

import itertools

import numpy as np
import pytest
from mne.stats import combine_adjacency, permutation_cluster_1samp_test
from scipy import stats as theirs

from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import cluster_test, neighbours_within, sign_flip_clusters


def planted(n_subjects=8, seed=0):
    values = np.random.default_rng(seed).standard_normal((n_subjects, 4, 15))
    values[:, :2, 4:9] += 1.5
    return values, neighbours_within([[0, 0, 0], [3, 0, 0], [6, 0, 0], [50, 0, 0]], 3.5)


def mne(values, adjacency, threshold):
    links = combine_adjacency(adjacency, values.shape[2])  # more permutations than there are: all of them
    return permutation_cluster_1samp_test(values.reshape(len(values), -1), threshold=threshold, tail=1,
                                          n_permutations=1000, adjacency=links, verbose="ERROR")


def test_clusters_are_those_of_mne_and_p_that_of_all_flips():
    values, adjacency = planted()
    null = np.array([theirs.ttest_1samp(values * np.array(s)[:, None, None], 0).statistic
                     for s in itertools.product((1, -1), repeat=8)][1:])  # the first is the identity
    found = cluster_test(theirs.ttest_1samp(values, 0).statistic, null, adjacency=adjacency, threshold=1.8)
    statistic, clusters, p, _ = mne(values, adjacency, 1.8)
    mass = np.array([statistic[c[0]].sum() for c in clusters])
    order = np.argsort(-mass)
    np.testing.assert_allclose(found.mass, mass[order])
    # Of the 256 flips MNE 1.13 takes the identity twice and leaves out the flip of all.
    np.testing.assert_allclose(found.cluster_p, p[order], atol=1 / 256 + 1e-9)
    largest = np.append([cluster_test(t, null[:1], adjacency=adjacency, threshold=1.8).mass.max(initial=0)
                         for t in null], found.mass[0])
    np.testing.assert_allclose(found.cluster_p, [(largest >= m - 1e-9).mean() for m in found.mass])
    for k, place in enumerate(order):
        np.testing.assert_array_equal(np.flatnonzero(found.label.ravel() == k), np.sort(clusters[place][0]))
    assert found.cluster_p[0] == 1 / 256 == found.smallest_p and (found.label[:2, 4:9] == 0).all()
    flipped = sign_flip_clusters(values, adjacency=adjacency, threshold=1.8)
    for name in ("label", "mass", "cluster_p", "p", "smallest_p"):
        np.testing.assert_allclose(getattr(flipped, name), getattr(found, name))


def test_clusters_follow_neighbours_and_time_and_nothing_else():
    z = np.zeros((3, 6))
    z[0, 1:3], z[1, 2:4], z[2, 4:] = 3, 3, 3
    null = np.random.default_rng(0).standard_normal((19, 3, 6))
    alone = cluster_test(z, null)
    assert alone.label.tolist() == [[-1, 0, 0, -1, -1, -1], [-1, -1, 1, 1, -1, -1], [-1, -1, -1, -1, 2, 2]]
    joined = cluster_test(z, null, adjacency=neighbours_within([[0, 0, 0], [1, 0, 0], [9, 0, 0]], 2))
    assert joined.mass.tolist() == [12, 6] and (joined.label[2] >= 0).sum() == 2
    # Two subjects at one place are no neighbours.
    assert neighbours_within(np.zeros((2, 3)), 5, ["a", "b"]).nnz == 0 == neighbours_within(np.zeros((2, 3)), 0).nnz - 2


def test_the_chance_of_one_false_cluster_is_held():
    rng, links = np.random.default_rng(3), neighbours_within(np.c_[np.arange(6), np.zeros((6, 2))], 1)
    field = rng.standard_normal((150, 20, 6, 12))
    field = np.cumsum(field, -1) / np.sqrt(np.arange(1, 13))  # rows of a study are exchangeable, bins are not alike
    hits = [cluster_test(one[0], one[1:], adjacency=links, threshold=1.5).p.min() <= 0.05 for one in field]
    assert 0.015 <= np.mean(hits) <= 0.1  # 150 studies; p .05 is the smallest


def test_what_is_missing_and_what_is_wrong():
    z, null = np.full((2, 4), np.nan), np.random.default_rng(0).standard_normal((9, 2, 4))
    z[0] = 0
    found = cluster_test(z, null)
    assert len(found.mass) == 0 and (found.p[0] == 1).all() and np.isnan(found.p[1]).all()
    with pytest.raises(ValueError, match=r"a statistic of shape \(2, 4\) and a null of \(9, 2, 3\)"):
        cluster_test(z, null[..., :3])
    with pytest.raises(ValueError, match=r"adjacency: got shape \(3, 3\), expected \(2, 2\)"):
        cluster_test(z, null, adjacency=np.eye(3))
    with pytest.warns(NeuroalignWarning, match="4 subjects: the smallest p is 0.0625"):
        sign_flip_clusters(planted(4)[0])
    with pytest.raises(ValueError, match="Leave out units that some subjects lack"):
        sign_flip_clusters(np.full((7, 1, 2), np.nan))
