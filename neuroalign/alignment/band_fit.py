"""A fitted banded ridge, and the share of each band in what it explains."""

from dataclasses import dataclass, field

import numpy as np

from neuroalign.alignment.scoring import moments, score_moments
from neuroalign.linalg import to_numpy

__all__ = ["BandedFit", "band_moments", "contributions"]


@dataclass(frozen=True)
class BandedFit:
    """A fitted banded ridge.

    Attributes
    ----------
    gammas : array of shape (n_bands, n_targets)
        Share of each band, summing to 1; the penalty of band s is ``best_alpha / gammas[s]``. NaN for targets that
        hold NaN or are constant.
    best_alpha : array of shape (n_targets,)
    loss : array of shape (n_candidates, n_targets)
        Mean squared error over the inner folds with the best penalty of each candidate (None if there was nothing
        to choose).
    best_loss : array of shape (n_targets,)
        Of what was chosen, after refinement (None if there was nothing to choose).
    candidates : array of shape (n_candidates, n_bands)
    coef : list of array of shape (n_features, n_targets)
        Weights of each band, of its features as given.
    intercept : array of shape (n_targets,)
    """

    gammas: np.ndarray
    best_alpha: np.ndarray
    loss: np.ndarray | None
    best_loss: np.ndarray | None
    candidates: np.ndarray
    coef: list
    intercept: np.ndarray
    _centre: list = field(repr=False)

    def predict(self, Xs) -> np.ndarray:
        """Predict from rows of features, shape (n_rows, n_targets)."""
        return self.predict_bands(Xs).sum(0) + self._mean

    def predict_bands(self, Xs) -> np.ndarray:
        """What each band adds to the mean of the training targets, shape (n_bands, n_rows, n_targets)."""
        if len(Xs) != len(self.coef):
            raise ValueError(f"Xs: got {len(Xs)} bands, expected {len(self.coef)}.")
        added = []
        for k, (X, coef, centre) in enumerate(zip(Xs, self.coef, self._centre)):
            X = to_numpy(X).astype(np.float64, copy=False)
            if X.ndim != 2 or X.shape[1] != len(coef):
                raise ValueError(f"Xs[{k}]: got shape {X.shape}, expected (n_rows, {len(coef)} features).")
            added.append((X - centre) @ coef)
        return np.stack(added)

    def contributions(self, Xs, Y) -> np.ndarray:
        """Split R² of held-out rows between the bands by the product measure.

        Returns
        -------
        array of shape (n_bands + 1, n_targets)
            Sums to R². The last row is of the intercept: what the difference between the mean of these targets and
            that of the training targets costs.
        """
        bands, Y = self.predict_bands(Xs), to_numpy(Y).astype(np.float64, copy=False)
        prediction = bands.sum(0) + self._mean
        # Sums of squares are taken about the training mean, lest a large offset cost precision.
        Y, prediction = Y - self._mean, prediction - self._mean
        return contributions(band_moments(Y, bands, prediction), moments(Y, prediction))

    @property
    def _mean(self):
        return self.intercept + sum(centre @ coef for centre, coef in zip(self._centre, self.coef))


def band_moments(target: np.ndarray, bands: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Sums that `contributions` needs: of q·y, q·p and q for the part q of each band, (n_bands, 3, n_targets)."""
    y, p = np.asarray(target, np.float64), np.asarray(prediction, np.float64)
    sums = []
    for q in bands:
        q = np.asarray(q, np.float64)
        sums.append([np.einsum("ij,ij->j", q, y), np.einsum("ij,ij->j", q, p), q.sum(0)])
    return np.array(sums)


def contributions(band_sums: np.ndarray, sums: np.ndarray) -> np.ndarray:
    """Product measure: the share of each band in R², and of the intercept, shape (n_bands + 1, n_targets).

    With the prediction p a sum of parts q and targets y about their mean, ``R² = (2 y·p - p·p) / y·y`` is the sum
    over the parts of ``(2 y·q - q·p) / y·y`` (Dupré la Tour et al. 2022, NeuroImage 264:119728).

    Parameters
    ----------
    band_sums : array of shape (n_bands, 3, n_targets)
        `band_moments`, summed over folds.
    sums : array of shape (6, n_targets)
        `scoring.moments`, summed over folds.
    """
    n, y, yy = sums[:3]
    r2 = score_moments("r2.pooled", sums[None])
    with np.errstate(invalid="ignore", divide="ignore"):
        bands = (2 * band_sums[:, 0] - band_sums[:, 1] - band_sums[:, 2] * y / n) / (yy - y * y / n)
    bands = np.where(np.isnan(r2), np.nan, bands)
    return np.concatenate([bands, (r2 - bands.sum(0))[None]])
