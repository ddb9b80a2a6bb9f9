"""Indices (folds, permutations, resamples) and the p, q, intervals and ceilings of arrays of statistics.

Nothing here ever fits a model.
"""

from neuroalign.stats.folds import Folds, make_folds
from neuroalign.stats.random import child_rng, child_seed

__all__ = ["Folds", "child_rng", "child_seed", "make_folds"]
