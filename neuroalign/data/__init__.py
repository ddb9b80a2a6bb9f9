"""The vocabulary: dims and coords, stimuli, scores, matching of rows, manifests and downloads."""

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
