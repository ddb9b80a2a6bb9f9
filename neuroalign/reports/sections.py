"""What a report is made of: sections with text, figures, tables and Scores."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
import xarray as xr

from neuroalign.data import scores as scores_
from neuroalign.data.scores import attrs_of
from neuroalign.errors import list_ids
from neuroalign.plots.select import metric_label, spaces_table
from neuroalign.reports.pictures import Picture, comparison_pictures, default_pictures

__all__ = ["Section", "Table", "as_sections", "default_sections", "load_report_folder"]

TITLES = {
    "encode": "Encoding", "encode_banded": "Encoding with bands", "encode_stimuli": "Encoding, patterns of stimuli",
    "partition_variance": "Unique and shared variance", "site_tests": "Site tests",
    "group_scores": "Means over subjects", "difference": "Difference",
    "compare": "Comparison", "matching": "Matching", "judgements": "Judgements",
    "modality_gap": "Modality gap", "information_flow": "Information flow", "ablation": "Ablation",
    "logit_lens": "Logit lens", "interventional_encoding": "Sites that lose when a flow is cut",
}


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
            sections.append(item)
        elif isinstance(item, xr.Dataset):
            sections.append(_plain_section(item))
        else:
            raise TypeError(f"report: got an item of type {type(item).__name__}, expected Scores (an xarray.Dataset) "
                            "or a neuroalign.reports.Section.")
    sections = _numbered(sections)
    every = [s for section in sections for s in section.score_list()]
    return [section if section.figures else replace(section, figures=_pictures(section, every))
            for section in sections]


def default_sections(scores: xr.Dataset, title: str | None = None) -> list[Section]:
    """Return the section that shows plain Scores: figures by their analysis and shape, and the table."""
    return [replace(_plain_section(scores, title), figures=default_pictures(scores))]


def load_report_folder(folder) -> list[Section]:
    """Read all the Scores (``*.nc``) of a folder, one section a file, in the order of their names.

    The sections have no figures yet: `report` decides them, and draws site tests with the scores that were tested.

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
            sections.append(_plain_section(scores_.load(file), title=file.stem.replace("_", " ")))
        except (ValueError, OSError, TypeError) as error:
            broken.append((file.name, error))
    if broken:
        raise ValueError(f"report: {list_ids(name for name, _ in broken)} in {str(folder)!r} do not hold Scores "
                         f"({broken[0][1]}). Move them away.")
    return sections


def _numbered(sections: list[Section]) -> list[Section]:
    """Number the sections that share a title, so that the summary tells them apart."""
    count, seen = Counter(s.title for s in sections), Counter()
    numbered = []
    for section in sections:
        seen[section.title] += 1
        same = count[section.title] > 1
        numbered.append(replace(section, title=f"{section.title} ({seen[section.title]})") if same else section)
    return numbered


def _pictures(section: Section, every) -> list[Picture]:
    pictures = []
    for scores in section.score_list():
        pictures += comparison_pictures(scores, every) + default_pictures(scores)
    return pictures


def _plain_section(scores: xr.Dataset, title: str | None = None) -> Section:
    scores_.validate(scores)
    attrs = attrs_of(scores)
    metrics = ", ".join(metric_label(str(m)) for m in scores["metric"].values)
    dim = next((d for d in ("neuroid", "target", "space_b") if d in scores["score"].dims), None)
    analysis = str(attrs.get("analysis") or attrs.get("kind"))
    analysis = TITLES.get(analysis, "Encoding" if dim == "neuroid" else "Comparison")
    text = f"{_what(scores, attrs)}{_units(scores, dim)}. Measured by {metrics}."
    if attrs.get("residualize"):
        sides = "features and responses" if attrs["residualize"] == "both" else "features"
        text += f" The nuisance was taken out of the {sides}."
    return Section(title or f"{analysis}: {metrics}", text, scores=scores)


def _what(scores, attrs) -> str:
    if attrs.get("analysis") == "site_tests":
        return _count(scores.sizes["space"], "comparison")
    if attrs.get("analysis") == "difference":
        return "The scores of " + " less those of ".join(f"`{space}`" for space in attrs["difference"])
    if attrs.get("bands"):
        return _count(len(attrs["bands"]), "band") + " of features"
    table = spaces_table(scores)
    n_models, n_twins = (table.loc[table["twin"] == twin, "model"].nunique() for twin in (False, True))
    said = f"{_count(scores.sizes['space'], 'feature space')} of {_count(n_models, 'model')}"
    return said + (f" and {_count(n_twins, 'random network')}" if n_twins else "")


def _units(scores, dim) -> str:
    words = {"neuroid": "measured unit", "target": "target", "space_b": "space"}
    if dim is None:
        return ""
    bins = f", {_count(scores.sizes['time_bin'], 'time bin')}" if "time_bin" in scores["score"].dims else ""
    return f", {_count(scores.sizes[dim], words[dim])}" + (" to compare with" if dim == "space_b" else "") + bins


def _count(n: int, word: str) -> str:
    return f"{n:,} {word}" if n == 1 else f"{n:,} {word}s"
