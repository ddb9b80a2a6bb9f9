"""Matching of units: which unit of one space is which of another, chosen on some stimuli and judged on the others.

Rotations are not free here: two spaces agree if single units do (their tuning), not only what they span.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from neuroalign.alignment.feature_basis import check_pair, check_rows, host_of
from neuroalign.alignment.transport import sinkhorn
from neuroalign.errors import check_option
from neuroalign.linalg import resolve, to_numpy
from neuroalign.stats import Folds, make_folds

__all__ = ["UnitRows", "matched_correlation", "one_to_one_score", "soft_score"]

FOLDS = 5
REGULARISATION = 0.01


def matched_correlation(x, y, *, method: str = "one_to_one", cv=FOLDS, groups=None, random_state: int = 0,
                        regularisation: float = REGULARISATION, device="auto") -> float:
    """Mean held-out correlation of units that were matched on the training stimuli.

    Parameters
    ----------
    x : array of shape (n_stimuli, p)
    y : array of shape (n_stimuli, q)
    method : {"one_to_one", "soft"}
        one_to_one pairs every unit of the smaller side with one of its own on the other (the assignment of the highest
        total correlation). soft spreads the units of both sides over one another, each side evenly, so that units
        beyond the number of the other side also need partners.
    cv, groups, random_state
        As in `neuroalign.stats.make_folds`.
    regularisation : float
        Weight of the entropy of soft matching, in units of correlation: 0 would be exact.
    device : str

    Returns
    -------
    float
        -1 to 1, about 0 for unrelated data; mean over folds. Units that do not vary in a fold count as 0. NaN if
        either side is constant or holds NaN.

    Notes
    -----
    Khosla & Williams 2024, UniReps; matched on all stimuli it grows with the number of units alone, and so it is
    cross-validated here.

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((60, 5))
    >>> round(matched_correlation(x, 2 * x[:, ::-1] + 1), 6)
    1.0
    """
    check_option("method", method, ("one_to_one", "soft"))
    if not regularisation > 0:
        raise ValueError(f"regularisation: got {regularisation}, expected a number above 0.")
    x, y = check_pair(x, y)
    folds = make_folds(cv, len(x), groups=groups, random_state=random_state)
    a, b = (replace(UnitRows.of(v, resolve(device)), folds=folds) for v in (x, y))
    return float(one_to_one_score(a, b) if method == "one_to_one" else soft_score(a, b, regularisation))


@dataclass(frozen=True)
class UnitRows:
    """Units with the folds they are matched in.

    Attributes
    ----------
    rows : float64 tensor of shape (..., n_stimuli, n_units)
        Leading dims hold orders of the stimuli.
    usable : bool
    """

    rows: torch.Tensor
    usable: bool
    folds: Folds

    @classmethod
    def of(cls, values, device) -> "UnitRows":
        """Prepare units."""
        values = np.asarray(check_rows(values), np.float64)
        usable = bool(np.isfinite(values).all()) and bool((np.ptp(values, 0) > 1e-7 * np.abs(values).max()).any())
        rows = torch.as_tensor(values.copy() if usable else np.zeros_like(values), device=host_of(device))
        return cls(rows, usable, make_folds("kfold", len(values), n_splits=min(FOLDS, len(values) // 2)))

    def take(self, orders: torch.Tensor) -> "UnitRows":
        """Return the units of stimuli in several orders, (n_orders, n_stimuli)."""
        return replace(self, rows=self.rows[orders])

    @cached_property
    def parts(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Standardised training and test rows of each fold: products of them are correlations."""
        return [tuple(_standardised(self.rows[..., torch.as_tensor(i, device=self.rows.device), :]) for i in ends)
                for ends in self.folds]


def one_to_one_score(a: UnitRows, b: UnitRows) -> torch.Tensor:
    """Held-out correlation of units matched one to one, one value an order of the stimuli."""
    return _score(a, b, _assignment)


def soft_score(a: UnitRows, b: UnitRows, regularisation: float = REGULARISATION) -> torch.Tensor:
    """Held-out correlation of units matched by transport, one value an order of the stimuli."""
    return _score(a, b, lambda found: sinkhorn(-found, regularisation, tolerance=1e-4)[0])


def _score(a, b, match):
    if not (a.usable and b.usable):
        return torch.tensor(torch.nan)
    total = 0
    for (train, test), (other_train, other_test) in zip(a.parts, b.parts):
        weights = match(train.mT @ other_train)
        total = total + ((test.mT @ other_test) * weights).sum((-1, -2))
    return total / len(a.folds)


def _assignment(found):
    from scipy.optimize import linear_sum_assignment

    stack = to_numpy(found).reshape(-1, *found.shape[-2:])
    weights = np.zeros_like(stack)
    for matrix, out in zip(stack, weights):
        out[linear_sum_assignment(matrix, maximize=True)] = 1 / min(matrix.shape)
    return torch.as_tensor(weights, device=found.device).view(found.shape)


def _standardised(rows):
    rows = rows - rows.mean(-2, keepdim=True)
    norms = rows.norm(dim=-2, keepdim=True)
    flat = norms <= 1e-9 * norms.amax(-1, keepdim=True)
    return rows / torch.where(flat, torch.inf, norms)
