"""What is wrong with a call is found before features are extracted, not after an hour of it."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import typer
import xarray as xr

from neuroalign.data import StimulusSet, make_features, sample_dim
from neuroalign.errors import NeuroalignWarning, check_option

__all__ = ["check_encoding", "check_models", "hushed", "stand_in"]


@contextmanager
def hushed():
    """Keep back the warnings of a rehearsal: the analysis itself says them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeuroalignWarning)
        yield


def check_models(names: Sequence[str], zoo: Path | None = None) -> None:
    """Refuse a name that is neither in the zoo nor that of a folder or of a repository of the hub."""
    from neuroalign.models.zoo import get_entry

    for name in names:
        base = name.partition("@")[0]
        if "/" not in base and not Path(base).is_dir():
            get_entry(base, zoo)


def stand_in(stimuli: StimulusSet, *, streams: Sequence[str] | None = None, outputs: Sequence[str] = ("hidden",),
             pooling: str = "mean") -> dict[str, xr.DataArray]:
    """Return noise on the rows that features of these stimuli will have; nothing where these cannot be told yet."""
    from neuroalign.features.extractor import TIMING

    words = "word" in (streams or ()) or set(outputs) != {"hidden"}
    whole = "hidden" in outputs and set(streams or ()) != {"word"}
    one_kind = "parent" in stimuli.table or not (words and whole)
    if pooling in ("none", "moment") or not one_kind:
        return {}
    rows = stimuli.words() if words else stimuli
    coords = {c: rows.table[c].to_numpy() for c in TIMING if c in rows.table}
    coords = {k: v.astype(str) if v.dtype == object else v for k, v in coords.items()}
    noise = np.random.default_rng(0).standard_normal((len(rows), 3)).astype(np.float32)
    return {stimuli.name: make_features(noise, rows.ids, model=stimuli.name, coords=coords)}


def check_encoding(stimuli: StimulusSet, responses: xr.DataArray, settings: Mapping, *, rows: Mapping, baselines="auto",
                   null: str = "auto", block: float | None = None, n_permutations: int = 0, n_bootstraps: int = 0):
    """Set up an encoding analysis with a stand-in for its features, for the errors that this raises.

    Parameters
    ----------
    stimuli : StimulusSet
    responses : DataArray
    settings : mapping
        Arguments of `neuroalign.alignment.problem.set_up`.
    rows : mapping
        Options of `stand_in`.
    baselines, null, block, n_permutations, n_bootstraps
        As in `neuroalign.encode`.

    Returns
    -------
    Problem or None
        What was set up; None where the rows of the features cannot be told yet.
    """
    from neuroalign.alignment.baselines import resolve_baselines
    from neuroalign.alignment.encoding_scores import check_kept, check_tests, plan_null
    from neuroalign.alignment.problem import set_up
    from neuroalign.alignment.resampling import Resampling
    from neuroalign.stats.folds import NAMES as FOLD_NAMES

    if isinstance(settings["cv"], str):
        check_option("cv", settings["cv"], ("auto", *FOLD_NAMES))
    if sample_dim(responses) == "time" and settings["hrf"] is None and settings["downsample"] is None:
        raise typer.BadParameter("the responses are a time series, and the stimuli events in it: convolve these by "
                                 "--hrf glover, or bring them to its samples by --downsample mean or lanczos (and let "
                                 "--delay or --trf find when they are answered).", param_hint="--hrf")
    check_tests(null, "bh")
    check_kept((), n_permutations=n_permutations, n_bootstraps=n_bootstraps)
    features = stand_in(stimuli, **rows)
    if not features and sample_dim(responses) == "time":
        features = stand_in(stimuli)  # matched by the clock, whatever the rows will be
    if not features:
        return None
    if settings["residualize"] != "both":  # the reliability is not needed yet
        known = np.ones([responses.sizes[d] for d in ("neuroid", "time_bin") if d in responses.dims])
        settings = {**settings, "ceiling": known}
    with hushed():
        problem = set_up(features, responses, **settings)
        design = next(iter(problem.designs().values()))()
        if n_permutations or "shuffled" in resolve_baselines(baselines, problem):
            permuting = {"null": null, "min_shift": 0.1, "block": block, "random_state": settings["random_state"]}
            plan_null(design, problem.fitter, problem.layout, 1, permuting)
        if n_bootstraps:
            Resampling(problem, n_bootstraps, block, settings["random_state"])
    return problem
