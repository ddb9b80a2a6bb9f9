"""The primary test of integration, [vision, language, multimodal] > [vision, language], over planted studies."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.alignment import site_tests
from neuroalign.data import scores as results

# Three penalties will do; sites of noise rightly take the largest.
pytestmark = pytest.mark.filterwarnings("ignore:the (small|larg)est penalty:neuroalign.errors.NeuroalignWarning")
FAST = {"alphas": [1.0, 30.0, 1000.0], "n_splits": 4, "n_inner_splits": 2, "metric": "r2.pooled", "keep": ["bootstrap"],
        "block": 10.0}
SITES = {"integration": 6, "vision": 6, "language": 6, "additive": 6, "word_rate": 4, "loudness": 4, "noise": 6}
UNIMODAL, ALL = ("vision", "language"), ("vision", "language", "multimodal")


def integration(study, nuisance=True, n_bootstraps=2000):
    """Test each site: q, and its kind."""
    nuisance = study.nuisance if nuisance else None
    parts = [na.encode_banded({k: study.spaces[k] for k in names}, study.responses, nuisance=nuisance, n_candidates=3,
                              n_bootstraps=n_bootstraps, **FAST) for names in (ALL, UNIMODAL)]
    scores = results.concat(parts)
    return site_tests(scores, {"integration": tuple(scores.space.values)}).q.values[0, 0]


def discoveries(n_studies, first=0):
    """False discovery proportion and power of each study, at q .05, SNR 2 and 800 s."""
    proportions, power = [], []
    for seed in range(first, first + n_studies):
        study = na.simulate.study(800, snr=2.0, width=20, sites=SITES, random_state=seed)
        found, true = integration(study) < 0.05, study.responses.nonadditive.values > 0
        proportions.append((found & ~true).sum() / max(1, found.sum()))
        power.append(found[true].mean())
    error = np.std(proportions, ddof=1) / np.sqrt(n_studies)
    return np.mean(proportions), error, np.mean(power)


def test_only_sites_that_integrate_are_found():
    proportion, error, power = discoveries(20)
    assert proportion <= 0.05 + 2 * error and power >= 0.8, (proportion, error, power)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(20, 230, 30))
def test_only_sites_that_integrate_are_found_in_many_studies(first):
    proportion, error, power = discoveries(30, first)
    assert proportion <= 0.05 + 2 * error and power >= 0.8, (proportion, error, power)


def test_confounds_seem_to_integrate_unless_they_are_nuisance_variables():
    study = na.simulate.study(800, snr=2.0, width=20, sites={"loudness": 8, "additive": 8})
    loud = study.responses.kind.values == "loudness"
    without, beside = (integration(study, nuisance) < 0.05 for nuisance in (False, True))
    assert without[loud].all() and not without[~loud].any() and not beside.any()


def test_a_multimodal_model_that_only_measures_better_passes_too():
    # What it says of a site is that these unimodal spaces lack something. Spaces of the same weights, given one
    # modality alone, share its view; an independent model does not.
    found = {}
    for shared in (True, False):
        study = na.simulate.study(1600, snr=4.0, width=20, view_noise=1.0, sites={"additive": 10}, shared_view=shared)
        found[shared] = (integration(study) < 0.05).mean()
    assert found[True] <= 0.05 and found[False] > 0.5, found


def test_better_than_the_best_single_modality_is_no_test_of_integration():
    study = na.simulate.study(800, snr=2.0, width=20, sites={"additive": 10, "noise": 10})
    scores = na.encode(study.spaces, study.responses, nuisance=study.nuisance, n_bootstraps=3000,
                       layer={"multimodal": ["multimodal*"], "unimodal": ["vision*", "language*"]}, **FAST)
    q = site_tests(scores, {"multi > uni": ("multimodal", "unimodal")}).q.values[0, 0]
    assert (q[:10] < 0.05).mean() > 0.5 and (q[10:] > 0.05).all()
