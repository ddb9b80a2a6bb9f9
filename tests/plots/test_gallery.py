"""The gallery: every figure of `neuroalign.plot` that scores suffice for is drawn, and no words lie on each other."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[2] / "analyses" / "gallery.py"
GROUPS = {
    "depth": {"layer_profile", "matrix", "roi_bars", "bars"}, "sites": {"sites", "sites_scores", "versus"},
    "parts": {"venn_three", "venn_two", "partition"}, "times": {"time_course", "layer_time"}, "heads": {"topomap"},
    "cortex": {"surface"}, "geometry": {"rdm_panel", "mds"}, "words": {"difference", "scatter"},
    "probes": {"gap_plane", "gap_curves", "knockout_curves"},
}


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_every_figure_can_be_read(gallery, group, overlaps, pixels):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # small simulated sets have few independent samples
        figures = getattr(gallery, group)(np.random.default_rng(0))
    assert set(figures) == GROUPS[group]
    for figure in figures.values():
        assert overlaps(figure) == [] and len(figure.data) and figure.caption and figure.alt
        pixels(figure)
