"""``neuroalign match`` and ``judge``: encoders that fit together, and models against the judgements of people."""

from pathlib import Path
from typing import Annotated

import typer

from neuroalign.cli import options as opt
from neuroalign.cli.analyse import finish
from neuroalign.cli.models import load_features


def match(
    models: opt.Models,
    others: Annotated[list[str], typer.Option("--with", help="Models of the other side (repeat).")],
    stimuli: opt.Stimuli,
    other_stimuli: Annotated[str | None, typer.Option("--with-stimuli", help="Stimuli of the other side, under the "
                                                      "same ids: captions of the pictures.")] = None,
    layers: opt.Layers = ["all"],  # noqa: B006 (typer copies it)
    other_layers: Annotated[list[str] | None, typer.Option("--with-layers", help="Layers of the other side (repeat); "
                                                           "default: those of --layers.")] = None,
    streams: opt.Streams = None,
    other_streams: Annotated[list[str] | None, typer.Option("--with-stream", help="Streams of the other side; default: "
                                                            "those of --stream.")] = None,
    pooling: opt.Pooling = "mean",
    metric: opt.Metrics = None,
    method: Annotated[list[str] | None, typer.Option(help="affine, procrustes, local_cka (repeat).")] = None,
    queries: Annotated[int | None, typer.Option(min=2, help="Held-out stimuli; default: a quarter, at most 500.")]
    = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of anchors and queries.")] = 3,
    on_missing: opt.Missing = "error",
    store: opt.Store = None,
    out: opt.Out = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
) -> None:
    """Score all pairs of layers of two zoos: geometry, and retrieval of held-out stimuli through fitted maps."""
    import neuroalign as na
    from neuroalign.alignment import match_spaces, search_pairs
    from neuroalign.alignment.matching import METHODS
    from neuroalign.alignment.metrics import resolve_metrics
    from neuroalign.cli.checks import check_models, hushed, stand_in
    from neuroalign.data import scores as score_tools
    from neuroalign.errors import check_option

    resolve_metrics(metric or "cka.biased", ("rdm", "features"))
    for name in method or ():
        check_option("method", name, METHODS)
    check_models([*models, *others], zoo)
    other_layers, other_streams = other_layers or layers, other_streams or streams
    rows = na.load_stimuli(stimuli)
    other_rows = rows if other_stimuli is None else na.load_stimuli(other_stimuli)
    expected = [stand_in(r, streams=s, pooling=pooling) for r, s in ((rows, streams), (other_rows, other_streams))]
    if all(expected):
        with hushed():
            match_spaces(*expected, method="procrustes", n_queries=queries, n_draws=1, on_missing=on_missing)
    options = {"pooling": pooling, "store": store, "device": device, "random_state": random_state,
               "quiet": quiet, "zoo": zoo}
    first = load_features(models, rows, layers=layers, streams=streams, **options)
    second = load_features(others, other_rows, layers=other_layers, streams=other_streams, **options)
    scores = search_pairs(first, second, matching={"method": method or "affine", "n_queries": queries,
                                                   "n_draws": draws}, on_missing=on_missing, device=device,
                          random_state=random_state, **({"metric": tuple(metric)} if metric else {}))
    _print_pairs(scores)
    if out is not None:
        print(f"scores: {score_tools.save(scores, out)}")


def judge(
    models: opt.Models,
    stimuli: opt.Stimuli,
    choices: Annotated[Path | None, typer.Option(help="Table of choices: columns a, b, c, odd (odd one out) or "
                                                      "reference, a, b, choice; perhaps subject.")] = None,
    ratings: Annotated[Path | None, typer.Option(help="Or of ratings: columns stimulus_a, stimulus_b, rating; perhaps "
                                                      "subject.")] = None,
    scale: Annotated[tuple[float, float] | None, typer.Option(help="Ends of the scale of the ratings: least and most "
                                                                   "alike.")] = None,
    layers: opt.Layers = ["all"],  # noqa: B006
    streams: opt.Streams = None,
    pooling: opt.Pooling = "mean",
    rdm: Annotated[str, typer.Option(help="Distance of features: cosine, correlation, euclidean or sqeuclidean.")]
    = "cosine",
    permutations: opt.Permutations = 1000,
    bootstraps: Annotated[int, typer.Option(min=0, help="Resamples for the interval; 0 for none.")] = 0,
    on_missing: opt.Missing = "error",
    store: opt.Store = None,
    out: opt.Out = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
) -> None:
    """Hold models against choices (2AFC, odd one out) or similarity ratings of people."""
    import neuroalign as na
    from neuroalign.alignment import compare_ratings, odd_one_out, ratings_to_rdms, two_afc
    from neuroalign.cli.checks import check_models, hushed, stand_in
    from neuroalign.recordings import read_ratings_table, read_triplets

    if (choices is None) == (ratings is None):
        raise typer.BadParameter("give --choices or --ratings, one of them.", param_hint="--choices")
    if (ratings is None) != (scale is None):
        raise typer.BadParameter("give it with --ratings, and only then: two numbers.", param_hint="--scale")
    check_models(models, zoo)
    if choices is None:
        call, asked = compare_ratings, ratings_to_rdms(read_ratings_table(ratings), scale=scale)
    else:
        call, asked = _read_choices(choices, read_triplets, odd_one_out, two_afc)
    rows = na.load_stimuli(stimuli)
    options = {"rdm": rdm, "on_missing": on_missing, "random_state": random_state, "device": device}
    expected = stand_in(rows, streams=streams, pooling=pooling)
    if expected:
        with hushed():
            call(expected, asked, n_permutations=0, **options)
    features = load_features(models, rows, layers=layers, streams=streams, pooling=pooling, store=store,
                             device=device, random_state=random_state, quiet=quiet, zoo=zoo)
    finish(call(features, asked, n_permutations=permutations, n_bootstraps=bootstraps, **options), out)


def _read_choices(path: Path, read_triplets, odd_one_out, two_afc):
    """The call that a table of choices is for, and the table; ids are text."""
    import pandas as pd

    if path.suffix.lower() in (".csv", ".tsv") and path.is_file():
        table = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",", dtype=str)
        if "reference" in table:
            return two_afc, table
    return odd_one_out, read_triplets(path)


def _print_pairs(scores) -> None:
    """One row a pair, the best retrieval first, chance and its error in the title; then what geometry foretells."""
    from neuroalign.alignment import foretell
    from neuroalign.cli.tables import print_table
    from neuroalign.data import scores as score_tools

    frame = score_tools.to_frame(scores)
    names = [str(m) for m in scores["metric"].values]
    wide = frame.pivot(index=["space", "space_b"], columns="metric", values="score")[names].reset_index()
    asked = [m for m in names if m.startswith("match.")]
    by_metric = frame[frame["metric"].isin(asked)].groupby("metric")
    chance, error = (by_metric[k].first() for k in ("null_mean", "null_sd"))
    outcome = next((m for m in asked if m.endswith("top5") and chance[m] < 0.2), f"{asked[0].rsplit('.', 1)[0]}.top1")
    about = score_tools.attrs_of(scores)
    said = ", ".join(f"{m.split('.', 1)[1]} {chance[m]:.3g} ± {error[m]:.2g}" for m in asked)
    shown = wide.sort_values(outcome, ascending=False).head(40)
    print_table(shown, title=f"{len(wide)} pairs{', best 40' if len(wide) > 40 else ''}; {about['n_anchors']} anchors, "
                             f"{about['n_queries']} queries, {about['n_draws']} draws. "
                             f"Chance ± its standard error: {said}")
    sides = [len(set(scores[c].values)) for c in ("model", "model_b")]
    if min(sides) > 1 and len(wide) >= 4:
        print_table(foretell(scores, outcome=outcome), title=f"Does geometry foretell {outcome}? Rank correlation over "
                                                             "pairs; resampled models for the interval")
