"""The delays of an analysis, and tables of features at all of them that are made when they are read."""

from dataclasses import dataclass

import numpy as np

from neuroalign.alignment.table import Table
from neuroalign.features.delays import Shifted

__all__ = ["LaggedTable", "Lags"]


@dataclass(frozen=True)
class Lags:
    """The delays of an analysis.

    Attributes
    ----------
    samples : array of int
    seconds : array of float
    runs : array of shape (n,), or None
    nuisance : array of shape (n, some)
        The nuisance columns before they were delayed.
    """

    samples: np.ndarray
    seconds: np.ndarray
    runs: np.ndarray | None
    nuisance: np.ndarray

    @property
    def structured(self) -> bool:
        """Whether they are all the delays of a range, and so many that their structure pays off."""
        return len(self.samples) > 3 and bool((np.diff(self.samples) == 1).all())

    def delayed(self, series) -> Table:
        """Return the series at all delays, one after the other, made when they are read."""
        return Table([Shifted(series, int(k), self.runs) for k in self.samples])


class LaggedTable(Table):
    """Nuisance and features at all delays side by side, which knows the series that they were made from.

    Parameters
    ----------
    nuisance : array of shape (n, n_delays * n_nuisance)
    series : array of shape (n, n_features)
    lags : Lags
    """

    def __init__(self, nuisance: np.ndarray, series, lags: Lags):
        super().__init__([nuisance, lags.delayed(series)])
        self.series, self.lags = Table([lags.nuisance, series]), lags
