"""Readers of recordings, judgements and stimuli, and the cleaning of time series."""

from neuroalign.recordings.clean import clean, group_mean
from neuroalign.recordings.images import from_nilearn, read_confounds
from neuroalign.recordings.load import load_confounds, load_electrodes, load_rdms, load_responses, load_stimuli
from neuroalign.recordings.painting import paint
from neuroalign.recordings.prepare import group_reliability, prepare_responses
from neuroalign.recordings.rdms import condense
from neuroalign.recordings.textgrid import read_textgrid

__all__ = [
    "clean",
    "condense",
    "from_nilearn",
    "group_mean",
    "group_reliability",
    "load_confounds",
    "load_electrodes",
    "load_rdms",
    "load_responses",
    "load_stimuli",
    "paint",
    "prepare_responses",
    "read_confounds",
    "read_textgrid",
]
