"""``neuroalign partition``."""

from typing import Annotated

import typer

from neuroalign.cli import options as opt
from neuroalign.cli.models import load_features


def partition(
    models: opt.Models,
    stimuli: opt.Stimuli,
    responses: opt.Responses,
    layers: opt.Layers = ["all"],  # noqa: B006 (typer copies it)
    streams: opt.Streams = None,
    pooling: opt.Pooling = "mean",
    outputs: opt.Outputs = ["hidden"],  # noqa: B006
    by: Annotated[str, typer.Option(help="What a band is: space, or all spaces of one model, stream or layer.")]
    = "space",
    method: Annotated[str, typer.Option(help="banded (a penalty for each band) or ridge (one for all).")] = "banded",
    candidates: Annotated[int, typer.Option(min=1, help="Shares of the bands that are tried.")] = 20,
    bootstraps: opt.Bootstraps = 1000,
    nuisance: opt.Nuisance = None,
    residualize: opt.Residualize = None,
    hrf: opt.Hrf = None,
    at: opt.Impulse = "onset",
    downsample: opt.Downsample = None,
    delays: opt.Delays = None,
    trf: opt.Trf = None,
    high_pass: opt.HighPass = None,
    average_subjects: opt.AverageSubjects = False,
    cv: opt.Cv = "auto",
    n_splits: opt.OuterFolds = 5,
    groups: opt.Groups = None,
    test: opt.Test = None,
    gap: opt.Gap = None,
    alphas: opt.Alphas = None,
    block: opt.Block = None,
    select_neuroids: opt.SelectNeuroids = None,
    reduce: opt.Reduce = None,
    on_missing: opt.Missing = "error",
    store: opt.Store = None,
    out: opt.Out = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
) -> None:
    """Split the variance that two to five bands of features explain into unique and shared parts."""
    if test and groups is None:
        raise typer.BadParameter("needs --groups, the coord that it names values of.", param_hint="--test")
    import neuroalign as na
    from neuroalign.cli.checks import check_encoding, check_models
    from neuroalign.data import scores as score_tools
    from neuroalign.errors import check_option
    from neuroalign.recordings import prepare_responses

    _bands([], by)
    if by == "model":
        _check_number(models)
    check_option("method", method, ("banded", "ridge"))
    check_models(models, zoo)
    rows = na.load_stimuli(stimuli)
    recorded, ceiling = prepare_responses(responses, high_pass=high_pass, average_subjects=average_subjects,
                                          random_state=random_state)
    options = {"nuisance": nuisance, "residualize": residualize, "hrf": hrf, "at": at, "downsample": downsample,
               "delays": delays or None, "trf": trf, "cv": {"test": test} if test else cv, "n_splits": n_splits,
               "groups": groups, "gap": gap, "alphas": alphas, "select_neuroids": select_neuroids, "reduce": reduce,
               "on_missing": on_missing, "device": device, "random_state": random_state}
    extraction = {"streams": streams, "outputs": tuple(outputs), "pooling": pooling}
    check_encoding(rows, recorded, options, rows=extraction, block=block, n_bootstraps=bootstraps)
    features = load_features(models, rows, layers=layers, store=store, device=device, random_state=random_state,
                             quiet=quiet, zoo=zoo, **extraction)
    bands = _bands(list(features), by)
    _check_number(bands)
    scores = na.partition_variance(features, recorded, bands=bands, method=method, n_candidates=candidates,
                                   n_bootstraps=bootstraps, block=block,
                                   ceiling=None if residualize == "both" else ceiling, **options)
    _print_parts(scores)
    if out is not None:
        print(f"scores: {score_tools.save(scores, out)}")


def _print_parts(scores, rows: int = 40) -> None:
    """All models and parts of a neuroid together, neuroids that all bands predict best first."""
    from neuroalign.cli.tables import print_table
    from neuroalign.data import scores as score_tools

    frame = score_tools.to_frame(scores).astype({"n": "Int64"})
    where = [c for c in ("neuroid", "time_bin") if c in scores.score.dims]
    models = frame["space"][frame["part"] == "model"]
    whole = frame[frame["space"] == models.iloc[-1]].sort_values("score", ascending=False)
    best = whole[where].head(max(1, rows // scores.sizes["space"]))
    shown = frame.merge(best.assign(rank=range(len(best))), on=where).sort_values("rank", kind="stable")
    wanted = [*where, "part", "space", "score", "baseline", "ci_low", "ci_high", "n"]
    title = f"R² of {scores.sizes['space']} models and parts for {len(whole)} neuroids"
    title += (" and time bins" if len(where) > 1 else "") + (f", best {len(best)}" if len(best) < len(whole) else "")
    print_table(shown[[c for c in wanted if c in shown]], title=title)


def _check_number(bands) -> None:
    from neuroalign.alignment.partition import MOST_BANDS
    from neuroalign.errors import list_ids

    if not 2 <= len(bands) <= MOST_BANDS:
        raise typer.BadParameter(f"there are {len(bands)} bands ({list_ids(bands)}), expected 2 to {MOST_BANDS}. Put "
                                 "spaces together by --by model, layer or stream, or choose some by --layers.",
                                 param_hint="--by")


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
