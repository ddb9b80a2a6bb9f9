"""A study of integration whose answer is known: few sites combine vision and language, many only seem to."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import make_features
from neuroalign.errors import check_option
from neuroalign.simulate.brain import ar_noise, brain
from neuroalign.stats import child_rng

__all__ = ["KINDS", "Study", "study"]

KINDS = ("integration", "vision", "language", "additive", "word_rate", "loudness", "noise")
SITES = {"integration": 10, "vision": 10, "language": 10, "additive": 10, "word_rate": 5, "loudness": 5, "noise": 10}
DRIVES = {"vision": ("vision", "additive", "integration"), "language": ("language", "additive", "integration"),
          "fused": ("integration",), "word_rate": ("word_rate",), "loudness": ("loudness",)}  # which kinds of sites
N_LATENTS = 3  # of each modality
SCALE = 0.7  # of the random maps: units bend, but seldom saturate


class Study(NamedTuple):
    """Result of `study`.

    Attributes
    ----------
    spaces : dict of DataArray (time, feature)
        ``vision``, ``language``, ``multimodal``.
    nuisance : list of DataArray (time, feature)
        ``word_rate`` and ``loudness``.
    responses : DataArray (time, neuroid)
        Coords of `neuroid`: ``kind``, ``explainable`` (share of the variance that is no noise) and ``nonadditive``
        (share that no sum of a function of vision and one of language explains).
    """

    spaces: dict[str, xr.DataArray]
    nuisance: list[xr.DataArray]
    responses: xr.DataArray


def study(n_samples: int = 400, *, sites: Mapping[str, int] | None = None, snr: float = 1.0, ar: float = 0.5,
          width: int = 30, view_noise: float = 0.3, shared_view: bool = True, random_state: int = 0) -> Study:
    """Simulate a film, three models that watch it, and sites of which only some integrate what is seen and said.

    Sites follow hidden variables: three of vision, three of language, their products, the rate of words, and loudness.
    Half of the signal of an ``integration`` site is a random bilinear form of vision and language, the other half is
    additive; the others are driven by vision, by language, by their sum, by one of the confounds, or by nothing.
    Models see the hidden variables through noise and random nonlinear maps: units of the multimodal model multiply
    both modalities. Words leave a trace in the language model, words and loudness in the multimodal one, so that
    without `nuisance` sites of confounds seem to integrate.

    Parameters
    ----------
    n_samples : int
        Seconds of the film.
    sites : mapping of str to int, optional
        Number of sites of each of `KINDS`; by default 10, of the confounds 5.
    snr : float
        Variance of the signal over that of the noise, at driven sites.
    ar : float
        Coefficient of the first-order autoregressive hidden variables and noise.
    width : int
        Features of each model.
    view_noise : float
        Standard deviation of the noise through which models see hidden variables of variance 1.
    shared_view : bool
        Whether the multimodal model sees through the same noise as the unimodal ones, as its own towers would.
        False: it looks for itself; then it also measures each modality better than the others do alone, and sites
        that integrate nothing gain from it.
    random_state : int

    Returns
    -------
    Study

    Examples
    --------
    >>> spaces, nuisance, responses = study(100, sites={"integration": 2, "additive": 3})
    >>> responses.kind.values.tolist(), responses.nonadditive.values.tolist()
    (['integration', 'integration', 'additive', 'additive', 'additive'], [0.25, 0.25, 0.0, 0.0, 0.0])
    """
    counts = SITES if sites is None else {check_option("sites", k, KINDS): int(n) for k, n in sites.items()}
    rng, times = child_rng(random_state, "simulate.study"), np.arange(float(n_samples))
    vision, language = (ar_noise(rng, n_samples, N_LATENTS, ar) for _ in range(2))
    rate, loud = (ar_noise(rng, n_samples, 1, ar) for _ in range(2))
    words = rng.poisson(np.exp(0.8 + 0.5 * rate)).astype(float)  # about 2.5 in a second
    loudness = np.exp(0.5 * loud)
    fused = np.einsum("ti,tj->tij", vision, language).reshape(n_samples, -1)
    hidden = {"vision": vision, "language": language, "fused": fused, "word_rate": words, "loudness": loudness}
    hidden = {k: (x - x.mean(0)) / x.std(0) for k, x in hidden.items()}

    kinds = np.repeat(list(counts), list(counts.values()))
    weights = np.concatenate([_weights(rng, kinds, name, x.shape[1]) for name, x in hidden.items()])
    cause = make_features(np.hstack(list(hidden.values())), times, model="hidden", dim="time")
    table = pd.DataFrame({"neuroid_id": [f"{k}{i}" for k, n in counts.items() for i in range(n)], "kind": kinds})
    responses = brain(cause, sites=table, driven=kinds != "noise", weights=weights, snr=snr, ar=ar,
                      random_state=random_state)
    nonadditive = np.where(kinds == "integration", responses["explainable"].values / 2, 0.0)
    responses = responses.assign_coords(nonadditive=("neuroid", nonadditive)).assign_attrs(
        snr=snr, sfreq=1.0, view_noise=view_noise, shared_view=str(shared_view))

    def look():
        return [hidden[k] + view_noise * rng.standard_normal((n_samples, N_LATENTS)) for k in ("vision", "language")]

    seen, heard = look()
    both = (seen, heard) if shared_view else look()
    told = 0.5 * hidden["word_rate"]
    made = {"vision": _layer(rng, seen, width), "language": _layer(rng, np.hstack([heard, told]), width),
            "multimodal": (_layer(rng, both[0], width) * _layer(rng, both[1], width)
                           + 0.5 * _layer(rng, np.hstack([told, 0.5 * hidden["loudness"]]), width))}
    spaces = {k: make_features(x, times, model=k, dim="time") for k, x in made.items()}
    nuisance = [make_features(hidden[k], times, model=k, dim="time").rename(k) for k in ("word_rate", "loudness")]
    return Study(spaces, nuisance, responses)


def _weights(rng, kinds: np.ndarray, drive: str, n_latents: int) -> np.ndarray:
    """Draw how hidden variables drive each site, (n_latents, n_sites): of length 1, products of length root 2."""
    weights = rng.standard_normal((n_latents, len(kinds)))
    weights *= (np.sqrt(2) if drive == "fused" else 1) / np.linalg.norm(weights, axis=0)
    return weights * np.isin(kinds, DRIVES[drive])


def _layer(rng, seen: np.ndarray, width: int) -> np.ndarray:
    """Map what is seen by random weights and a bent line, (n_samples, width)."""
    return np.tanh(SCALE * seen @ rng.standard_normal((seen.shape[1], width)) + rng.standard_normal(width))
