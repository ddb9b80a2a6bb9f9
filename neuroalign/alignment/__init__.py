"""Alignment of model features with recordings: encoding models, geometry of RDMs, CKA, and the metric registry."""

from importlib import import_module

_PUBLIC = {
    "METRICS": "metrics",
    "Metric": "metrics",
    "RidgeEncoder": "ridge",
    "cka": "cka",
    "cka_from_kernels": "cka",
    "compare": "compare",
    "compare_selected": "select",
    "correlate_rdms": "rsa",
    "encode": "encode",
    "get_metric": "metrics",
    "list_metrics": "metrics",
    "pair_distances": "rdm",
    "partial_rsa": "rsa",
    "partition_rsa": "partition",
    "rdm": "rdm",
    "rdms": "rdm",
    "ridge_cv": "ridge",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neuroalign.alignment' has no attribute {name!r}")
    value = getattr(import_module(f"neuroalign.alignment.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
