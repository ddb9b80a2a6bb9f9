"""How far a long null or resampling is."""

from tqdm.auto import tqdm

__all__ = ["part_of", "progress_bar"]

PATIENCE = 2.0  # seconds before a progress bar is shown


def progress_bar(what: str, progress: bool, total: int | None = None) -> tqdm:
    """Return a bar that shows after two seconds and is told how many of a total are done, or which share of all."""
    if total is None:  # rounded shares may sum to a trifle more than 1
        style = {"total": 1 + 1e-9, "bar_format": "{l_bar}{bar}| {elapsed}<{remaining}"}
    else:
        style = {"total": total}
    return tqdm(desc=what, disable=not progress, delay=PATIENCE, dynamic_ncols=True, **style)


def part_of(tick, share: float):
    """Return what is told which share of a part was just done, and tells `tick` which share of all that is."""
    return lambda done: tick(done * share)
