"""Indices (folds, permutations, resamples) and the p, q, intervals and ceilings of arrays of statistics.

Nothing here ever fits a model.
"""

from neuroalign.stats.ceilings import ceiling_of, repeat_reliability, spearman_brown, split_half_reliability
from neuroalign.stats.folds import Folds, make_folds
from neuroalign.stats.permutations import block_permutations, row_permutations, shift_permutations
from neuroalign.stats.pvalues import fdr, permutation_p
from neuroalign.stats.random import child_rng, child_seed

__all__ = [
    "Folds",
    "block_permutations",
    "ceiling_of",
    "child_rng",
    "child_seed",
    "fdr",
    "make_folds",
    "permutation_p",
    "repeat_reliability",
    "row_permutations",
    "shift_permutations",
    "spearman_brown",
    "split_half_reliability",
]
