import numpy as np
import pytest
from PIL import Image

from neuroalign.plots import photo_grid


def test_pictures_are_drawn_square_with_their_words(tmp_path):
    Image.fromarray(np.full((20, 60, 3), 200, np.uint8)).save(tmp_path / "wide.png")
    figure = photo_grid([("wide", str(tmp_path / "wide.png"), "a $5 wall")] * 6, columns=4)
    drawn = [a for a in figure.axes if a.images]
    assert len(drawn) == 6 and drawn[0].get_title() == "a $5 wall" and drawn[0].get_xlabel() == "wide"
    assert drawn[0].images[0].get_array().shape == (240, 240, 3)


def test_nothing_to_draw():
    with pytest.raises(ValueError, match="no pictures"):
        photo_grid([])
