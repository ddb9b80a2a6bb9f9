"""Clusters of neighbouring units and time bins, each against the largest cluster that chance makes."""

from dataclasses import dataclass

import numpy as np

from neuroalign.stats.pvalues import permutation_p
from neuroalign.stats.sign_flips import draw_signs, flipped_statistic

__all__ = ["ClusterTest", "cluster_test", "neighbours_within", "sign_flip_clusters"]


@dataclass(frozen=True)
class ClusterTest:
    """Result of `cluster_test` and `sign_flip_clusters`.

    Attributes
    ----------
    label : int array of shape (...)
        Number of the cluster that a point belongs to, -1: none.
    mass : array of shape (n_clusters,)
        Sum of the statistic over each cluster, largest first.
    cluster_p : array of shape (n_clusters,)
    p : array of shape (...)
        That of the cluster a point belongs to, 1 outside; NaN where there is no statistic.
    smallest_p : float
        What p can be at least.
    """

    label: np.ndarray
    mass: np.ndarray
    cluster_p: np.ndarray
    p: np.ndarray
    smallest_p: float


def cluster_test(statistic, null, *, adjacency=None, threshold: float = 2.0) -> ClusterTest:
    """Find clusters of a statistic, and hold each against the largest one of every permutation.

    A cluster is a connected set of points whose statistic is above the threshold; its mass is their sum. p is the
    share of permutations whose largest mass, anywhere, reaches it: the chance of one false cluster among all points
    is held. It speaks of the cluster as a whole, not of any one point in it, nor of when it begins (Maris &
    Oostenveld 2007, J Neurosci Methods 164:177; Sassenhagen & Draschkow 2019, Psychophysiology 56:e13335).

    Parameters
    ----------
    statistic : array of shape (n_units, n_bins)
        High values speak for an effect; on one scale everywhere, such as z against each point's own null.
    null : array of shape (n_permutations, n_units, n_bins)
        The same of every permutation.
    adjacency : sparse array of shape (n_units, n_units), optional
        Which units are neighbours; by default none are, and clusters extend over time alone.
    threshold : float

    Returns
    -------
    ClusterTest

    Examples
    --------
    >>> null = np.random.default_rng(0).standard_normal((99, 1, 30))
    >>> z = np.zeros((1, 30))
    >>> z[0, 10:15] = 4.0
    >>> found = cluster_test(z, null)
    >>> found.mass.tolist(), found.cluster_p.tolist()
    ([20.0], [0.01])
    """
    from scipy.sparse import csr_array

    statistic, null = np.asarray(statistic, float), np.asarray(null)
    if statistic.ndim != 2 or null.shape[1:] != statistic.shape or not len(null):
        raise ValueError(f"cluster_test: got a statistic of shape {statistic.shape} and a null of {null.shape}, "
                         "expected (n_units, n_bins) and (n_permutations, n_units, n_bins).")
    links = csr_array(_links(adjacency, *statistic.shape))
    label, mass = _clusters(statistic.ravel(), links, threshold)
    largest = np.array([_clusters(one.ravel(), links, threshold)[1].max(initial=0) for one in null])
    cluster_p = permutation_p(mass, np.repeat(largest[:, None], len(mass), 1)) if len(mass) else np.zeros(0)
    p = np.append(cluster_p, 1.0)[label].reshape(statistic.shape)
    return ClusterTest(label.reshape(statistic.shape), mass, cluster_p, np.where(np.isnan(statistic), np.nan, p),
                       1 / (1 + len(null)))


def sign_flip_clusters(values, *, adjacency=None, threshold: float | None = None, n_permutations: int = 10000,
                       random_state: int = 0) -> ClusterTest:
    """Test over subjects where values lie above 0, by clusters of t and sign flips.

    Parameters
    ----------
    values : array of shape (n_subjects, n_units, n_bins)
        A score minus that of the null or of another model; the units are the same in all subjects (sensors, regions).
    adjacency : sparse array of shape (n_units, n_units), optional
        Which units are neighbours; by default none are.
    threshold : float, optional
        Of t; by default that of a one-sided p of .05.
    n_permutations : int
        All flips are taken where there are no more; see `sign_flip_test`.
    random_state : int

    Returns
    -------
    ClusterTest
        The statistic is t over subjects.

    Examples
    --------
    >>> values = np.random.default_rng(0).standard_normal((8, 1, 20))
    >>> values[:, 0, 5:9] += 3
    >>> sign_flip_clusters(values).cluster_p.round(3).tolist()
    [0.004]
    """
    from scipy.stats import t as student

    values = np.asarray(values, float)
    if values.ndim != 3 or len(values) < 2 or not np.isfinite(values).all():
        raise ValueError(f"values: got shape {values.shape}, expected finite values (at least 2 subjects, n_units, "
                         "n_bins). Leave out units that some subjects lack.")
    n, shape = len(values), values.shape[1:]
    flat, signs = values.reshape(n, -1), draw_signs(n, n_permutations, random_state)
    statistic, null = (flipped_statistic(flips, flat, "t").reshape(-1, *shape) for flips in (np.ones((1, n)), signs))
    threshold = float(student.ppf(0.95, n - 1)) if threshold is None else threshold
    return cluster_test(statistic[0], null, adjacency=adjacency, threshold=threshold)


def neighbours_within(xyz, radius: float, groups=None):
    """Return which points lie within a radius of each other, never across groups.

    Parameters
    ----------
    xyz : array of shape (n_points, 3)
    radius : float
        In the units of the points (mm).
    groups : sequence, optional
        Label of each point: the subject, say.

    Returns
    -------
    sparse array of shape (n_points, n_points)

    Examples
    --------
    >>> neighbours_within([[0, 0, 0], [3, 0, 0], [3, 3, 0]], 3.5, ["a", "a", "b"]).toarray().astype(int).tolist()
    [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    """
    from scipy.sparse import coo_array
    from scipy.spatial import cKDTree

    xyz = np.asarray(xyz, float)
    first, second = cKDTree(xyz).query_pairs(radius, output_type="ndarray").T
    if groups is not None:
        same = np.asarray(groups)[first] == np.asarray(groups)[second]
        first, second = first[same], second[same]
    rows, columns = np.r_[first, second], np.r_[second, first]
    return coo_array((np.ones(len(rows)), (rows, columns)), shape=(len(xyz), len(xyz)))


def _links(adjacency, n_units: int, n_bins: int):
    """Which points (unit, bin) are linked: neighbouring units in one bin, neighbouring bins of one unit."""
    from mne.stats import combine_adjacency
    from scipy.sparse import coo_array

    units = coo_array((n_units, n_units)) if adjacency is None else coo_array(adjacency)
    if units.shape != (n_units, n_units):
        raise ValueError(f"adjacency: got shape {units.shape}, expected ({n_units}, {n_units}), the number of units.")
    return combine_adjacency(units, n_bins)


def _clusters(statistic: np.ndarray, links, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Number the clusters of points above a threshold, largest mass first: label of each point (-1: none), masses."""
    from scipy.sparse.csgraph import connected_components

    above = np.flatnonzero(statistic > threshold)
    label = np.full(len(statistic), -1)
    if not len(above):
        return label, np.zeros(0)
    _, own = connected_components(links[above][:, above], directed=False)
    mass = np.bincount(own, statistic[above])
    order = np.argsort(-mass, kind="stable")
    label[above] = np.argsort(order)[own]
    return label, mass[order]
