"""``neuroalign zoo``, ``extract`` and ``verify``."""

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from neuroalign.cli import options as opt
from neuroalign.cli.failures import EXPECTED, print_failure

Known = Annotated[str, typer.Argument(help="Zoo id.")]


def zoo_list(zoo: opt.Zoo = None) -> None:
    """List the models of the zoo."""
    import pandas as pd

    from neuroalign.cli.tables import print_table
    from neuroalign.models.zoo import list_models

    rows = [
        {"id": e.id, "family": e.family, "modalities": ", ".join(e.modalities), "objective": e.objective,
         "source": "packaged" if e.package else e.repository or e.source,
         "licence": e.licence or "unknown"}
        for e in list_models(zoo)
    ]
    print_table(pd.DataFrame(rows))


def zoo_show(model: Known, zoo: opt.Zoo = None) -> None:
    """Show one zoo entry: where it comes from, how it was trained, its licence and its reference."""
    from neuroalign.models.zoo import get_entry

    entry = get_entry(model, zoo)
    for key, value in entry.model_dump(exclude_none=True).items():
        if value in (False, "", ()) or value == []:
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        print(f"{key + ':':<20} {value}")
    if entry.repository is not None and entry.revision is None:
        print(f"{'revision:':<20} unpinned (the commit that was loaded is recorded with the features)")


def zoo_twins(model: Known, zoo: opt.Zoo = None) -> None:
    """List the twins of a model: runs of one modality, unimodal towers, random weights."""
    from neuroalign.models import list_twins

    print("\n".join(list_twins(model, zoo)))


def zoo_layers(
    model: Annotated[str, typer.Argument(help="Zoo id, ID@random, local folder or hub id.")],
    taps: opt.Taps = ["block"],  # noqa: B006
    zoo: opt.Zoo = None,
) -> None:
    """List the layers of a model: the names that --layers takes."""
    import pandas as pd

    from neuroalign.cli.tables import print_table
    from neuroalign.models import load_model

    loaded = load_model(model, device="cpu", zoo=zoo)
    layers = loaded.adapter.layers(loaded, tuple(taps))
    rows = [{"layer": x.name, "depth": x.depth, "tower": x.tower, "streams": ", ".join(x.streams)} for x in layers]
    print_table(pd.DataFrame(rows), title=f"{loaded.id}: {len(rows)} layers")


def extract(
    models: opt.Models,
    stimuli: opt.Stimuli,
    layers: opt.Layers = ["all"],  # noqa: B006 (typer copies it)
    streams: opt.Streams = None,
    pooling: Annotated[str, typer.Option(help="mean, max, cls, last, flatten, none or moment.")] = "mean",
    outputs: opt.Outputs = ["hidden"],  # noqa: B006
    taps: opt.Taps = ["block"],  # noqa: B006
    projection: Annotated[str | None, typer.Option(help="Components of wider rows: 300 (random) or pca:50.")] = None,
    fit_on: Annotated[Path | None, typer.Option(help="File of stimulus ids, one a line, that the PCA is fitted on.")]
    = None,
    store: opt.Store = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: found automatically.")] = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    storage_dtype: Annotated[str, typer.Option(help="float32, float16 or bfloat16.")] = "float32",
    context: Annotated[int, typer.Option(help="Tokens of context for words.")] = 512,
    on_error: Annotated[str, typer.Option(help="raise, or skip: NaN rows for stimuli that fail.")] = "raise",
    shard: Annotated[str | None, typer.Option(help="i/n, i from 0: compute one part of n (job arrays).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be made, and store nothing.")] = False,
    twins: Annotated[bool, typer.Option("--twins", help="Also the twins of each model, as `zoo twins` lists them.")]
    = False,
    random_state: opt.Seed = 0,
    quiet: opt.Quiet = False,
    zoo: opt.Zoo = None,
) -> None:
    """Extract layerwise features of models into the store; one that fails does not keep the next from running."""
    import neuroalign as na
    from neuroalign.cli.tables import print_table
    from neuroalign.features import FeatureSet, FeatureStore
    from neuroalign.models import list_twins

    part = None if shard is None else parse_shard(shard)
    names = [n for m in models for n in (m, *(list_twins(m, zoo) if twins else ()))]
    names, rows = list(dict.fromkeys(names)), na.load_stimuli(stimuli)
    options = {
        "layers": layer_choice(layers), "streams": streams, "pooling": pooling, "outputs": tuple(outputs),
        "taps": tuple(taps), "projection": parse_projection(projection, fit_on), "device": device, "dtype": dtype,
        "storage_dtype": storage_dtype, "context": context, "on_error": on_error, "random_state": random_state,
        "zoo": zoo,
    }
    if dry_run:
        table = na.estimate(names, rows, store=store, **options)
        print_table(table, title=f"{len(table)} feature spaces would take {table.disk_mb.sum():.1f} MB on disk, and "
                                 f"{table.memory_mb.max():.0f} MB of memory beside the libraries")
        return
    features, where = FeatureSet([]), FeatureStore(store).path

    def extract_one(name):
        nonlocal features
        features |= na.extract(name, rows, store=store, batch_size=batch_size, shard=part, progress=not quiet,
                               **options)

    failed = _each_model(extract_one, names)
    print_table(features.spaces.reset_index(drop=True), title=f"{len(features)} feature spaces in {where}")
    if part and not len(features):
        print(f"part {shard} is done; the spaces are complete when all {part[1]} parts are.")
    _name_failed(failed, names)


def verify(
    models: opt.Models,
    stimuli: Annotated[str | None, typer.Option(help="Default: six texts, pictures, sounds or videos.")] = None,
    tolerance: Annotated[float, typer.Option(help="Largest relative difference that passes.")] = 1e-4,
    store: opt.Store = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    random_state: opt.Seed = 0,
    zoo: opt.Zoo = None,
) -> None:
    """Prove that the features of models do not depend on how they are computed; exit code 1 if they do, or if a model
    cannot be checked."""
    import neuroalign as na
    from neuroalign.cli.tables import print_table

    rows, failed = None if stimuli is None else na.load_stimuli(stimuli), []

    def verify_one(model):
        table = na.verify(model, rows, tolerance=tolerance, store=store, device=device, dtype=dtype,
                          random_state=random_state, zoo=zoo)
        about = table.attrs
        shown = table.assign(difference=["–" if d != d else f"{d:.2g}" for d in table.difference])
        verdict = "passed" if about["passed"] else "FAILED"
        print_table(shown, title=f"{about['model']} on {about['device']} in {about['dtype']}: {verdict}")
        if not about["passed"]:
            failed.append(model)

    not_run = _each_model(verify_one, models)
    _name_failed(not_run, models)
    if failed:
        raise typer.Exit(1)


def load_features(models: list[str], stimuli, *, layers: list[str], quiet: bool, **options):
    """Return the features of models on a StimulusSet, extracted or from the store; `options`: those of `na.extract`."""
    import neuroalign as na

    return na.extract(list(models), stimuli, layers=layer_choice(layers), progress=not quiet, **options)


def _each_model(do, names: list[str]) -> list[str]:
    """Call `do` with each model and return those that failed; where there is but one, its error is raised."""
    failed = []
    for name in names:
        try:
            do(name)
        except EXPECTED as error:
            if len(names) == 1:
                raise
            print_failure(error)
            failed.append(name)
        gc.collect()  # the next model needs the memory
    return failed


def _name_failed(failed: list[str], names: list[str]) -> None:
    """End with exit code 1 if models failed, naming them once more."""
    if failed:
        print(f"neuroalign: {len(failed)} of {len(names)} models failed: {', '.join(failed)}.", file=sys.stderr)
        raise typer.Exit(1)


def parse_shard(text: str) -> tuple[int, int]:
    """Return ``i/n`` as two numbers."""
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and int(i) < int(n)):
        raise typer.BadParameter(f"got {text!r}, expected i/n with i from 0 to n - 1, for example 0/4.",
                                 param_hint="--shard")
    return int(i), int(n)


def parse_projection(text: str | None, fit_on: Path | None = None):
    """Return a number of components as such, ``pca:K`` with the ids of a file as a `PCA`."""
    if fit_on is None:
        return int(text) if text and text.isdecimal() else text
    if not (text or "").startswith("pca:"):
        raise typer.BadParameter("needs --projection pca:K.", param_hint="--fit-on")
    from neuroalign.features import PCA
    from neuroalign.features.projection import parse_projection as parse

    return PCA(parse(text).n_components, [i for i in fit_on.read_text(encoding="utf-8").splitlines() if i])


def layer_choice(layers: list[str]):
    return "all" if list(layers) == ["all"] else list(layers)
