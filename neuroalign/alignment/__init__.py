"""Where features meet brains: encoding and comparison. Names are imported lazily (scikit-learn is slow to import)."""

from importlib import import_module

_PUBLIC = {
    "ALPHAS": "neuroalign.alignment.ridge",
    "RidgeEncoder": "neuroalign.alignment.estimator",
    "RidgeFit": "neuroalign.alignment.ridge",
    "RidgePlan": "neuroalign.alignment.ridge",
    "compare": "neuroalign.alignment.compare",
    "encode": "neuroalign.alignment.encode",
    "plan_ridge": "neuroalign.alignment.ridge",
    "ridge_cv": "neuroalign.alignment.ridge",
}

__all__ = list(_PUBLIC)


def __getattr__(name):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neuroalign.alignment' has no attribute {name!r}")
    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted(__all__)
