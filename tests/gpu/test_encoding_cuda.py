"""Encoding of labelled arrays on CUDA, against the CPU: every option that changes what runs on the device."""

import numpy as np
import pytest
import xarray as xr
from devices import same

import neuroalign as na
from neuroalign.alignment import encode_across_subjects, encoding_rsa, lag_scores
from neuroalign.data import make_features, make_responses

pytestmark = pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
ALPHAS = [0.1, 10.0, 1e3, 1e5]
FEW = {"alphas": ALPHAS, "n_splits": 3, "n_inner_splits": 3}


def toy(n=72, widths=(6,), t=4, dim="stimulus", seed=0, **options):
    rng = np.random.default_rng(seed)
    ids = [f"s{k:03d}" for k in range(n)] if dim == "stimulus" else np.arange(n) * 2.0
    xs = [rng.standard_normal((n, p)) for p in widths]
    y = sum(x @ rng.standard_normal((x.shape[1], t)) / np.sqrt(x.shape[1]) for x in xs)
    spaces = [make_features(x, ids, model="toy", layer=f"block{k}", depth=k / 10, dim=dim) for k, x in enumerate(xs)]
    return spaces, make_responses(y + rng.standard_normal((n, t)), ids, [f"v{k}" for k in range(t)], dim=dim, **options)


def others(n=72, p=2, dim="stimulus"):
    return toy(n, (p,), dim=dim, seed=5)[0][0].rename("other")


KEEP = ["prediction", "fold_score"]
OPTIONS = {
    "plain": {"keep": KEEP},
    "wide": {"widths": (150,), "keep": KEEP},
    "layers": {"widths": (6, 9, 100), "keep": KEEP},
    "nested layer": {"widths": (6, 9), "layer": "nested", "keep": KEEP},
    "components": {"widths": (30,), "reduce": "pca:5", "keep": KEEP},
    "projection": {"widths": (30,), "reduce": "random:8", "keep": KEEP},
    "nuisance": {"nuisance": 2, "keep": KEEP},
    "residualised": {"nuisance": 2, "residualize": "both", "keep": KEEP},
    "permuted responses": {"n_permutations": 19, "keep": [*KEEP, "null"]},
    "permuted features": {"n_permutations": 19, "nuisance": 2, "keep": [*KEEP, "null"]},
    "intervals": {"n_bootstraps": 50, "keep": ["bootstrap"]},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_encode(name):
    options = dict(OPTIONS[name])
    spaces, responses = toy(widths=options.pop("widths", (6,)))
    if "nuisance" in options:
        options["nuisance"] = others(p=options["nuisance"])
    same(lambda d: na.encode(spaces, responses, device=d, **FEW, **options), atol=1e-3)


def test_encode_a_time_series_in_blocks_with_delays():
    spaces, responses = toy(180, (3,), dim="time", kind="eeg", sfreq=0.5)
    for options in ({"delays": [0, 2.0]}, {"trf": (0, 6.0)}, {"n_permutations": 19, "keep": ["null"]}):
        same(lambda d, o=options: na.encode(spaces, responses, cv="blocks", device=d, **FEW, **o), atol=1e-3)
    same(lambda d: lag_scores(spaces[0], responses, cv="blocks", tmin=0, tmax=4.0, device=d, **FEW), atol=1e-3)


def test_broken_neuroids_stay_alone():
    spaces, responses = toy()
    responses[3, 1], responses[:, 2] = np.nan, 1.0
    found = same(lambda d: na.encode(spaces, responses, device=d, **FEW), atol=1e-3)
    assert np.isnan(found.score.values[0, 0]).tolist() == [False, True, True, False]


@pytest.mark.parametrize("options", [
    {"keep": KEEP}, {"refine": 2}, {"nuisance": True}, {"reduce": "pca:3"}, {"n_permutations": 19, "keep": ["null"]}])
def test_encode_banded(options):
    spaces, responses = toy(widths=(4, 90))
    options = options | ({"nuisance": others()} if "nuisance" in options else {})
    # Refined penalties lie in a flat valley: they differ, the scores do not.
    atol = 0.2 if "refine" in options else 2e-3
    fits = {}
    same(lambda d: fits.setdefault(d, na.encode_banded(spaces, responses, n_candidates=6, device=d, **FEW, **options)),
         atol=atol)
    np.testing.assert_allclose(fits["cuda"].score, fits["cpu"].score, atol=2e-3)


@pytest.mark.parametrize("method", ["banded", "ridge"])
def test_partition_variance(method):
    spaces, responses = toy(widths=(4, 5))
    same(lambda d: na.partition_variance(spaces, responses, method=method, n_candidates=6, n_bootstraps=50, device=d,
                                         **FEW), atol=2e-3)


def test_predicted_geometry():
    spaces, responses = toy(t=8)
    responses = responses.assign_coords(region=("neuroid", ["V"] * 8), subject=("neuroid", ["a"] * 8))
    same(lambda d: encoding_rsa(spaces, responses, n_permutations=19, alphas=ALPHAS, n_splits=3, n_inner_splits=3,
                                device=d), atol=2e-3)


def test_across_subjects():
    rng = np.random.default_rng(0)
    shared = rng.standard_normal((120, 3))
    arrays = [shared @ rng.standard_normal((3, 6)) + 0.5 * rng.standard_normal((120, 6)) for _ in range(3)]
    responses = xr.concat([make_responses(x, np.arange(120.0), [f"p{s}:{k}" for k in range(6)], dim="time",
                                          neuroid_coords={"subject": [f"p{s}"] * 6}) for s, x in enumerate(arrays)],
                          "neuroid")
    same(lambda d: encode_across_subjects(responses, n_components=3, n_splits=3, alphas=ALPHAS, device=d), atol=1e-3)
