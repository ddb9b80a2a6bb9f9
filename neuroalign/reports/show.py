"""Scores in a notebook."""

import numpy as np
import xarray as xr

from neuroalign.data import scores as scores_
from neuroalign.plots.select import space_label
from neuroalign.reports import methods as words
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
      RSA, Spearman ρ: 2 scores, median 0.350, highest 0.500 (m · l, IT); p < 0.05: not tested, q < 0.05: not tested
    """
    return ScoresView(scores_.validate(scores))


class ScoresView:
    """Scores that show themselves; see `show`."""

    def __init__(self, scores: xr.Dataset):
        self.scores = scores

    def __repr__(self) -> str:
        sizes = self.scores["score"].sizes
        lines = ["Scores: " + ", ".join(f"{n:,} {d if n == 1 else d + 's'}" for d, n in sizes.items())]
        for row, metric in zip(words.glance("", self.scores), self.scores["metric"].values):
            score = self.scores["score"].sel(metric=metric)
            where = ""
            if score.notnull().any():
                top = score.stack(cell=score.dims).dropna("cell").idxmax("cell").item()
                parts = dict(zip(score.dims, top if isinstance(top, tuple) else (top,)))
                where = ", ".join(space_label(v) if d.startswith("space") else str(v) for d, v in parts.items())
            weak, strict = ("not tested" if np.isnan(row[k]) else f"{row[k]:,}" for k in row if k[1:3] == " <")
            lines.append(f"  {row['metric']}: {row['scores']:,} scores, median {row['median']:.3f}, highest "
                         f"{row['highest']:.3f} ({where}); p < 0.05: {weak}, q < 0.05: {strict}")
        said = words.warning_rows([("", self.scores)])
        lines += [f"  warning {w['code']}: {w['message']}" for w in said]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        section = default_sections(self.scores)[0]
        context = {
            "text": inline(section.text),
            "pictures": [picture(p, f"figure-{i}") for i, p in enumerate(section.figures, 1)],
            "table": table(score_frame(scores_.to_frame(self.scores)), "scores"),
            "methods": inline(words.methods(self.scores)),
            "warnings": words.warning_rows([("", self.scores)]),
        }
        return templates().get_template("show.html.j2").render(context)
