"""``neuroalign encode``, ``compare`` and ``report``."""

from pathlib import Path
from typing import Annotated

import typer

from neuroalign.cli import options as opt
from neuroalign.cli.models import load_features


def encode(
    models: opt.Models,
    stimuli: opt.Stimuli,
    responses: opt.Responses,
    layers: opt.Layers = ["all"],  # noqa: B006 (typer copies it)
    streams: opt.Streams = None,
    pooling: opt.Pooling = "mean",
    outputs: opt.Outputs = ["hidden"],  # noqa: B006
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
    select_neuroids: opt.SelectNeuroids = None,
    reduce: opt.Reduce = None,
    nested: Annotated[bool, typer.Option("--nested", help="Choose the best layer within the training folds.")] = False,
    metric: opt.Metrics = None,
    by: Annotated[str | None, typer.Option(help="With r.stimulus, 2v2: coord of the neuroids that patterns are of.")]
    = None,
    permutations: opt.Permutations = 0,
    null: Annotated[str, typer.Option(help="With --permutations: auto, shift, block or permute.")] = "auto",
    block: opt.Block = None,
    bootstraps: Annotated[int, typer.Option(min=0, help="Resamples of held-out predictions for the intervals.")] = 0,
    baseline: Annotated[list[str] | None, typer.Option(help="Beside the scores (repeat): drift (time alone; a time "
                                                            "series has it), shuffled (features in another order).")]
    = None,
    keep: Annotated[list[str] | None, typer.Option(help="Also written to --out (repeat): prediction, null, fold_score, "
                                                        "bootstrap.")] = None,
    on_missing: opt.Missing = "error",
    store: opt.Store = None,
    out: opt.Out = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
) -> None:
    """Predict responses from features (cross-validated ridge)."""
    if test and groups is None:
        raise typer.BadParameter("needs --groups, the coord that it names values of.", param_hint="--test")
    if null != "auto" and not permutations and "shuffled" not in (baseline or ()):
        raise typer.BadParameter("needs --permutations, their number.", param_hint="--null")
    if keep and out is None:
        raise typer.BadParameter("needs --out, the file that it is written to.", param_hint="--keep")
    if nested and alphas is not None and len(alphas) < 2:
        raise typer.BadParameter("give at least two with --nested: layers are compared by their inner folds.",
                                 param_hint="--alphas")
    import neuroalign as na
    from neuroalign.alignment.encoding_scores import check_kept
    from neuroalign.alignment.metrics import resolve_metrics
    from neuroalign.alignment.stimulus_scores import patterns_by
    from neuroalign.cli.checks import check_encoding, check_models
    from neuroalign.recordings import prepare_responses

    # What is cheap comes first: a misspelt name is not to be found after an hour of extraction.
    kinds = {m.kind for m in resolve_metrics(metric, ("encoding", "stimulus"))} if metric else {"encoding"}
    if by is not None and kinds != {"stimulus"}:
        raise typer.BadParameter("needs --metric r.stimulus, --metric 2v2 or both.", param_hint="--by")
    if len(kinds) > 1:
        raise typer.BadParameter("r.stimulus and 2v2 are scores of stimuli, the others of neuroids: ask for them in "
                                 "two calls.", param_hint="--metric")
    of_neuroids = {"--nested": nested, "--bootstraps": bootstraps, "--baseline": baseline, "--keep": keep}
    for name, value in of_neuroids.items():
        if value and kinds == {"stimulus"}:
            raise typer.BadParameter("is of the scores of neuroids, and --metric r.stimulus and 2v2 are scores of "
                                     "stimuli. Leave one of them out.", param_hint=name)
    keep = check_kept(keep or (), n_permutations=permutations, n_bootstraps=bootstraps)
    check_models(models, zoo)
    rows = na.load_stimuli(stimuli)
    recorded, ceiling = prepare_responses(responses, high_pass=high_pass, average_subjects=average_subjects,
                                          random_state=random_state)
    options = {"nuisance": nuisance, "residualize": residualize, "hrf": hrf, "at": at, "downsample": downsample,
               "delays": delays or None, "trf": trf, "cv": {"test": test} if test else cv, "n_splits": n_splits,
               "groups": groups, "gap": gap, "alphas": alphas, "select_neuroids": select_neuroids, "reduce": reduce,
               "on_missing": on_missing, "device": device, "random_state": random_state}
    testing = {"n_permutations": permutations, "null": null, "block": block}
    extraction = {"streams": streams, "outputs": tuple(outputs), "pooling": pooling}
    problem = check_encoding(rows, recorded, options, rows=extraction, baselines=baseline or "auto",
                             n_bootstraps=bootstraps, **testing)
    if problem is not None and kinds == {"stimulus"}:
        patterns_by(problem.responses, problem.targets.usable, by)
    features = load_features(models, rows, layers=layers, store=store, device=device, random_state=random_state,
                             quiet=quiet, zoo=zoo, **extraction)
    options |= testing | {"progress": not quiet} | ({"metric": tuple(metric)} if metric else {})
    if kinds == {"stimulus"}:
        scores = na.encode_stimuli(features, recorded, by=by, **options)
    else:
        scores = na.encode(features, recorded, ceiling=None if residualize == "both" else ceiling,
                           layer="nested" if nested else "each", n_bootstraps=bootstraps,
                           baselines=baseline or "auto", keep=keep, **options)
    finish(scores, out)


def compare(
    models: opt.Models,
    stimuli: opt.Stimuli,
    targets: Annotated[str | None, typer.Option(help="Data set with RDMs, or a CSV (pairs, or a square matrix) or "
                                                     "netCDF.")] = None,
    responses: Annotated[str | None, typer.Option(help="Instead: responses, by region (data set, CSV or netCDF). With "
                                                       "neither, the spaces are compared with one another.")] = None,
    layers: opt.Layers = ["all"],  # noqa: B006
    streams: opt.Streams = None,
    pooling: opt.Pooling = "mean",
    metric: opt.Metrics = None,
    rdm: Annotated[str, typer.Option(help="correlation, euclidean, sqeuclidean or cosine.")] = "correlation",
    ceiling: Annotated[str, typer.Option(help="rank or raw averaging of the subjects' RDMs.")] = "rank",
    permutations: opt.Permutations = 1000,
    on_missing: opt.Missing = "error",
    bootstraps: Annotated[int, typer.Option(min=0, help="Resamples of stimuli and subjects; 0 for none.")] = 0,
    store: opt.Store = None,
    out: opt.Out = None,
    device: opt.Device = "auto",
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
) -> None:
    """Compare the geometry of features with recorded data or other features (RSA, CKA, CCA, shape, neighbours)."""
    import neuroalign as na
    from neuroalign.alignment.comparison import check_arguments
    from neuroalign.alignment.comparison_inputs import match
    from neuroalign.alignment.metrics import resolve_metrics
    from neuroalign.cli.checks import check_models, hushed, stand_in

    if targets is not None and responses is not None:
        raise typer.BadParameter("give --targets or --responses, not both.", param_hint="--responses")
    metrics = resolve_metrics(metric or "rsa.spearman", ("rdm", "features"))
    check_models(models, zoo)
    rows = na.load_stimuli(stimuli)
    other = na.load_responses(responses) if responses else na.load_rdms(targets) if targets else None
    check_arguments(metrics, rdm, None, permutations, bootstraps, ceiling, (), None, other)
    expected = stand_in(rows, streams=streams, pooling=pooling)
    if expected:
        with hushed():
            match(expected, expected if other is None else other, on_missing)
    features = load_features(models, rows, layers=layers, streams=streams, pooling=pooling, store=store,
                             device=device, random_state=random_state, quiet=quiet, zoo=zoo)
    scores = na.compare(
        features, features if other is None else other, rdm=rdm, ceiling=ceiling, n_permutations=permutations,
        n_bootstraps=bootstraps, on_missing=on_missing, device=device, random_state=random_state, progress=not quiet,
        **({"metric": [m.name for m in metrics]} if metric else {}),
    )
    finish(scores, out)


def report(
    folder: Annotated[Path, typer.Argument(help="Folder with scores (*.nc).")],
    out: Annotated[Path | None, typer.Option(help="Default: FOLDER/report.html.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the report.")] = None,
) -> None:
    """Write one self-contained HTML report of all the scores in a folder."""
    from neuroalign.reports import load_report_folder
    from neuroalign.reports import report as write_report

    path = write_report(load_report_folder(folder), out or folder / "report.html", title=title or folder.resolve().name)
    print(f"report: {path}")


def finish(scores, out: Path | None, ranked: bool = True) -> None:
    """Print scores, the best first or in their own order (of layers), and write them."""
    from neuroalign.cli.tables import print_table
    from neuroalign.data import scores as score_tools

    frame = score_tools.to_frame(scores).dropna(axis="columns", how="all")
    shown, title = _best_scores(frame) if ranked else (frame, f"{len(frame)} scores")
    wanted = ["metric", "space", "space_b", "neuroid", "target", "time_bin", "score", "baseline", "drift", "shuffled",
              "ceiling_lower", "ceiling", "ci_low", "ci_high", "p", "q", "p_max", "n"]
    shown = shown[[c for c in wanted if c in shown]].astype({"n": "Int64"} if "n" in shown else {})
    print_table(shown, title=title)
    if out is not None:
        print(f"scores: {score_tools.save(scores, out)}")


def _best_scores(frame, rows: int = 40):
    """The best scores of each metric, since scores of two metrics do not compare, and a title that says so."""
    from neuroalign.alignment import METRICS

    if "n" in frame:
        frame = frame[frame["score"].notna() | frame["n"].notna()]  # measures that these spaces do not have
    title = f"{len(frame)} scores"
    if "space_b" in frame and set(frame["space"]) == set(frame["space_b"]):
        symmetric = frame["metric"].isin([m for m in METRICS if METRICS[m].symmetric])
        twice = symmetric & frame[["space", "space_b"]].agg(frozenset, axis=1).to_frame().assign(
            metric=frame["metric"]).duplicated()
        frame = frame[(frame["space"] != frame["space_b"]) & ~twice]
        title += f", {len(frame)} without spaces against themselves and pairs turned round"
    names = list(dict.fromkeys(frame["metric"]))
    each = max(rows // max(len(names), 1), 5)
    lower = frame["metric"].isin([m for m in names if m in METRICS and METRICS[m].direction == "lower"])
    order = frame["score"].where(~lower, -frame["score"]).sort_values(ascending=False).index
    found = frame.loc[order].groupby("metric", sort=False).head(each).sort_values("metric", kind="stable")
    if len(found) < len(frame):
        title += f", best {each}" + (" of each metric" if len(names) > 1 else "")
    return found, title
