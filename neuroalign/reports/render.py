"""Figures, tables and words as safe pieces of HTML."""

import base64
import io
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from markupsafe import Markup, escape

from neuroalign.plots.select import space_label
from neuroalign.reports.pictures import Picture
from neuroalign.reports.sections import Table

__all__ = ["picture", "prose", "score_frame", "slug", "table"]

DPI = 192
MOST_ROWS = 400
MISSING = {"ceiling": "unavailable", "reliability": "unavailable", "p < 0.05": "not tested",
           "q < 0.05": "not tested", "p of highest": "not tested"}
PROBABILITIES = ("p", "q", "p_max", "p of highest")
HEADINGS = {"ci_low": "interval low", "ci_high": "interval high", "null_mean": "null mean", "null_sd": "null sd",
            "ceiling_lower": "ceiling, lower", "best_alpha": "alpha", "neuroid": "unit", "space_b": "space B",
            "baseline": "nuisance alone", "drift": "time alone", "shuffled": "features shuffled",
            "p_max": "p (maximum)"}


def prose(text: str | Iterable[str]) -> Markup:
    """Turn plain words into paragraphs; everything is escaped, then `code` and **bold** are marked up.

    Examples
    --------
    >>> prose("a <b> and `c`")
    Markup('<p>a &lt;b&gt; and <code>c</code></p>')
    """
    parts = re.split(r"\n\s*\n", text.strip()) if isinstance(text, str) else list(text)
    return Markup("\n").join(Markup("<p>{}</p>").format(inline(p)) for p in parts if p.strip())


def inline(text: str) -> Markup:
    """Escape one line of words and mark up `code` and **bold**."""
    safe = str(escape(" ".join(str(text).split())))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", safe))


def slug(text: str, taken: set[str]) -> str:
    """Return an id for an HTML element, letters and digits only, unlike any in `taken` (which it joins)."""
    plain = unicodedata.normalize("NFKD", str(text)).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "part"
    name, k = base, 2
    while name in taken:
        name, k = f"{base}-{k}", k + 1
    taken.add(name)
    return name


def picture(item, name: str) -> dict:
    """Return what the template needs of a figure: the PNG as base64, width, words and the CSV of its data."""
    item = item if isinstance(item, Picture) else Picture(item)
    figure = item.figure
    data = item.data if item.data is not None else getattr(figure, "data", None)
    caption = " ".join(c for c in (item.caption, getattr(figure, "caption", "")) if c)
    alt = item.alt or getattr(figure, "alt", "") or caption or "Figure without description."
    if isinstance(figure, (str, Path)):
        png = Path(figure).read_bytes()
        if png[:8] != b"\x89PNG\r\n\x1a\n":
            raise ValueError(f"report: {str(figure)!r} is not a PNG file. Give a matplotlib Figure or a PNG.")
        width = int.from_bytes(png[16:20], "big") / 2
    elif hasattr(figure, "savefig"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        png, width = buffer.getvalue(), 96 * figure.get_figwidth()
    else:
        raise TypeError(f"report: got a figure of type {type(figure).__name__}, expected a matplotlib Figure, a "
                        "Picture or the path of a PNG.")
    return {"png": base64.b64encode(png).decode(), "width": round(width), "wide": width > 560, "name": name,
            "caption": inline(caption), "alt": " ".join(str(alt).split()),
            "csv": None if data is None else csv_uri(data)}


def table(item, name: str, caption: str = "") -> dict:
    """Return what the template needs of a table: headings, cells, the CSV of all of it."""
    if isinstance(item, tuple):
        item = Table(item[1], item[0])
    elif isinstance(item, pd.DataFrame):
        item = Table(item, caption)
    if not isinstance(item, Table):
        raise TypeError(f"report: got a table of type {type(item).__name__}, expected a DataFrame, a pair of "
                        "(caption, DataFrame) or a Table.")
    frame = item.frame
    if not isinstance(frame.index, pd.RangeIndex):
        frame = frame.reset_index()
    shown = frame.iloc[:MOST_ROWS]
    numeric = {c: pd.api.types.is_numeric_dtype(frame[c]) and not pd.api.types.is_bool_dtype(frame[c]) for c in frame}
    columns = [{"name": HEADINGS.get(str(c), str(c)), "numeric": numeric[c]} for c in frame]
    places = {c: _places(frame[c]) for c in frame if numeric[c]}
    rows = [[_cell(value, str(c), numeric[c], places.get(c, 0)) for c, value in zip(frame, row)]
            for row in shown.itertuples(index=False, name=None)]
    return {"name": name, "caption": item.caption or caption, "columns": columns, "rows": rows, "n": len(frame),
            "cut": len(frame) > MOST_ROWS, "csv": csv_uri(frame)}


def score_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop from a table of Scores what a reader does not need: empty columns, and repetitions."""
    keep = []
    for column in frame:
        empty = frame[column].isna().all() and column != "ceiling"
        blank = frame[column].astype(str).isin(["", "nan"]).all() and column != "ceiling"
        if not (empty or blank):
            keep.append(column)
    frame = frame[keep]
    if "space" in frame and not {"model", "layer"} <= set(frame):
        frame = frame.assign(space=frame["space"].map(space_label))
    elif {"model", "layer", "stream"} <= set(frame):
        frame = frame.drop(columns="space")
    drop = [c for c in ("space_id", "neuroid_id", "metric", "stream") if c in frame
            and (c.endswith("_id") or frame[c].nunique() == 1)]
    drop += [c for c in ("region",) if c in frame for u in ("neuroid", "target")
             if u in frame and (frame[c].astype(str) == frame[u].astype(str)).all()]
    frame = frame.drop(columns=drop)
    lead = ("metric", "model", "layer", "stream", "depth", "space", "space_b", "target", "neuroid")
    first = [c for c in lead if c in frame]
    return frame[first + [c for c in frame if c not in first]]


def csv_uri(frame: pd.DataFrame) -> str:
    """Return the whole table as a data URI of CSV."""
    index = not isinstance(frame.index, pd.RangeIndex)
    return "data:text/csv;base64," + base64.b64encode(frame.to_csv(index=index).encode()).decode()


def _places(column: pd.Series) -> int:
    values = column.to_numpy(dtype=float)
    values = values[np.isfinite(values)]
    if not values.size or (values == np.round(values)).all():
        return 0
    return 1 if np.abs(values).max() >= 1000 else 3


def _cell(value, column: str, numeric: bool, places: int) -> dict:
    if not numeric:
        missing = value is None or (isinstance(value, float) and np.isnan(value))
        return {"text": "–" if missing else str(value), "value": None, "short": len(str(value)) <= 26}
    if not np.isfinite(value):
        missing = np.isnan(value)
        words = next((said for start, said in MISSING.items() if column.startswith(start)), "–")
        return {"text": words if missing else str(value), "value": "" if missing else str(value)}
    if column in PROBABILITIES and 0 < value < 0.001:
        return {"text": "< 0.001", "value": repr(float(value))}
    said = f"{value:,.{places}f}" if abs(value) >= 10 ** -places / 2 or value == 0 else f"{value:.1e}"
    return {"text": said.replace("-", "−", 1) if said.startswith("-") else said, "value": repr(float(value))}
