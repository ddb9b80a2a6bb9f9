"""Where features meet brains: encoding and comparison. Names are imported lazily (scikit-learn is slow to import)."""

from importlib import import_module

# Functions that share the name of their module are imported here, lest the module take their place.
from neuroalign.alignment.encode import encode

_PUBLIC = {
    "ALPHAS": "ridge",
    "BandedFit": "band_fit",
    "BandedPlan": "banded",
    "BandedRidgeEncoder": "banded_estimator",
    "METRICS": "metrics",
    "Metric": "metrics",
    "RidgeEncoder": "estimator",
    "RidgeFit": "ridge",
    "RidgePlan": "ridge",
    "TRFEncoder": "trf",
    "TRFFit": "trf",
    "angular_distance": "shape",
    "band_candidates": "banded",
    "bures_distance": "distributions",
    "canonical_correlations": "cca",
    "banded_ridge_cv": "banded",
    "cknna": "neighbours",
    "cluster_scores": "clusters",
    "compare": "comparison",
    "cycle_knn": "neighbours",
    "crossnobis": "recording_rdms",
    "effective_dimensions": "dimensionality",
    "effective_rank": "dimensionality",
    "encode_across_subjects": "shared_space",
    "encode_banded": "joint",
    "encode_stimuli": "stimulus_scores",
    "compare_selected": "selection",
    "condensed_distances": "rdm",
    "count_sites": "sites",
    "fit_shared_space": "shared_space",
    "foretell": "pair_search",
    "funnel_retrieval": "nested_dimensions",
    "get_metric": "metrics",
    "group_scores": "groups",
    "held_out_cca": "cca",
    "isc": "subjects",
    "linear_cka": "cka",
    "link_pooled": "linking",
    "linear_predictivity": "shape",
    "gromov_wasserstein": "transport",
    "kernel_cka": "cka",
    "lag_scores": "trf",
    "list_clusters": "clusters",
    "list_metrics": "metrics",
    "mahalanobis": "recording_rdms",
    "matched_correlation": "unit_matching",
    "max_over_layers": "maximum",
    "minibatch_cka": "cka_minibatch",
    "mrl": "nested_losses",
    "mrl_e": "nested_losses",
    "mutual_knn": "neighbours",
    "nested_scores": "nested_dimensions",
    "neighbourhoods": "searchlight",
    "noise_covariance": "recording_rdms",
    "oota2022": "paper_compat",
    "pair_distances": "rdm",
    "participation_ratio": "dimensionality",
    "pattern_correlation": "stimulus_scores",
    "partition_rsa": "rdm_partition",
    "partition_variance": "partition",
    "plan_banded": "banded",
    "procrustes_distance": "shape",
    "pwcca": "cca",
    "plan_ridge": "ridge",
    "rbf_cka": "cka",
    "rdms": "rdm",
    "response_rdms": "recording_rdms",
    "ridge_cv": "ridge",
    "smallest_dimension": "nested_dimensions",
    "train_nested": "nested_losses",
    "trf_cv": "trf",
    "sliced_wasserstein": "distributions",
    "stream_cka": "cka_minibatch",
    "subramaniam2024": "paper_compat",
    "svcca": "cca",
    "shuffle_in_time": "controls",
    "search_pairs": "pair_search",
    "shift_subjects": "subjects",
    "rsa_tests": "rsa_inference",
    "searchlight_rsa": "searchlight",
    "site_tests": "sites",
    "blind_pairs": "ratings",
    "collect_ratings": "ratings",
    "compare_ratings": "ratings",
    "local_cka": "matching",
    "match_rows": "matching",
    "match_spaces": "matching",
    "matching_accuracy": "matching",
    "odd_one_out": "judgements",
    "pool_embeddings": "linking",
    "rating_agreement": "ratings",
    "ratings_to_rdms": "ratings",
    "retrieval_ranks": "matching",
    "two_afc": "judgements",
    "validation_scores": "validation",
    "two_versus_two": "stimulus_scores",
}

__all__ = ["encode", *_PUBLIC]


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neuroalign.alignment' has no attribute {name!r}")
    value = getattr(import_module(f"neuroalign.alignment.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
