"""One self-contained HTML file from Scores and sections."""

import base64
import datetime
import hashlib
import os
import uuid
from importlib import metadata
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from neuroalign.data import scores as scores_
from neuroalign.reports import facts
from neuroalign.reports.methods import methods
from neuroalign.reports.render import inline, picture, prose, score_frame, slug, table
from neuroalign.reports.sections import Section, as_sections

__all__ = ["report", "templates"]

FOLDER = Path(__file__).parent / "templates"


def report(content, path, *, title: str = "neuroalign report", summary=None) -> Path:
    """Write one HTML file that needs no network: figures, tables, methods, warnings, provenance.

    Parameters
    ----------
    content : Scores, Section, or a sequence of both
        Plain Scores get the figures that suit their shape (`neuroalign.reports.default_pictures`).
    path : str or Path
        The file is written whole or not at all; its folder is made.
    title : str
    summary : str or sequence of str, optional
        What was found, in words: shown first; a sequence becomes a list. Below it stand, for each of the Scores,
        the number of scores, how many have p and q below .05, and effect sizes.

    Returns
    -------
    Path

    Notes
    -----
    Everything from data is escaped, and the page forbids itself any script but its own and any request.
    """
    sections = as_sections(content)
    html = _render(sections, title, summary)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        part.write_text(html, encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def templates() -> Environment:
    """Return the environment of the templates: everything is escaped, an unknown name is an error."""
    return Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined,
                       trim_blocks=True, lstrip_blocks=True)


def _render(sections: list[Section], title: str, summary) -> str:
    taken = {"summary", "warnings", "methods", "references", "provenance", "top"}
    parts = [_part(section, slug(section.title, taken)) for section in sections]
    named = [(section.title, s) for section in sections for s in section.score_list()]
    all_scores = [s for _, s in named]
    script = (FOLDER / "report.js").read_text(encoding="utf-8")
    context = {
        "title": title,
        "summary": _summary(summary),
        "glance": _glance(named),
        "counts": [table(item, f"sites-{i}") for i, item in enumerate(facts.site_counts(all_scores), 1)],
        "parts": parts,
        "warnings": _frame(facts.warning_rows(named), "warnings"),
        "methods": [(name, inline(methods(s))) for name, s in named],
        "references": facts.references(all_scores),
        "provenance": _frame(facts.provenance_rows(named), "provenance", "How each part was made"),
        "versions": _frame(facts.versions(all_scores), "versions", "Versions"),
        "commit": facts.commit_of(Path.cwd()),
        "made": datetime.datetime.now().astimezone().strftime("%d %B %Y, %H:%M"),
        "version": metadata.version("neuroalign"),
        "style": Markup((FOLDER / "report.css").read_text(encoding="utf-8")),  # ours, not from data
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return templates().get_template("report.html.j2").render(context)


def _part(section: Section, name: str) -> dict:
    tables = [table(item, f"{name}-table-{i}") for i, item in enumerate(section.tables, 1)]
    several = len(section.score_list()) > 1
    for i, one in enumerate(section.score_list(), 1):
        caption = "All scores" + (f" ({i} of {len(section.score_list())})" if several else "")
        shown = table((caption, score_frame(scores_.to_frame(one))), f"{name}-scores-{i}")
        by_subject = _by_subject(one)
        tables.append(shown)
        if by_subject is not None:
            tables.append(table(("Over subjects" + (f" ({i})" if several else ""), by_subject),
                                f"{name}-subjects-{i}"))
    return {"id": name, "title": section.title, "text": prose(section.text), "tables": tables,
            "pictures": [picture(item, f"{name}-{i}") for i, item in enumerate(section.figures, 1)],
            "notes": [inline(n) for n in section.notes], "real": list(section.real), "planted": list(section.planted)}


def _by_subject(scores) -> pd.DataFrame | None:
    """Return how scores spread over subjects, or over the units of each subject, where the Scores hold several."""
    if "subject_score" in scores:
        frame = scores["subject_score"].to_dataframe("score").reset_index().dropna(subset="score")
        keys = [d for d in scores["score"].dims if d != "time_bin"]
        spread = {"subjects": "count", "mean": "mean", "sd": "std", "lowest": "min", "highest": "max"}
        spread = {name: ("score", how) for name, how in spread.items()}
        return score_frame(frame.groupby(keys, sort=False, as_index=False).agg(**spread))
    frame = scores_.to_frame(scores)
    if "subject" not in frame or "subject" in scores.dims or frame["subject"].nunique() < 2:
        return None
    frame = frame.assign(significant=frame["q"] < 0.05) if "q" in frame else frame
    spread = {"units": ("score", "count"), "mean": ("score", "mean"), "highest": ("score", "max")}
    if "q" in frame:
        spread["q < 0.05"] = ("significant", "sum")
    return frame.groupby(["metric", "space", "subject"], sort=False, as_index=False).agg(**spread)


def _summary(summary) -> Markup:
    if summary is None:
        return Markup("")
    if isinstance(summary, str):
        return prose(summary)
    items = Markup("").join(Markup("<li>{}</li>").format(inline(line)) for line in summary)
    return Markup("<ul>{}</ul>").format(items)


def _glance(named) -> dict | None:
    rows = pd.DataFrame([row for name, s in named for row in facts.glance(name, s)])
    first = [c for c in ("part", "of", "metric", "scores", "p < 0.05", "q < 0.05") if c in rows]
    if "of" in rows and set(rows["of"]) == {"models"}:
        first.remove("of")
        rows = rows.drop(columns="of")
    return _frame(rows[first + [c for c in rows if c not in first]], "glance")


def _frame(rows, name: str, caption: str = "") -> dict | None:
    frame = pd.DataFrame(rows)
    return None if frame.empty else table(frame, name, caption)
