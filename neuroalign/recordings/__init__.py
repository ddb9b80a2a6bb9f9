"""Readers of recordings, judgements and stimuli, and the cleaning of time series."""

from neuroalign.recordings.clean import clean, group_mean
from neuroalign.recordings.load import load_confounds, load_electrodes, load_rdms, load_responses, load_stimuli
from neuroalign.recordings.prepare import group_reliability, prepare_responses
from neuroalign.recordings.rdms import condense
from neuroalign.recordings.textgrid import read_textgrid

__all__ = [
    "clean",
    "condense",
    "group_mean",
    "group_reliability",
    "load_confounds",
    "load_electrodes",
    "load_rdms",
    "load_responses",
    "load_stimuli",
    "prepare_responses",
    "read_textgrid",
]
