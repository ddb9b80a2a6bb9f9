"""Looking inside multimodal models: the modality gap, implicit alignment, information flow, and interventions."""

from importlib import import_module

# Functions that share the name of their module are imported here, lest the module take their place.
from neuroalign.probes.modality_gap import modality_gap

_PUBLIC = {
    "GAP_METRICS": "gap_statistics",
    "multimodal_retrieval": "contrastive_losses",
    "pca_spectrum": "modality_gap",
    "shift_sweep": "modality_gap",
    "total_correlation_bound": "contrastive_losses",
    "train_contrastive": "contrastive_training",
}

__all__ = ["modality_gap", *_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neuroalign.probes' has no attribute {name!r}")
    value = getattr(import_module(f"neuroalign.probes.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
