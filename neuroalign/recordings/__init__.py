"""Readers of recordings, judgements and stimuli, and the cleaning of time series."""

from neuroalign.recordings.clean import clean, group_mean
from neuroalign.recordings.load import load_confounds, load_electrodes, load_rdms, load_responses, load_stimuli
from neuroalign.recordings.rdms import condense
from neuroalign.recordings.textgrid import read_textgrid

__all__ = [
    "clean",
    "condense",
    "group_mean",
    "load_confounds",
    "load_electrodes",
    "load_rdms",
    "load_responses",
    "load_stimuli",
    "read_textgrid",
]
