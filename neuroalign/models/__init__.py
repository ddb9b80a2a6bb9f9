"""Models: the zoo, loading, one adapter per architecture family, random twins."""

from neuroalign.models.adapter import Adapter, BadStimuli, Inputs, Layer, LoadedModel, attach
from neuroalign.models.hub import HubUnreachable
from neuroalign.models.loading import load_model
from neuroalign.models.twins import list_twins
from neuroalign.models.wrapped import wrap
from neuroalign.models.zoo import ZooEntry, get_entry, list_models

__all__ = [
    "Adapter",
    "BadStimuli",
    "HubUnreachable",
    "Inputs",
    "Layer",
    "LoadedModel",
    "ZooEntry",
    "attach",
    "get_entry",
    "list_models",
    "list_twins",
    "load_model",
    "wrap",
]
