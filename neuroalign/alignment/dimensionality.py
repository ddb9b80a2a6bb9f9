"""How many dimensions a feature space uses: participation ratio and effective rank.

With covariance S the participation ratio is ``tr(S)^2 / tr(S^2)``: the number of equal eigenvalues that would give
the same. Of few stimuli it is biased far down, since the sample covariance is more uneven than S; the debiased
estimate takes both traces over distinct stimuli only.
"""

import numpy as np
import torch
import xarray as xr

from neuroalign.alignment.feature_basis import check_rows, feature_basis, host_of
from neuroalign.alignment.rdm import space_coords, stimulus_ids
from neuroalign.data import as_spaces, sample_dim
from neuroalign.errors import check_option, list_ids, warn_user
from neuroalign.linalg import resolve

__all__ = ["effective_dimensions", "effective_rank", "participation_ratio"]

ESTIMATORS = ("debiased", "biased")


def effective_dimensions(features, *, device="auto") -> xr.Dataset:
    """Dimensions that each feature space uses.

    Parameters
    ----------
    features : DataArray (stimulus, feature), or mapping or list of them
    device : str

    Returns
    -------
    Dataset (space)
        ``participation_ratio`` (debiased), ``participation_ratio_biased``, ``effective_rank`` and ``n_stimuli``;
        NaN for a space that is constant or holds NaN, which is warned of.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> f = make_features([[1.0, 0], [-1, 0], [0, 1], [0, -1], [1, 0]], list("abcde"), model="toy")
    >>> effective_dimensions(f).effective_rank.round(2).values.tolist()
    [1.99]
    """
    spaces, device = as_spaces(features), host_of(resolve(device))
    if not spaces:
        raise ValueError("features: no space given.")
    found = {"participation_ratio": [], "participation_ratio_biased": [], "effective_rank": [], "n_stimuli": []}
    few = []
    for name, space in spaces.items():
        stimulus_ids(name, space)
        values = check_rows(space.transpose(sample_dim(space), "feature").data)
        basis = feature_basis(values, device)
        found["participation_ratio"].append(_participation(basis, "debiased"))
        found["participation_ratio_biased"].append(_participation(basis, "biased"))
        found["effective_rank"].append(_rank(basis))
        found["n_stimuli"].append(len(values))
        few += [name] if _limited(basis) else []
    names = list(spaces)
    lost = [n for n, v in zip(names, found["effective_rank"]) if np.isnan(v)]
    if lost:
        warn_user(f"dimensionality of {list_ids(lost)} is NaN: the features are constant or hold NaN.",
                  "undefined-dimensionality", lost)
    _warn_few(few)
    coords = {"space": names} | {k: ("space", v) for k, v in space_coords(spaces).items()}
    return xr.Dataset({k: ("space", np.array(v)) for k, v in found.items()}, coords=coords)


def participation_ratio(x, *, estimator: str = "debiased", device="auto") -> float:
    """Participation ratio of the eigenvalues of the covariance.

    Parameters
    ----------
    x : array of shape (n_stimuli, n_features)
        At least 4 stimuli.
    estimator : {"debiased", "biased"}
        debiased is a ratio of two unbiased estimates of the population's traces, whatever the distribution; it
        can exceed the number of features, and is NaN where the second is 0 (all stimuli equally far apart: their
        number bounds what can be said).
        biased is that of the sample covariance, at most ``n_stimuli - 1``.
    device : str

    Returns
    -------
    float

    Examples
    --------
    >>> x = np.random.default_rng(0).standard_normal((60, 100))
    >>> participation_ratio(x, estimator="biased") < 45, 85 < participation_ratio(x) < 115
    (True, True)
    """
    check_option("estimator", estimator, ESTIMATORS)
    return _participation(feature_basis(check_rows(x), resolve(device)), estimator)


def effective_rank(x, *, device="auto") -> float:
    """Exponential of the entropy of the singular values, as shares of their sum, of the centred features.

    Parameters
    ----------
    x : array of shape (n_stimuli, n_features)
    device : str

    Returns
    -------
    float
        1 to the rank; Roy & Vetterli 2007, EUSIPCO. It is a number of the sample: with fewer stimuli than features
        it is warned of, since it then grows with the stimuli.

    Examples
    --------
    >>> round(effective_rank(np.vstack([np.eye(3), -np.eye(3)])), 6)
    3.0
    """
    basis = feature_basis(check_rows(x), resolve(device))
    _warn_few(["the features"] if _limited(basis) else [])
    return _rank(basis)


def _participation(basis, estimator: str) -> float:
    if not basis.usable:
        return float("nan")
    n = basis.n_stimuli
    squares = (basis.singular / basis.singular[0]) ** 2
    total, frobenius = float(squares.sum()), float((squares**2).sum())
    if estimator == "biased":
        return total**2 / frobenius
    # Lengths of the rows; what follows are sums over distinct stimuli of products of their inner products.
    lengths = float(((basis.left**2 @ squares) ** 2).sum())
    half = (2 * n * lengths + 2 * total**2 + 4 * frobenius) / 4
    rows = (n**2 * lengths + 3 * n * total**2) / 4
    trace = ((n * total) ** 2 - 4 * rows + 2 * half) / (n * (n - 1) * (n - 2) * (n - 3))
    square = (frobenius - lengths + total**2 / ((n - 1) * (n - 2)) - 2 * lengths / (n - 2)) / (n * (n - 3))
    return trace / square if square > 1e-12 * frobenius / n**2 else float("nan")


def _rank(basis) -> float:
    if not basis.usable:
        return float("nan")
    share = basis.singular / basis.singular.sum()
    return float(torch.exp(-(share * share.log()).sum()))


def _limited(basis) -> bool:
    return basis.usable and basis.rank >= basis.n_stimuli - 1


def _warn_few(names):
    if names:
        warn_user(f"effective rank of {list_ids(names)} is limited by the number of stimuli, not by the features. Use "
                  "the debiased participation ratio, or more stimuli.", "few-stimuli", names)
