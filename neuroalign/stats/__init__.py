"""Indices (folds, permutations, resamples) and the p, q, intervals and ceilings of arrays of statistics.

Nothing here ever fits a model.
"""

from neuroalign.stats.autocorrelation import autocorrelation, effective_samples
from neuroalign.stats.ceilings import (
    ceiling_of,
    ncsnr,
    repeat_reliability,
    spearman_brown,
    split_half_reliability,
)
from neuroalign.stats.clusters import ClusterTest, cluster_test, neighbours_within, sign_flip_clusters
from neuroalign.stats.folds import Folds, make_folds
from neuroalign.stats.hierarchical import expanded_interval, hierarchical_means, subject_means
from neuroalign.stats.intervals import LEVEL, half_sample_deviations, mean_interval, percentile_interval
from neuroalign.stats.permutations import block_permutations, row_permutations, shift_permutations
from neuroalign.stats.pvalues import at_least, fdr, max_permutation_p, permutation_p
from neuroalign.stats.random import child_rng, child_seed
from neuroalign.stats.resamples import Resamples, load_resamples, make_resamples
from neuroalign.stats.sign_flips import SignFlipTest, conjunction_p, holm, sign_flip_test

__all__ = [
    "LEVEL",
    "ClusterTest",
    "Folds",
    "Resamples",
    "SignFlipTest",
    "at_least",
    "autocorrelation",
    "block_permutations",
    "ceiling_of",
    "child_rng",
    "child_seed",
    "cluster_test",
    "conjunction_p",
    "effective_samples",
    "expanded_interval",
    "fdr",
    "half_sample_deviations",
    "hierarchical_means",
    "holm",
    "load_resamples",
    "make_folds",
    "make_resamples",
    "max_permutation_p",
    "mean_interval",
    "ncsnr",
    "neighbours_within",
    "percentile_interval",
    "permutation_p",
    "repeat_reliability",
    "row_permutations",
    "shift_permutations",
    "sign_flip_clusters",
    "sign_flip_test",
    "spearman_brown",
    "split_half_reliability",
    "subject_means",
]
