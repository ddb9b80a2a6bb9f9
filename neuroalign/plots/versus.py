"""One space against another, site by site, with the winners."""

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.lines import Line2D

from neuroalign.data import scores as scores_
from neuroalign.errors import check_option, list_ids, suggest
from neuroalign.plots.select import metric_label, shorten, space_label
from neuroalign.plots.style import GREY, INK, PALETTE, Figure, new_figure, place_legend, styled

__all__ = ["versus"]

SILENT = "#aeb4be"


@styled
def versus(scores: xr.Dataset, x: str, y: str, tests: xr.Dataset | None = None, *, metric: str | None = None,
           alpha: float = 0.05, title: str | None = None) -> Figure:
    """Draw the score of one space against that of another, a point a neuroid or target, and who wins where.

    Parameters
    ----------
    scores : Dataset
        With both spaces; where it has a ``time_bin``, scores are averaged over the bins, as `site_tests` does.
    x, y : str
        Space ids, for instance the best unimodal and the best multimodal model of
        ``encode(layer={"unimodal": [...], "multimodal": [...]})``.
    tests : Dataset, optional
        Of `neuroalign.site_tests` on these Scores: one comparison of y over x, one of x over y, or both. Without it
        no winner is named.
    metric : str, optional
        The first of the Scores by default.
    alpha : float
        A space wins at a site where its comparison has q below it.
    title : str, optional

    Returns
    -------
    Figure
        ``figure.data`` has one row a site: both scores, the difference, its q values, the winner.

    Raises
    ------
    ValueError
        If the tests are of other sites, or hold no comparison of the two spaces.
    """
    scores_.validate(scores)
    names = [str(m) for m in scores["metric"].values]
    metric = check_option("metric", metric or names[0], names)
    spaces = [str(s) for s in scores["space"].values]
    for name in (x, y):
        if name not in spaces:
            raise ValueError(f"versus: no space {name!r} in these Scores; found {list_ids(spaces)}."
                             f"{suggest(name, spaces)}")
    frame = _frame(scores, x, y, metric)
    if tests is not None:
        frame = _with_tests(frame, tests, x, y, alpha)
    known = frame[["x", "y"]].notna().all(axis=1).to_numpy()
    if not known.any():
        raise ValueError(f"versus: no site has a score of both {x!r} and {y!r}.")
    labels = {"x": shorten(space_label(x), 34), "y": shorten(space_label(y), 34)}
    figure = new_figure(4.6, 4.9)
    axis = figure.subplots()
    _points(axis, frame[known], labels, figure)
    _axes(axis, frame[known], labels, metric)
    said = _count(frame[known], labels)
    axis.set_title(said, fontsize=9)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.data = frame.rename(columns={"x": f"score of {x}", "y": f"score of {y}"})
    figure.caption = _caption(scores, frame, known, labels, metric, alpha)
    figure.alt = f"Scatter of {int(known.sum())} sites, {labels['y']} against {labels['x']}. {said}".replace("\n", "; ")
    return figure


def _frame(scores, x, y, metric):
    picked = scores[["score"]].sel(metric=metric)
    if "time_bin" in picked.dims:
        picked = picked.mean("time_bin")
    dim = next((d for d in picked["score"].dims if d in ("neuroid", "target")), None)
    if dim is None:
        raise ValueError("versus: the Scores have neither neuroids nor targets; expected many sites to compare at.")
    ids = picked["neuroid_id" if "neuroid_id" in picked.coords else dim].values.astype(str)
    both = picked["score"].sel(space=[x, y]).transpose("space", dim).values
    frame = {dim: ids} | {c: picked[c].values for c in ("subject", "region") if c in picked.coords
                          and picked[c].dims == (dim,)}
    return pd.DataFrame(frame | {"x": both[0], "y": both[1], "difference": both[1] - both[0]})


def _with_tests(frame, tests, x, y, alpha):
    """Add q of each comparison of the two spaces, and the winner."""
    pairs = {tuple(pair): name for name, pair in (scores_.attrs_of(tests).get("comparisons") or {}).items()}
    found = {"y": pairs.get((y, x)), "x": pairs.get((x, y))}
    if not any(found.values()):
        raise ValueError(f"tests: no comparison of {y!r} with {x!r}; found {list_ids(pairs)}. Make it with "
                         f"site_tests(scores, {{'name': ({y!r}, {x!r})}}).")
    dim = frame.columns[0]
    ids = tests["neuroid_id" if "neuroid_id" in tests.coords else "neuroid"].values.astype(str)
    if dim != "neuroid" or list(ids) != list(frame[dim]):
        raise ValueError("tests: they are of other sites than the scores. Test these Scores.")
    frame["winner"] = ""
    for which, name in found.items():
        if name is not None:
            frame[f"q ({name})"] = tests["q"].sel(space=name).values[0]
            frame.loc[frame[f"q ({name})"] < alpha, "winner"] = which
    return frame


def _points(axis, frame, labels, figure) -> None:
    size = float(np.clip(70 / np.sqrt(len(frame)), 2.6, 6))
    handles = []
    if "winner" not in frame:
        axis.plot(frame["x"], frame["y"], ls="", marker="o", ms=size, mfc=PALETTE[0], mec="none", alpha=0.7)
        return
    # Filled circles and squares, so that who wins can be told without colour.
    pens = {"": (SILENT, "o", "no winner"), "y": (PALETTE[0], "o", f"{labels['y']} better"),
            "x": (PALETTE[1], "s", f"{labels['x']} better")}
    tested = {"y", "x"} if frame.filter(like="q (").shape[1] == 2 else set(frame["winner"])
    for winner, (color, marker, words) in pens.items():
        part = frame[frame["winner"] == winner]
        if len(part) or winner in tested:
            axis.plot(part["x"], part["y"], ls="", marker=marker, ms=size, mfc=color, mec="white", mew=0.3,
                      alpha=0.55 if winner == "" else 0.9, zorder=2 if winner == "" else 3)
            handles.append(Line2D([], [], ls="", marker=marker, ms=5.5, mfc=color, mec="none",
                                  label=f"{words} ({len(part):,})"))
    place_legend(figure, handles, [h.get_label() for h in handles])


def _axes(axis, frame, labels, metric) -> None:
    low = float(min(0.0, frame[["x", "y"]].min().min()))
    high = float(frame[["x", "y"]].max().max())
    pad = 0.05 * (high - low or 1.0)
    axis.plot([low - pad, high + pad], [low - pad, high + pad], color=GREY, lw=0.9, ls=(0, (4, 3)), zorder=1)
    if low < 0:
        axis.axhline(0, color="#d9dce1", lw=0.8, zorder=0)
        axis.axvline(0, color="#d9dce1", lw=0.8, zorder=0)
    axis.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
    axis.locator_params(nbins=5)
    said = metric_label(metric)
    axis.set_xlabel(f"{labels['x']}\n{said}", color=INK)
    axis.set_ylabel(f"{labels['y']}\n{said}", color=INK)


def _count(frame, labels) -> str:
    above = int((frame["difference"] > 0).sum())
    return (f"{above:,} of {len(frame):,} sites above the line\n"
            f"median difference {frame['difference'].median():+.3f}").replace("-", "−")


def _caption(scores, frame, known, labels, metric, alpha) -> str:
    said = [f"{metric_label(metric)} of {labels['y']} (upwards) against {labels['x']}, a point a site; dashed: equal."]
    if "winner" in frame:
        said.append(f"Winners: q < {alpha:g} of the paired test at the site; grey: no difference was shown.")
    else:
        said.append("No difference was tested: a point off the line is no winner.")
    if "time_bin" in scores["score"].dims:
        said.append(f"Scores are means over {scores.sizes['time_bin']} time bins.")
    if not known.all():
        said.append(f"{int((~known).sum()):,} sites without a score of both are not drawn.")
    return " ".join(said)
