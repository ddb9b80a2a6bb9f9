"""Resampling of held-out predictions: nothing is fitted again, and rows that belong together stay together."""

import numpy as np

from neuroalign.alignment.problem import Problem
from neuroalign.alignment.scoring import ENCODING_METRICS, score_moments
from neuroalign.alignment.splits import block_samples
from neuroalign.errors import warn_user
from neuroalign.stats import expanded_interval, make_resamples
from neuroalign.stats.permutations import cut_blocks

__all__ = ["Resampling"]

FEW_UNITS = 20  # below that many an interval is rough
BUDGET = 2**28  # bytes of sums that are held at a time


class Resampling:
    """Which rows go together in a resample, and how often each unit is drawn; the same for all spaces.

    Units are groups where there are any, contiguous blocks of a time series within its runs, else stimuli.

    Parameters
    ----------
    problem : Problem
    n_resamples : int
    block : float or None
        Seconds of a block; by default see `splits.block_samples`.
    random_state : int
    """

    def __init__(self, problem: Problem, n_resamples: int, block: float | None, random_state: int):
        layout, rows = problem.layout, np.flatnonzero(problem.fitter.outer.test.any(0))
        if layout.groups is not None:
            labels, self.kind = np.asarray(layout.groups), "groups"
        elif layout.time_series:
            size = block_samples(layout, block, layout.n_samples)
            labels = np.empty(layout.n_samples, int)
            for k, rows_of in enumerate(cut_blocks(layout.n_samples, size, layout.runs)):
                labels[rows_of] = k
            self.kind = f"blocks of {size} samples"
        else:
            # By id: the same stimuli are drawn in whatever order the rows stand.
            labels, self.kind = np.arange(layout.n_samples) if layout.ids is None else layout.ids, "stimuli"
        units, inverse = np.unique(labels[rows], return_inverse=True)
        self.unit = np.full(layout.n_samples, -1)
        self.unit[rows] = inverse
        self.resamples = make_resamples(units, n_resamples, random_state=random_state, purpose="predictions")
        self.counts = self.resamples.counts().astype(float)
        if len(units) < FEW_UNITS:
            warn_user(f"intervals rest on {len(units)} {self.kind}: with so few they are rough. More data, "
                      "smaller blocks, or no resamples.", "few-blocks", count=len(units))

    @property
    def n_units(self) -> int:
        """Independent units that are drawn."""
        return self.counts.shape[1]

    def sums(self, values: np.ndarray, rows: np.ndarray | None = None) -> np.ndarray:
        """Sum rows (n_samples, n_targets), all tested ones or some, of each resample: (n_resamples, n_targets)."""
        rows = np.flatnonzero(self.unit >= 0) if rows is None else rows
        total = np.zeros((self.counts.shape[1], values.shape[1]))
        np.add.at(total, self.unit[rows], values[rows])
        return self.counts @ total

    def scores(self, Y: np.ndarray, prediction: np.ndarray, folds, metrics) -> np.ndarray:
        """Return the scores of each resample, float32 (n_resamples, n_metrics, n_targets).

        Parameters
        ----------
        Y, prediction : array of shape (n_samples, n_targets)
        folds : sequence of (train, test)
        metrics : sequence of str
        """
        pooled = {m for m in metrics if ENCODING_METRICS[m][1] == "pooled"}
        parts = {"pooled": [None], "foldmean": [test for _, test in folds]}
        out = np.empty((len(self.counts), len(metrics), Y.shape[1]), np.float32)
        most = len(parts["foldmean"]) if set(metrics) - pooled else 1
        size = max(1, BUDGET // (8 * 6 * len(self.counts) * most))
        for start in range(0, Y.shape[1], size):
            some = slice(start, start + size)
            y, p = (x[:, some].astype(np.float64) for x in (Y, prediction))
            ones = np.isfinite(p).astype(float)  # rows of folds that a target was not selected in do not count
            y, p = np.where(ones, y, 0), np.where(ones, p, 0)
            for how in dict.fromkeys(ENCODING_METRICS[m][1] for m in metrics):
                moved = np.stack([[self.sums(x, rows) for x in (ones, y, y * y, p, p * p, y * p)]
                                  for rows in parts[how]])
                for k, metric in enumerate(metrics):
                    if ENCODING_METRICS[metric][1] == how:
                        out[:, k, some] = score_moments(metric, moved)
        return out

    def interval(self, drawn: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the ends of the interval of resampled scores (n_resamples, ...), wider where units are few."""
        return expanded_interval(drawn, self.n_units, level)

    def describe(self, level: float) -> str:
        """Say in words what was resampled."""
        return (f"{level:.0%} expanded percentile interval over {len(self.resamples):,} resamples of {self.kind} "
                f"({self.n_units}) of the held-out predictions")
