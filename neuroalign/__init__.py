"""neuroalign: what models represent, what the brain represents, and where the two agree.

The public names are imported lazily, so that ``import neuroalign`` is quick and imports no torch.
"""

from importlib import import_module
from importlib.metadata import version as _version

__version__ = _version("neuroalign")

_PUBLIC = {
    "StimulusSet": "neuroalign.data",
    "align": "neuroalign.data",
    "average_repetitions": "neuroalign.data",
    "load_stimuli": "neuroalign.recordings",
    "load_responses": "neuroalign.recordings",
    "load_rdms": "neuroalign.recordings",
    "load_confounds": "neuroalign.recordings",
    "load_electrodes": "neuroalign.recordings",
    "prepare_responses": "neuroalign.recordings",
    "clean": "neuroalign.recordings",
    "group_mean": "neuroalign.recordings",
    "extract": "neuroalign.features",
    "estimate": "neuroalign.features",
    "verify": "neuroalign.features",
    "events_to_samples": "neuroalign.features",
    "encode": "neuroalign.alignment",
    "encode_banded": "neuroalign.alignment",
    "partition_variance": "neuroalign.alignment",
    "encode_stimuli": "neuroalign.alignment",
    "lag_scores": "neuroalign.alignment",
    "compare": "neuroalign.alignment",
    "site_tests": "neuroalign.alignment",
    "report": "neuroalign.reports",
    "export": "neuroalign.reports",
    "show": "neuroalign.reports",
}
_MODULES = ("alignment", "data", "features", "models", "probes", "recordings", "reports", "simulate", "stats")
_RENAMED = {"plot": "neuroalign.plots", "scores": "neuroalign.data.scores"}

__all__ = ["__version__", *_PUBLIC, *_MODULES, *_RENAMED]


def __getattr__(name):
    if name in _PUBLIC:
        value = getattr(import_module(_PUBLIC[name]), name)
    elif name in _RENAMED:
        value = import_module(_RENAMED[name])
    elif name in _MODULES:
        value = import_module(f"neuroalign.{name}")
    else:
        raise AttributeError(f"module 'neuroalign' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
