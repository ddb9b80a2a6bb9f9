"""The one place where the look of the figures is decided: colours, sizes, rc settings, the figure class."""

import functools
import io
import math

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as MplFigure

__all__ = ["ACCENT", "FAINT", "GREY", "INK", "PALETTE", "Figure", "grid_shape", "new_figure", "place_legend",
           "styled", "text_on"]

INK = "#1f2430"
GREY = "#8a8f98"
FAINT = "#d9dce1"
# Okabe and Ito's colours without yellow, which is too weak for lines on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
ACCENT = PALETTE[1]

RC = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 9,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#6b7079",
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "text.color": INK,
    "xtick.color": "#4a4f59",
    "ytick.color": "#4a4f59",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "legend.handlelength": 1.8,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "figure.titlesize": 11.5,
    "figure.titleweight": "bold",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "image.interpolation": "nearest",
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
    "axes.unicode_minus": True,
    "text.usetex": False,
    "text.parse_math": False,  # names of models and stimuli may hold dollar signs
}


class Figure(MplFigure):
    """A matplotlib Figure that pyplot does not know of; it shows itself in a notebook.

    Attributes
    ----------
    alt : str
        What the figure shows, in words, for those who cannot see it.
    caption : str
        How to read it: what bands, marks and lines mean.
    data : DataFrame or None
        The numbers drawn, which a report offers as CSV.
    """

    alt = ""
    caption = ""
    data = None

    def _repr_png_(self):
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=120)
        return buffer.getvalue()


def styled(function):
    """Run a plotting function, which returns a figure, under these settings whatever the user's own are."""

    @functools.wraps(function)
    def inside(*args, **kwargs):
        with mpl.rc_context():
            mpl.rcdefaults()
            mpl.rcParams.update(RC)
            figure = function(*args, **kwargs)
            figure.draw_without_rendering()  # ticks are made lazily: make them under these settings
            return figure

    return inside


def new_figure(width: float, height: float, *, layout: str | None = "constrained") -> Figure:
    """Return an empty figure of `width` x `height` inches; `layout` is matplotlib's."""
    figure = Figure(figsize=(width, height), dpi=120, layout=layout)
    FigureCanvasAgg(figure)
    return figure


def grid_shape(n: int, most: int = 4) -> tuple[int, int]:
    """Return rows and columns for `n` panels, as even as possible with at most `most` columns.

    Examples
    --------
    >>> [grid_shape(n) for n in (1, 3, 4, 5, 6, 8)]
    [(1, 1), (1, 3), (1, 4), (2, 3), (2, 3), (2, 4)]
    """
    rows = math.ceil(n / most)
    return rows, math.ceil(n / rows)


def place_legend(figure: MplFigure, handles: list, labels: list[str], most: int = 5) -> None:
    """Put one legend under the panels, in as many columns as fit the width of the figure."""
    for columns in range(min(most, len(handles)), 0, -1):
        legend = figure.legend(handles, labels, loc="outside lower center", ncols=columns, columnspacing=1.6)
        if columns == 1 or legend.get_window_extent().width <= 0.98 * figure.bbox.width:
            return
        legend.remove()


def text_on(rgba) -> str:
    """Return a colour that can be read on the given background."""
    linear = np.where(np.asarray(rgba[:3]) <= 0.04045, np.asarray(rgba[:3]) / 12.92,
                      ((np.asarray(rgba[:3]) + 0.055) / 1.055) ** 2.4)
    return INK if float(linear @ [0.2126, 0.7152, 0.0722]) > 0.3 else "white"
