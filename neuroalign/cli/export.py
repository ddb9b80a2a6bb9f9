"""``neuroalign export``."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    scores: Annotated[Path, typer.Argument(help="Scores (*.nc) that a command wrote with --out.")],
    out: Annotated[Path, typer.Argument(help="File (csv, tsv, netcdf), or folder (bids, nifti, gifti, evoked).")],
    to: Annotated[str | None, typer.Option(help="csv, tsv, netcdf, bids, nifti, gifti or evoked; by default what the "
                                                "ending of OUT says.")] = None,
    like: Annotated[str | None, typer.Option(help="For nifti and gifti: the responses that were encoded (netCDF of "
                                                  "from_nilearn).")] = None,
    montage: Annotated[str | None, typer.Option(help="For evoked: a montage that MNE has, such as biosemi64.")] = None,
    kind: Annotated[str | None, typer.Option(help="For bids: what was recorded (fmri, seeg, ecog, eeg, meg).")] = None,
    task: Annotated[str | None, typer.Option(help="For bids: name of the task.")] = None,
    metric: Annotated[str | None, typer.Option(help="Only this metric.")] = None,
) -> None:
    """Write scores as a table, a BIDS derivative, images of the brain or MNE evoked responses."""
    import neuroalign as na
    from neuroalign.data import scores as score_tools

    responses = None if like is None else na.load_responses(like)
    for path in na.reports.export(score_tools.load(scores), out, to, like=responses, info=montage, kind=kind, task=task,
                                  metric=metric):
        print(path)
