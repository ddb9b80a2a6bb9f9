"""``neuroalign data``, ``demo`` and ``doctor``."""

from pathlib import Path
from typing import Annotated

import typer

from neuroalign.cli import options as opt

DataSet = Annotated[str, typer.Argument(help="Data set name or manifest file.")]


def data_list() -> None:
    """List the data sets and where their files would come from."""
    import pandas as pd

    from neuroalign.cli.tables import print_table
    from neuroalign.data import list_manifests, load_manifest, where_available

    rows = []
    for name in list_manifests():
        manifest = load_manifest(name)
        rows.append({"name": name, "title": manifest.title, "licence": manifest.licence,
                     "files": len(manifest.files), "available": where_available(manifest)})
    print_table(pd.DataFrame(rows))


def data_fetch(name: DataSet) -> None:
    """Fetch every file of a data set (package, mirror, cache, then the published address) and verify it."""
    from neuroalign.data import fetch_file, load_manifest, why_unavailable

    manifest = load_manifest(name)
    if not manifest.files:
        print(why_unavailable(manifest))
        raise typer.Exit(1)
    for file in manifest.files:
        checked = "sha256 verified" if file.sha256 else "UNVERIFIED: the manifest states no sha256"
        print(f"{fetch_file(manifest, file)}  ({checked})")


def data_verify(name: DataSet) -> None:
    """Read the files of a data set that lie here against their sha256; exit code 1 if one is damaged or absent."""
    import pandas as pd

    from neuroalign.cli.tables import print_table
    from neuroalign.data import check_files

    table = pd.DataFrame(check_files(name), columns=["file", "state", "place"])
    if table.empty:
        print(f"{name}: unverified, the manifest lists no files.")
        raise typer.Exit(1)
    print_table(table)
    counts = table["state"].value_counts()
    print(", ".join(f"{n} {state}" for state, n in counts.items()))
    if not {"damaged", "absent"}.isdisjoint(counts.index):
        raise typer.Exit(1)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for figures, scores and report.")] = Path("out"),
    store: Annotated[Path | None, typer.Option(help="Feature store (default: OUT/store).")] = None,
    random_state: opt.Seed = 0,
) -> None:
    """Run the main job on what is at hand and say where the report is."""
    from neuroalign.demo import run_demo

    run_demo(out, store=store, random_state=random_state)


def doctor() -> None:
    """Check versions, device, packaged models, data, and the folders in use."""
    import os

    import pandas as pd
    import torch

    from neuroalign.cli.tables import print_table
    from neuroalign.data import home, list_manifests, load_manifest, where_available
    from neuroalign.data.scores import provenance
    from neuroalign.linalg import free_memory, resolve
    from neuroalign.models.zoo import list_models

    facts = provenance()
    device = resolve("auto")
    rows = [(name, version) for name, version in facts["versions"].items()]
    rows += [
        ("python", facts["python"]),
        ("platform", facts["platform"]),
        ("device", str(device)),
        ("free memory", f"{free_memory(device) / 2**30:.1f} GiB"),
        ("torch threads", str(torch.get_num_threads())),
        ("NEUROALIGN_HOME", str(home())),
    ]
    rows += [(name, os.environ.get(name) or "not set") for name in ("NEUROALIGN_MIRROR", "NEUROALIGN_DEVICE")]
    print_table(pd.DataFrame(rows, columns=["what", "found"]))
    rows = [(e.id, _packaged(e.package)) for e in list_models() if e.package]
    print_table(pd.DataFrame(rows, columns=["packaged model", "found"]))
    rows = [(name, where_available(load_manifest(name))) for name in list_manifests()]
    print_table(pd.DataFrame(rows, columns=["data set", "found"]))


def _packaged(package) -> str:
    """Say whether the file of a packaged model is there and is the right one, or how to get it."""
    from neuroalign.data.packages import find_file
    from neuroalign.errors import NeuroalignError

    try:
        find_file(package.distribution, package.path, package.sha256, pip=package.pip)
    except (NeuroalignError, FileNotFoundError) as error:
        return str(error)
    return f"{package.distribution}, sha256 verified"
