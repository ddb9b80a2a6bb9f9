"""Planted truth: data whose answer is known."""

from neuroalign.simulate import recordings
from neuroalign.simulate.brain import brain
from neuroalign.simulate.study import Study, study

__all__ = ["Study", "brain", "recordings", "study"]
