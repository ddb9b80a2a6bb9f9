"""Responses whose answer is known: a driven signal at some sites, autocorrelated noise at all of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr
from scipy.signal import lfilter

from neuroalign.data import make_responses, sample_dim, validate_features
from neuroalign.stats import child_rng

__all__ = ["ar_noise", "brain"]


def brain(features: xr.DataArray, *, sites, driven=True, weights=None, snr=1.0, ar: float = 0.0,
          random_state: int = 0) -> xr.DataArray:
    """Simulate responses that are driven by known features at known sites.

    Parameters
    ----------
    features : DataArray (sample, feature)
        What drives the sites. Use another source than the features under test.
    sites : int, sequence of str, or DataFrame
        Number or names of the sites, or a table with ``neuroid_id`` and coordinates, as `load_electrodes` returns.
    driven : bool or array of bool, shape (n_sites,)
        Which sites respond; the others are noise alone.
    weights : array of shape (n_features, n_sites), optional
        Normal draws by default.
    snr : float or array of shape (n_sites,)
        Variance of the signal over that of the noise, at driven sites.
    ar : float
        Coefficient of the first-order autoregressive noise, -1 < ar < 1.
    random_state : int

    Returns
    -------
    DataArray (sample, neuroid)
        Noise has variance 1. Coords of `neuroid`: ``driven``, and ``explainable`` = snr / (1 + snr), the largest
        R² that a model can reach; attrs ``kind="simulated"``, ``ar``, ``generator``.

    Examples
    --------
    >>> from neuroalign.data import make_features
    >>> x = make_features(np.random.default_rng(0).standard_normal((500, 3)), range(500), model="cause")
    >>> y = brain(x, sites=2, driven=[True, False], snr=1.0)
    >>> y.explainable.values.tolist()
    [0.5, 0.0]
    """
    dim = sample_dim(validate_features(features))
    table = _sites(sites)
    n_sites, (n_samples, n_features) = len(table), features.transpose(dim, "feature").shape
    driven = np.broadcast_to(np.asarray(driven, bool), n_sites)
    if not -1 < ar < 1:
        raise ValueError(f"ar: got {ar}, expected a coefficient between -1 and 1.")
    rng = child_rng(random_state, "simulate.brain")
    if weights is None:
        weights = rng.standard_normal((n_features, n_sites))
    weights = np.asarray(weights, float)
    if weights.shape != (n_features, n_sites):
        raise ValueError(f"weights: got shape {weights.shape}, expected ({n_features} features, {n_sites} sites).")
    snr = np.where(driven, np.broadcast_to(np.asarray(snr, float), n_sites), 0.0)
    signal = np.asarray(features.transpose(dim, "feature").values, float) @ weights
    spread = signal.std(0)
    if (driven & (spread == 0)).any():
        raise ValueError("features: they are constant, so they drive nothing.")
    signal = (signal - signal.mean(0)) / np.where(spread > 0, spread, 1) * np.sqrt(snr)
    values = signal + ar_noise(rng, n_samples, n_sites, ar)
    main = "time" if dim == "time" else "stimulus_id"
    kept = {k: v.values for k, v in features.coords.items() if v.dims == (dim,) and k not in (dim, "stimulus_id")}
    coords = {c: table[c].to_numpy() for c in table.columns if c != "neuroid_id"}
    out = make_responses(values, features[main].values, table["neuroid_id"].to_numpy(), dim=dim, kind="simulated",
                         units="sd of the noise", sample_coords=kept,
                         neuroid_coords={**coords, "driven": driven, "explainable": snr / (1 + snr)})
    return out.assign_attrs(ar=ar, generator=str(features.coords["space_id"].item()))


def _sites(sites) -> pd.DataFrame:
    if isinstance(sites, pd.DataFrame):
        if "neuroid_id" not in sites.columns:
            raise ValueError(f"sites: columns are {list(sites.columns)}, expected 'neuroid_id' among them.")
        return sites.reset_index(drop=True)
    names: Sequence[str] = [f"site{i}" for i in range(sites)] if isinstance(sites, int) else list(sites)
    return pd.DataFrame({"neuroid_id": names})


def ar_noise(rng, n_samples: int, n_sites: int, ar: float) -> np.ndarray:
    """Draw a stationary AR(1) process of variance 1 for each site."""
    burn = 0 if ar == 0 else int(np.ceil(np.log(1e-3) / np.log(abs(ar)))) + 1
    white = rng.standard_normal((burn + n_samples, n_sites)) * np.sqrt(1 - ar**2)
    return lfilter([1.0], [1.0, -ar], white, axis=0)[burn:]
