"""``neuroalign zoo`` and ``neuroalign extract``."""

from pathlib import Path
from typing import Annotated

import typer

Zoo = Annotated[Path | None, typer.Option("--zoo", help="A YAML file with zoo entries of your own.")]
Models = Annotated[list[str], typer.Argument(help="Zoo id, ID@random, local folder or hub id.", show_default=False)]
Stimuli = Annotated[str, typer.Option(help="Data set name, CSV/TSV with a stimulus_id column, or folder of images.")]
Layers = Annotated[list[str], typer.Option(help="Layer path or pattern (repeat); 'all' for every layer.")]
Streams = Annotated[list[str] | None, typer.Option("--stream", help="text, image, special, all, word (repeat).")]
Outputs = Annotated[list[str], typer.Option("--output", help="hidden, surprisal, entropy (repeat).")]
Store = Annotated[Path | None, typer.Option(help="Folder of the feature store (default: the user cache folder).")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option("--random-state", help="Seed of everything random.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")]


def zoo_list(zoo: Zoo = None) -> None:
    """List the models of the zoo."""
    import pandas as pd

    from neuroalign.cli.tables import print_table
    from neuroalign.models.zoo import list_models

    rows = [
        {"id": e.id, "family": e.family, "modalities": ", ".join(e.modalities), "objective": e.objective,
         "source": e.package.distribution if e.package else e.repository or "–", "licence": e.licence or "unknown"}
        for e in list_models(zoo)
    ]
    print_table(pd.DataFrame(rows))


def zoo_show(model: Annotated[str, typer.Argument(help="Zoo id.")], zoo: Zoo = None) -> None:
    """Show one zoo entry: where it comes from, how it was trained, its licence and its reference."""
    from neuroalign.models.zoo import get_entry

    entry = get_entry(model, zoo)
    for key, value in entry.model_dump(exclude_none=True).items():
        if isinstance(value, dict):
            value = ", ".join(f"{k}: {v}" for k, v in value.items() if v is not None)
        elif isinstance(value, (list, tuple)):
            value = ", ".join(map(str, value))
        print(f"{key + ':':<20} {value}")
    if entry.package is None and entry.revision is None:
        print(f"{'revision:':<20} unpinned (the commit that was loaded is recorded with the features)")


def extract(
    models: Models,
    stimuli: Stimuli,
    layers: Layers = ["all"],  # noqa: B006 (typer copies it)
    streams: Streams = None,
    pooling: Annotated[str, typer.Option(help="mean, max, cls, last or flatten.")] = "mean",
    outputs: Outputs = ["hidden"],  # noqa: B006
    store: Store = None,
    batch_size: Annotated[int | None, typer.Option(help="Default: found automatically.")] = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="Compute dtype: float32, bfloat16, float16.")] = "float32",
    context: Annotated[int, typer.Option(help="Tokens of context for words.")] = 512,
    random_state: Seed = 0,
    quiet: Quiet = False,
    zoo: Zoo = None,
) -> None:
    """Extract layerwise features of one or more models into the store."""
    import neuroalign as na
    from neuroalign.cli.tables import print_table

    features = na.extract(
        list(models), na.load_stimuli(stimuli), layers=layer_choice(layers), streams=streams, pooling=pooling,
        outputs=tuple(outputs), store=store, batch_size=batch_size, device=device, dtype=dtype, context=context,
        random_state=random_state, progress=not quiet, zoo=zoo,
    )
    print_table(features.spaces.reset_index(drop=True), title=f"{len(features)} feature spaces")


def layer_choice(layers: list[str]):
    return "all" if list(layers) == ["all"] else list(layers)
