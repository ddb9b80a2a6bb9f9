"""``neuroalign partition``."""

from typing import Annotated

import typer

from neuroalign.cli.analyse import Missing, Out, Pooling, finish
from neuroalign.cli.models import (
    Device,
    Layers,
    Models,
    Outputs,
    Quiet,
    Seed,
    Stimuli,
    Store,
    Streams,
    Zoo,
    layer_choice,
)


def partition(
    models: Models,
    stimuli: Stimuli,
    responses: Annotated[str, typer.Option(help="Data set name, or your own table: CSV with stimulus_id and a column a "
                                                "neuroid, or netCDF.")],
    layers: Layers = ["all"],  # noqa: B006 (typer copies it)
    streams: Streams = None,
    pooling: Pooling = "mean",
    outputs: Outputs = ["hidden"],  # noqa: B006
    by: Annotated[str, typer.Option(help="What a band is: space, or all spaces of one model, stream or layer.")]
    = "space",
    method: Annotated[str, typer.Option(help="banded (a penalty for each band) or ridge (one for all).")] = "banded",
    candidates: Annotated[int, typer.Option(help="Shares of the bands that are tried.")] = 20,
    bootstraps: Annotated[int, typer.Option(help="Resamples for the intervals; 0 for none.")] = 1000,
    nuisance: Annotated[list[str] | None, typer.Option(help="Nuisance (repeat): word_rate, or a coord.")] = None,
    hrf: Annotated[str | None, typer.Option(help="glover or spm: convolve events before encoding.")] = None,
    at: Annotated[str, typer.Option(help="Impulse of an event: onset, middle, offset; or whole.")] = "onset",
    high_pass: Annotated[float | None, typer.Option(help="Clean by a high-pass filter (Hz).")] = None,
    average_subjects: Annotated[bool, typer.Option(help="Predict the mean over subjects of each region.")] = False,
    cv: Annotated[str, typer.Option(help="auto, kfold, groups, blocks, shuffled.")] = "auto",
    n_splits: Annotated[int, typer.Option(help="Outer folds.")] = 5,
    reduce: Annotated[str | None, typer.Option(help="Within training folds: pca:50, pca:0.9, random:300.")] = None,
    on_missing: Missing = "error",
    store: Store = None,
    out: Out = None,
    device: Device = "auto",
    random_state: Seed = 0,
    quiet: Quiet = False,
    zoo: Zoo = None,
) -> None:
    """Split the variance that two to five bands of features explain into unique and shared parts."""
    import neuroalign as na
    from neuroalign.recordings import prepare_responses

    features = na.extract(
        list(models), na.load_stimuli(stimuli), layers=layer_choice(layers), streams=streams, pooling=pooling,
        outputs=tuple(outputs), store=store, device=device, random_state=random_state, progress=not quiet, zoo=zoo,
    )
    recorded, ceiling = prepare_responses(responses, high_pass=high_pass, average_subjects=average_subjects,
                                          random_state=random_state)
    scores = na.partition_variance(
        features, recorded, bands=_bands(list(features), by), method=method, n_candidates=candidates,
        n_bootstraps=bootstraps, nuisance=nuisance, hrf=hrf, at=at, cv=cv, n_splits=n_splits, reduce=reduce,
        ceiling=ceiling, on_missing=on_missing, device=device, random_state=random_state,
    )
    finish(scores, out)


def _bands(spaces: list[str], by: str) -> dict[str, list[str]]:
    """Gather spaces, named ``model:layer:stream``, into bands.

    Examples
    --------
    >>> _bands(["clip:l1:image", "clip:l2:image", "clip:l1:text"], "stream")
    {'image': ['clip:l1:image', 'clip:l2:image'], 'text': ['clip:l1:text']}
    """
    keys = {"space": lambda s: s, "model": lambda s: s.rsplit(":", 2)[0], "layer": lambda s: s.rsplit(":", 2)[1],
            "stream": lambda s: s.rsplit(":", 2)[2]}
    if by not in keys:
        raise typer.BadParameter(f"got {by!r}, expected one of {', '.join(keys)}.", param_hint="--by")
    bands: dict[str, list[str]] = {}
    for space in spaces:
        bands.setdefault(keys[by](space), []).append(space)
    return bands
