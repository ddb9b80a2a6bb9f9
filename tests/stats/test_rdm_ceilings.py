"""Noise ceiling of RSA against rsatoolbox and the published arrays."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import rankdata, spearmanr

from neuroalign.stats.rdm_ceilings import rdm_ceiling

TARGETS = {"hIT": lambda z: z["hIT_subjects"].mean(1), "fmri_EVC": lambda z: z["fmri_EVC"],
           "fmri_IT": lambda z: z["fmri_IT"], "behaviour": lambda z: z["behaviour"]}


def subjects(n=5, n_pairs=190, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(n_pairs) + noise * rng.standard_normal((n, n_pairs))


def test_ceiling_equals_rsatoolboxs():
    from rsatoolbox.inference.noise_ceiling import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    rdms = np.abs(subjects())
    expected = boot_noise_ceiling(RDMs(rdms), method="spearman", rdm_descriptor="index")
    assert rdm_ceiling(rdms, averaging="rank") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("averaging", ["rank", "raw"])
@pytest.mark.parametrize("target", TARGETS)
def test_published_ceilings(mirror: Path, target, averaging):
    accepted = json.loads((mirror / "acceptance.json").read_text())
    rdms = TARGETS[target](np.load(mirror / "objects92" / "rdms.npz"))
    found = dict(zip(("lower", "upper"), rdm_ceiling(rdms, averaging=averaging)))
    for bound, value in found.items():
        known = accepted[f"obj92.ceiling_{bound}.{averaging}.{target}"]
        assert value == pytest.approx(known["value"], abs=known["tol"])


def test_no_rdm_beats_the_rank_averaged_upper_bound():
    rdms = subjects(noise=2.0)
    lower, upper = rdm_ceiling(rdms)
    rng = np.random.default_rng(1)
    mean = np.mean([rankdata(r) for r in rdms], 0)
    best = [np.mean([spearmanr(guess, r)[0] for r in rdms])
            for guess in [mean + s * rng.standard_normal(mean.size) for s in (0, 0.1, 1, 10, 100)]]
    assert lower < max(best) <= upper + 1e-6


def test_one_subject_has_no_ceiling():
    assert np.isnan(rdm_ceiling(subjects(1))).all()


def test_gaps_are_left_out_of_means_and_correlations():
    rdms = subjects(4)
    rdms[0, :20] = np.nan
    rdms[1, 10:30] = np.nan
    lower = [spearmanr(r, np.nanmean(np.delete(rdms, i, 0), 0), nan_policy="omit")[0] for i, r in enumerate(rdms)]
    upper = [spearmanr(r, np.nanmean(rdms, 0), nan_policy="omit")[0] for r in rdms]
    assert rdm_ceiling(rdms, averaging="raw") == pytest.approx((np.mean(lower), np.mean(upper)), abs=1e-6)


def test_subjects_that_lack_pairs_do_not_lower_the_ceiling_of_ranks():
    # All agree; ranks as counts gave .960 and .976, since those of a subject with few pairs end sooner.
    rng, rdms = np.random.default_rng(0), np.tile(np.random.default_rng(1).standard_normal(190), (6, 1))
    for row, lost in zip(rdms, (0, 20, 60, 100, 140, 170)):
        row[rng.permutation(190)[:lost]] = np.nan
    assert min(rdm_ceiling(rdms)) > 0.985


def test_unrelated_subjects_have_a_lower_bound_about_zero():
    lower, upper = rdm_ceiling(np.random.default_rng(3).standard_normal((6, 2000)))
    assert abs(lower) < 0.05 < upper


def test_unknown_averaging_is_named():
    with pytest.raises(ValueError, match=r"ceiling: got 'ranks'.*'rank', 'raw'.*Did you mean"):
        rdm_ceiling(subjects(), averaging="ranks")
