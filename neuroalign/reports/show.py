"""Scores in a notebook."""

import numpy as np
import xarray as xr

from neuroalign.data import scores as scores_
from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import metric_label, space_label, spaces_table
from neuroalign.reports import facts
from neuroalign.reports.methods import methods
from neuroalign.reports.render import inline, picture, score_frame, table
from neuroalign.reports.report import templates
from neuroalign.reports.sections import default_sections

__all__ = ["ScoresView", "show"]


def show(scores: xr.Dataset) -> "ScoresView":
    """Return a view of Scores that a notebook renders: figures, table, methods, warnings.

    Parameters
    ----------
    scores : Dataset

    Returns
    -------
    ScoresView
        In a terminal, a short table of counts and effect sizes.

    Examples
    --------
    >>> s = scores_.make({"score": (("metric", "space", "target"), [[[0.5, 0.2]]])},
    ...                  {"metric": ["rsa.spearman"], "space": ["m:l:all"], "target": ["IT", "EVC"]})
    >>> print(show(s))
    Scores: 1 metric, 1 space, 2 targets
      RSA, Spearman ρ, models: 2 scores, median 0.350, highest 0.500 (m · l, IT); nothing tested
    """
    return ScoresView(scores_.validate(scores))


class ScoresView:
    """Scores that show themselves; see `show`."""

    def __init__(self, scores: xr.Dataset):
        self.scores = scores

    def __repr__(self) -> str:
        sizes = self.scores["score"].sizes
        lines = ["Scores: " + ", ".join(f"{n:,} {d if n == 1 else d + 's'}" for d, n in sizes.items())]
        twin = spaces_table(self.scores)["twin"].to_numpy()
        for row in facts.glance("", self.scores):
            metric = next(m for m in self.scores["metric"].values if metric_label(str(m)) == row["metric"])
            rows = np.flatnonzero(twin == (row["of"] != "models"))
            score = self.scores["score"].sel(metric=metric).isel(space=rows)
            where = ""
            if score.notnull().any():
                top = score.stack(cell=score.dims).dropna("cell").idxmax("cell").item()
                parts = dict(zip(score.dims, top if isinstance(top, tuple) else (top,)))
                where = ", ".join(space_label(v) if d.startswith("space") else _spell(v) for d, v in parts.items())
            tested = [f"{column}: {row[column]:,}" for column in ("p < 0.05", "q < 0.05")
                      if not np.isnan(row[column])]
            analysis = attrs_of(self.scores).get("analysis")
            of = "differences" if analysis in ("site_tests", "difference") else row["of"]
            lines.append(f"  {row['metric']}, {of}: {row['scores']:,} scores, median {row['median']:.3f}, "
                         f"highest {row['highest']:.3f} ({where}{_p_of_highest(row)}); "
                         f"{', '.join(tested) or 'nothing tested'}")
        said = facts.warning_rows([("", self.scores)])
        lines += [f"  warning {w['code']}: {w['message']}" for w in said]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        section = default_sections(self.scores)[0]
        context = {
            "text": inline(section.text),
            "pictures": [picture(p, f"figure-{i}") for i, p in enumerate(section.figures, 1)],
            "table": table(score_frame(scores_.to_frame(self.scores)), "scores"),
            "methods": inline(methods(self.scores)),
            "warnings": facts.warning_rows([("", self.scores)]),
        }
        return templates().get_template("show.html.j2").render(context)


def _spell(place) -> str:
    return f"{place:g}" if isinstance(place, float) else str(place)


def _p_of_highest(row) -> str:
    p = row.get("p of highest", np.nan)
    return "" if np.isnan(p) else f"; p of the maximum {p:.3g}"
