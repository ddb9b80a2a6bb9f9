"""Readers of recordings, judgements and stimuli, and the cleaning of time series."""

from neuroalign.recordings.bids import BidsRecording, open_bids
from neuroalign.recordings.bins import average_events, bin_events
from neuroalign.recordings.cifti import from_cifti
from neuroalign.recordings.clean import clean, group_mean
from neuroalign.recordings.events import language_aligned, read_events, vision_aligned
from neuroalign.recordings.film_clock import FilmClock
from neuroalign.recordings.images import from_nilearn, read_confounds
from neuroalign.recordings.joining import join
from neuroalign.recordings.load import load_confounds, load_electrodes, load_rdms, load_responses, load_stimuli
from neuroalign.recordings.nwb import NwbRecording, open_nwb
from neuroalign.recordings.painting import paint
from neuroalign.recordings.prepare import group_reliability, prepare_responses
from neuroalign.recordings.rdms import condense
from neuroalign.recordings.regions import assign_regions, list_atlases
from neuroalign.recordings.sensors import add_positions, from_mne
from neuroalign.recordings.signals import preprocess
from neuroalign.recordings.tables import read_ratings_table, read_triplets
from neuroalign.recordings.textgrid import read_textgrid
from neuroalign.recordings.treebank import TreebankRecording, open_treebank

__all__ = [
    "BidsRecording",
    "FilmClock",
    "NwbRecording",
    "TreebankRecording",
    "add_positions",
    "assign_regions",
    "average_events",
    "bin_events",
    "clean",
    "condense",
    "from_cifti",
    "from_mne",
    "from_nilearn",
    "group_mean",
    "group_reliability",
    "join",
    "language_aligned",
    "list_atlases",
    "load_confounds",
    "load_electrodes",
    "load_rdms",
    "load_responses",
    "load_stimuli",
    "open_bids",
    "open_nwb",
    "open_treebank",
    "paint",
    "prepare_responses",
    "preprocess",
    "read_confounds",
    "read_events",
    "read_ratings_table",
    "read_textgrid",
    "read_triplets",
    "vision_aligned",
]
