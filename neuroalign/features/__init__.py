"""Features: extraction, streams and pooling, words in context, timing, confounds, and the store."""

from neuroalign.features.confounds import word_rate
from neuroalign.features.delays import delay
from neuroalign.features.exactness import verify
from neuroalign.features.extractor import estimate, extract
from neuroalign.features.featureset import FeatureSet
from neuroalign.features.merging import merge_stores
from neuroalign.features.projection import PCA
from neuroalign.features.store import FeatureStore
from neuroalign.features.timing import events_to_samples
from neuroalign.features.words import word_table

__all__ = ["PCA", "FeatureSet", "FeatureStore", "delay", "estimate", "events_to_samples", "extract", "merge_stores",
           "verify", "word_rate", "word_table"]
