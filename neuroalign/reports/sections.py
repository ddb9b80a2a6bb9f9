"""What a report is made of: sections with text, figures, tables and Scores."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from neuroalign import plots
from neuroalign.data import scores as scores_
from neuroalign.errors import list_ids
from neuroalign.plots.select import metric_label, select, spaces_table

__all__ = ["Picture", "Section", "Table", "as_sections", "default_pictures", "default_sections", "load_report_folder"]

MOST_BARS, MOST_SITES = 4, 3


@dataclass(frozen=True)
class Picture:
    """A figure with its words and its data.

    Attributes
    ----------
    figure : matplotlib Figure, or path of a PNG
    caption : str
        Stands before the figure's own, which says how to read it (`neuroalign.plots` figures carry one).
    alt : str
        What it shows, for those who cannot see it; by default the figure's own, else the caption.
    data : DataFrame, optional
        The numbers drawn: offered as CSV.
    """

    figure: Figure | str | Path
    caption: str = ""
    alt: str = ""
    data: pd.DataFrame | None = None


@dataclass(frozen=True)
class Table:
    """A table with its caption; the report shows it sortable and offers it as CSV."""

    frame: pd.DataFrame
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """One part of a report.

    Attributes
    ----------
    title : str
    text : str
        Paragraphs are separated by an empty line; ``code`` in backticks and **bold** are the only marks.
    figures : sequence of Figure, path or Picture
        Empty: those that `default_pictures` decides for `scores`.
    tables : sequence of DataFrame, (caption, DataFrame) or Table
    scores : Dataset or sequence of Dataset
        Shown as tables; their attrs give the methods, warnings and provenance of the report.
    notes : sequence of str
        Limits and remarks, set apart.
    real, planted : sequence of str
        What in this section was measured or trained for real, and what was simulated with a known answer.
    """

    title: str
    text: str = ""
    figures: Sequence = ()
    tables: Sequence = ()
    scores: Sequence[xr.Dataset] | xr.Dataset = ()
    notes: Sequence[str] = ()
    real: Sequence[str] = ()
    planted: Sequence[str] = ()

    def score_list(self) -> list[xr.Dataset]:
        """Return the Scores as a list."""
        return [self.scores] if isinstance(self.scores, xr.Dataset) else list(self.scores)


def as_sections(content) -> list[Section]:
    """Turn what `report` accepts into sections.

    Raises
    ------
    TypeError, ValueError
        If an item is neither Scores nor Section, or nothing was given.
    """
    items = [content] if isinstance(content, (xr.Dataset, Section)) else list(content)
    if not items:
        raise ValueError("report: no content given; expected Scores or Sections, one or several.")
    sections = []
    for item in items:
        if isinstance(item, Section):
            for scores in item.score_list():
                scores_.validate(scores)
            pictures = item.figures or [p for s in item.score_list() for p in default_pictures(s)]
            sections.append(replace(item, figures=pictures))
        elif isinstance(item, xr.Dataset):
            sections += default_sections(item)
        else:
            raise TypeError(f"report: got an item of type {type(item).__name__}, expected Scores (an xarray.Dataset) "
                            "or a neuroalign.reports.Section.")
    return sections


def default_sections(scores: xr.Dataset, title: str | None = None) -> list[Section]:
    """Return the section that shows plain Scores: figures by their shape, and the table."""
    scores_.validate(scores)
    dim = next((d for d in ("neuroid", "target", "space_b") if d in scores["score"].dims), None)
    metrics = ", ".join(metric_label(str(m)) for m in scores["metric"].values)
    table = spaces_table(scores)
    n_models, n_twins = (table.loc[table["twin"] == twin, "model"].nunique() for twin in (False, True))
    n_spaces = scores.sizes["space"]
    words = {"neuroid": "measured units", "target": "targets", "space_b": "spaces to compare with", None: ""}
    text = f"{_count(n_spaces, 'feature space')} of {_count(n_models, 'model')}"
    if n_twins:
        text += f" and {_count(n_twins, 'random network')}"
    if dim:
        text += f", {scores.sizes[dim]:,} {words[dim]}"
    text += f". Measured by {metrics}."
    title = title or ("Encoding" if dim == "neuroid" else "Comparison") + f": {metrics}"
    return [Section(title, text, default_pictures(scores), scores=scores)]


def default_pictures(scores: xr.Dataset) -> list[Picture]:
    """Decide the figures of plain Scores, for each metric.

    A depth profile where a model has several layers, bars where spaces are few, a matrix where there are
    several spaces and targets, a map of sites where neuroids have coordinates; along time, curves or a heat map
    of the layers.
    """
    pictures = []
    for metric in map(str, scores["metric"].values):
        timed = "time_bin" in scores["score"].dims
        data = select(scores, metric, timed=timed)
        n_units = data.sizes["unit"]
        frame = scores_.to_frame(scores.sel(metric=[metric]))
        layers = spaces_table(scores).groupby(["model", "stream"])["layer"].nunique().max()
        if timed:
            few = scores.sizes["space"] <= MOST_BARS
            pictures.append((plots.time_course if few else plots.layer_time)(scores, metric))
        elif data.attrs["_unit"] == "space_b":
            pictures.append(plots.matrix(scores, metric))
        else:
            if layers > 1:
                pictures.append(plots.layer_profile(scores, metric))
            if scores.sizes["space"] <= MOST_BARS:
                pictures.append(plots.bars(scores, metric))
            elif n_units > 1:
                pictures.append(plots.matrix(scores, metric))
            pictures += _maps(scores, metric)
        pictures = [p if isinstance(p, Picture) else Picture(p, data=frame) for p in pictures]
    return pictures


def load_report_folder(folder) -> list[Section]:
    """Read all the Scores (``*.nc``) of a folder, one section a file, in the order of their names.

    Raises
    ------
    FileNotFoundError
        If there is no folder, or no Scores in it.
    ValueError
        Naming a file that does not hold Scores.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"report: no folder {str(folder)!r}.")
    files = sorted(folder.glob("*.nc"))
    if not files:
        raise FileNotFoundError(f"report: no Scores (*.nc) in {str(folder)!r}. Write some with "
                                "neuroalign.scores.save(scores, 'folder/name.nc').")
    sections, broken = [], []
    for file in files:
        try:
            sections += default_sections(scores_.load(file), title=file.stem.replace("_", " "))
        except (ValueError, OSError, TypeError) as error:
            broken.append((file.name, error))
    if broken:
        raise ValueError(f"report: {list_ids(name for name, _ in broken)} in {str(folder)!r} do not hold Scores "
                         f"({broken[0][1]}). Move them away.")
    return sections


def _maps(scores, metric) -> list[Figure]:
    if not {"x", "y", "z", "q"} <= {*scores.coords, *scores.data_vars} or "neuroid" not in scores.dims:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # sites without coordinates: said once, by the section's own table
        return [plots.sites(scores, metric=metric, space=space, title=str(space))
                for space in scores["space"].values[:MOST_SITES]]


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"
