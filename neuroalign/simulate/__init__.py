"""Planted truth: data whose answer is known."""

from neuroalign.simulate.brain import brain

__all__ = ["brain"]
