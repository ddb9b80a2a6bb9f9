"""Figures: one function, one matplotlib Figure; public as ``neuroalign.plot``."""

from neuroalign.plots.bars import bars
from neuroalign.plots.brain import sites
from neuroalign.plots.implicit_alignment import alignment_curves
from neuroalign.plots.knockout import knockout_curves, site_effects
from neuroalign.plots.matrix import matrix
from neuroalign.plots.mds import mds
from neuroalign.plots.modality_gap import gap_curves, gap_plane
from neuroalign.plots.partition import partition
from neuroalign.plots.photos import photo_grid
from neuroalign.plots.probe_curves import probe_curves
from neuroalign.plots.profile import layer_profile
from neuroalign.plots.rdms import rdm_panel
from neuroalign.plots.simple import difference, scatter
from neuroalign.plots.style import Figure
from neuroalign.plots.surface import surface
from neuroalign.plots.timing import layer_time, time_course
from neuroalign.plots.topomap import topomap
from neuroalign.plots.venn import venn
from neuroalign.plots.versus import versus

__all__ = ["Figure", "alignment_curves", "bars", "difference", "gap_curves", "gap_plane", "knockout_curves",
           "layer_profile", "layer_time", "matrix", "mds", "partition", "photo_grid", "probe_curves", "rdm_panel",
           "scatter", "site_effects", "sites", "surface", "time_course", "topomap", "venn", "versus"]
