"""Looking inside multimodal models: the modality gap, implicit alignment, information flow, and interventions."""

from importlib import import_module

# Functions that share the name of their module are imported here, lest the module take their place.
from neuroalign.probes.ablation import ablation
from neuroalign.probes.implicit_alignment import implicit_alignment
from neuroalign.probes.information_flow import information_flow
from neuroalign.probes.interventional_encoding import interventional_encoding
from neuroalign.probes.knockout import knockout
from neuroalign.probes.logit_lens import logit_lens
from neuroalign.probes.modality_gap import modality_gap
from neuroalign.probes.token_geometry import token_geometry
from neuroalign.probes.vocabulary_projection import vocabulary_projection

_PUBLIC = {
    "GAP_METRICS": "gap_statistics",
    "MODES": "implicit_alignment",
    "ima_score": "implicit_alignment",
    "matched_edges": "edge_controls",
    "multimodal_retrieval": "contrastive_losses",
    "pca_spectrum": "modality_gap",
    "rank_across_models": "across_models",
    "shift_sweep": "modality_gap",
    "skipping_curve": "skipping",
    "subnetwork_overlap": "subnetworks",
    "total_correlation_bound": "contrastive_losses",
    "train_contrastive": "contrastive_training",
    "train_projector": "projector",
}

__all__ = ["ablation", "implicit_alignment", "information_flow", "interventional_encoding", "knockout", "logit_lens",
           "modality_gap", "token_geometry", "vocabulary_projection", *_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neuroalign.probes' has no attribute {name!r}")
    value = getattr(import_module(f"neuroalign.probes.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
