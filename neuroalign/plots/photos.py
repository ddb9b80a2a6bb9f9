"""Pictures with a line of words under each."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from neuroalign.plots.style import Figure, new_figure, styled

__all__ = ["photo_grid"]


@styled
def photo_grid(pictures: Sequence[tuple[str, str, str]], *, columns: int = 5, title: str | None = None) -> Figure:
    """Draw pictures in a grid, each with its id and a line of words.

    Parameters
    ----------
    pictures : sequence of (id, path, words)
    columns : int
    title : str, optional

    Returns
    -------
    Figure
    """
    if not pictures:
        raise ValueError("photo_grid: no pictures given.")
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = new_figure(1.7 * columns, 2.0 * rows)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for axis, (name, path, words) in zip(axes, pictures):
        with Image.open(path) as image:
            axis.imshow(_square(image.convert("RGB"), 240))
        axis.set_title(words, fontsize=8.5, pad=3, loc="center")
        axis.set_xlabel(name, fontsize=7, labelpad=2)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    for axis in axes[len(pictures):]:
        axis.set_axis_off()
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    figure.alt = "; ".join(f"{name}: {words}" for name, _, words in pictures)
    figure.caption = "The words stand above each picture, its id below."
    return figure


def _square(image: Image.Image, size: int) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
