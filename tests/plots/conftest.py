"""Scores of known values for the figures."""

import io

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from neuroalign.data import scores as scores_


@pytest.fixture
def layered():
    """Make Scores of `layers` layers of models, seeded twins and one model without depth."""

    def make(layers=4, targets=("IT", "EVC"), models=("net", "text"), seeds=3, flat=True, dim="target", **extra):
        rows = [(m, f"b.{k}" if k else "input", k / max(layers - 1, 1)) for m in models for k in range(layers)]
        rows += [("net@random" + (f".{s}" if s else ""), f"b.{k}", k / max(layers - 1, 1))
                 for s in range(seeds) for k in range(layers)]
        rows += [("tf-idf", "", np.nan)] if flat else []
        model, layer, depth = zip(*rows)
        rng = np.random.default_rng(0)
        score = rng.uniform(0.05, 0.5, (1, len(rows), len(targets)))
        dims = ("metric", "space", dim)
        variables = {"score": (dims, score), "p": (dims, score / 10), "q": (dims, np.where(score > 0.25, 0.01, 0.4)),
                     "ci_low": (dims, score - 0.05), "ci_high": (dims, score + 0.05)}
        variables |= {k: (dims, np.full(score.shape, v) if np.isscalar(v) else v) for k, v in extra.items()}
        coords = {"metric": ["rsa.spearman"], "space": [f"{m}:{b}:all" for m, b, _ in rows], dim: list(targets),
                  "model": ("space", list(model)), "layer": ("space", list(layer)), "depth": ("space", list(depth))}
        return scores_.make(variables, coords)

    return make


@pytest.fixture
def pixels():
    """Save a figure as PNG and return it as an array of grey values."""

    def save(figure, dpi=60):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=dpi)
        grey = np.asarray(Image.open(buffer).convert("L"), dtype=float)
        assert grey.std() > 5, "the picture is blank"
        return grey

    return save


@pytest.fixture
def overlaps():
    """Return the pairs of visible texts of a figure that lie on each other."""

    def find(figure):
        renderer = figure.canvas.get_renderer()
        hidden = {id(t) for a in figure.axes for axis in (a.xaxis, a.yaxis) for t in outside(axis)}
        boxes = []
        texts = figure.findobj(lambda a: isinstance(a, Text) and a.get_visible() and a.get_text().strip())
        for text in {id(t): t for t in texts}.values():
            if id(text) in hidden or (text.axes is not None and not text.axes.get_visible()):
                continue
            boxes.append((text.get_text(), text.get_rotation() % 90, text.get_window_extent(renderer).padded(-1.5)))
        return [(a, b) for i, (a, slant, x) in enumerate(boxes) for b, other, y in boxes[i + 1:]
                if not (slant and slant == other)  # boxes of slanted words overlap where the words do not
                and x.x0 < y.x1 and y.x0 < x.x1 and x.y0 < y.y1 and y.y0 < x.y1]

    def outside(axis):
        """Tick labels beyond the limits of an axis, which are never drawn."""
        low, high = sorted(axis.get_view_interval())
        return [t for tick in axis.get_major_ticks() for t in (tick.label1, tick.label2)
                if not low - 1e-9 <= tick.get_loc() <= high + 1e-9]

    return find
