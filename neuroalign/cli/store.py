"""``neuroalign store``: what the feature store holds, whether it is sound, what may go, and merging."""

from pathlib import Path
from typing import Annotated

import typer

Folder = Annotated[Path | None, typer.Option("--store", help="Folder of the store (default: the user cache folder).")]


def store_ls(store: Folder = None) -> None:
    """List the entries of the store: model, key, stimuli, how much of them is finished, size."""
    from neuroalign.cli.tables import print_table

    opened = _open(store)
    table = opened.ls()
    print_table(table.drop(columns=["path"]), title=f"{opened.path}: {_count(len(table), 'entry', 'entries')}, "
                f"{table.mb.sum():.1f} MB")


def store_verify(
    store: Folder = None,
    model: Annotated[str | None, typer.Option(help="Only the entries of this model.")] = None,
) -> None:
    """Read every array against its checksums; exit code 1 if one is corrupt."""
    from neuroalign.cli.tables import print_table

    opened = _open(store)
    table = opened.check(model)
    print_table(table.drop(columns=["file"]), title=f"{opened.path}: {_count(len(table), 'array', 'arrays')}")
    counts = table.state.value_counts()
    print(", ".join(f"{counts.get(state, 0)} {state}" for state in ("ok", "partial", "corrupt")))
    if counts.get("corrupt", 0):
        print("Run the same extraction again: it rebuilds what is damaged.")
        raise typer.Exit(1)


def store_gc(
    store: Folder = None,
    older_than: Annotated[float, typer.Option(help="Hours since it was last touched.")] = 1.0,
) -> None:
    """Remove what killed runs left behind: temporary files, locks, arrays without a finished shard."""
    from neuroalign.cli.tables import print_table

    removed = _open(store).gc(older_than=3600 * older_than)
    if len(removed):
        print_table(removed)
    print(f"removed {_count(len(removed), 'leftover', 'leftovers')}, {removed.bytes.sum() / 1e6:.1f} MB")


def store_merge(
    sources: Annotated[list[Path], typer.Argument(help="Stores to copy from.", show_default=False)],
    store: Annotated[Path, typer.Option("--store", help="Store to copy into; made if it is not there.")],
) -> None:
    """Merge the stores of a job array without a shared disk; every shard is verified on the way."""
    from neuroalign.cli.tables import print_table
    from neuroalign.features import merge_stores

    print_table(merge_stores(sources, store), title=f"merged into {store}")


def _open(path: Path | None):
    from neuroalign.features import FeatureStore

    opened = FeatureStore(path)
    if path is not None and not opened.path.is_dir():
        raise FileNotFoundError(f"store: no folder {str(path)!r}.")
    return opened


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
