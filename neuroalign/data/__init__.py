"""The vocabulary: dims and coords, stimuli, scores, matching of rows, manifests and downloads."""

from importlib import import_module

from neuroalign.data.align import align, align_pairs, as_spaces, average_repetitions
from neuroalign.data.dims import (
    RESPONSE_KINDS,
    SAMPLE_DIMS,
    make_features,
    make_rdms,
    make_responses,
    pair_ids,
    sample_dim,
    space_id,
    validate_features,
    validate_rdms,
    validate_responses,
)
from neuroalign.data.home import home
from neuroalign.data.stimuli import MODALITIES, StimulusSet, file_sha256

__all__ = [
    "MODALITIES",
    "RESPONSE_KINDS",
    "SAMPLE_DIMS",
    "StimulusSet",
    "align",
    "align_pairs",
    "as_spaces",
    "average_repetitions",
    "file_sha256",
    "home",
    "make_features",
    "make_rdms",
    "make_responses",
    "pair_ids",
    "sample_dim",
    "space_id",
    "validate_features",
    "validate_rdms",
    "validate_responses",
]

# manifests and downloads stay out of the way (pydantic, yaml) until they are asked for
_LAZY = {
    "Manifest": "neuroalign.data.manifests",
    "check_files": "neuroalign.data.download",
    "from_brainscore": "neuroalign.data.brainscore",
    "to_brainscore": "neuroalign.data.brainscore",
    "fetch_file": "neuroalign.data.download",
    "is_available": "neuroalign.data.download",
    "list_manifests": "neuroalign.data.manifests",
    "load_manifest": "neuroalign.data.manifests",
    "where_available": "neuroalign.data.download",
    "why_unavailable": "neuroalign.data.download",
}
__all__ += sorted(_LAZY)


def __getattr__(name):
    if name not in _LAZY:
        raise AttributeError(f"module 'neuroalign.data' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value
