"""One mark for figures whose numbers come from random weights: they show that the machinery runs, and no finding."""

import re

from matplotlib.figure import Figure as MplFigure

from neuroalign.data.scores import attrs_of
from neuroalign.plots.select import spaces_table
from neuroalign.plots.style import ACCENT

__all__ = ["WORDS", "is_untrained", "mark_untrained"]

WORDS = "untrained: machinery only"
RANDOM = re.compile(r"@random(\.\d+)?(?=[@:~ ]|$)")


def is_untrained(scores) -> bool:
    """Say whether every space of Scores, or every name in a list of spaces or models, has random weights.

    Names tell (``MODEL@random.SEED``), and so does the attr ``untrained`` that probes write of models they ran.

    Examples
    --------
    >>> is_untrained(["clip@random:blocks.1:image"]), is_untrained(["clip@random.3", "clip"])
    (True, False)
    """
    if hasattr(scores, "data_vars"):
        names = spaces_table(scores)["model"].tolist()
        if attrs_of(scores).get("untrained") is True:
            return True
    else:
        names = [scores] if isinstance(scores, str) else list(scores)
    return bool(names) and all(RANDOM.search(str(name)) for name in names)


def mark_untrained(figure: MplFigure, untrained: bool) -> MplFigure:
    """Write ``untrained: machinery only`` above the panels of a figure, under its title, and into its caption."""
    if untrained:
        title = figure.get_suptitle()
        if title:
            figure.suptitle(f"{title}\n{WORDS}", x=0.01, ha="left")
        else:
            figure.suptitle(WORDS, x=0.995, ha="right", fontsize=9, color=ACCENT)
        figure.caption = f"{WORDS[0].upper()}{WORDS[1:]}. {figure.caption}"
        figure.alt = f"{WORDS[0].upper()}{WORDS[1:]}. {figure.alt}"
    return figure
