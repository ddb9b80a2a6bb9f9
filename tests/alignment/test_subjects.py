"""Inter-subject correlation against loops and the published value; shifted subjects share nothing."""

import json

import numpy as np
import pytest
from scipy.stats import pearsonr

import neuroalign as na
from neuroalign.alignment import isc, shift_subjects
from neuroalign.data import make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import clean, load_confounds, load_responses


def responses(n=120, subjects=5, seed=0, strength=(1.0, 0.0), runs=2):
    rng = np.random.default_rng(seed)
    shared = rng.standard_normal((n, len(strength))) * strength
    values = np.concatenate([shared + rng.standard_normal(shared.shape) for _ in range(subjects)], 1)
    who = [f"p{k}" for k in range(subjects) for _ in strength]
    where = ["driven", "noise"] * subjects
    return make_responses(values, np.arange(float(n)), [f"{a}:{b}" for a, b in zip(who, where)], dim="time",
                          sample_coords={"run": np.repeat(np.arange(runs), n // runs)},
                          neuroid_coords={"subject": who, "region": where})


def test_isc_equals_a_loop():
    r = responses()
    found = isc(r, n_permutations=0, keep=["subject_score"])
    cube = r.values.reshape(120, 5, 2).astype(float)
    cube = (cube - cube.mean(0)) / cube.std(0)
    for u in range(2):
        own = [pearsonr(cube[:, k, u], np.delete(cube[:, :, u], k, 1).mean(1))[0] for k in range(5)]
        np.testing.assert_allclose(found.subject_score.values[:, 0, 0, u], own, atol=1e-6)
        assert found.score.values[0, 0, u] == pytest.approx(np.mean(own), abs=1e-6)
    assert found.neuroid.values.tolist() == ["driven", "noise"] and found.n_subjects.values.tolist() == [5, 5]


def test_alice_is_the_published_value(mirror):
    expected = json.loads((mirror / "acceptance.json").read_text())
    cleaned = clean(load_responses("alice_fmri"), confounds=load_confounds("alice_fmri"), high_pass=1 / 128)
    found = isc(cleaned, n_permutations=19, n_bootstraps=50)
    assert found.sizes["neuroid"] == 6
    for region in found.neuroid.values:
        wanted = expected[f"alice.isc_loo.{region}"]
        at = found.sel(neuroid=region)
        assert at.score.item() == pytest.approx(wanted["value"], abs=wanted["tol"])
        assert at.p.item() == 0.05 and at.ci_low < at.score < at.ci_high and abs(at.null_mean) < 0.05


def test_intervals_of_isc_cover_what_as_many_other_subjects_would_give():
    # Correlations with the mean of the others are not independent: resampled as if they were, .74 of eight subjects.
    shared = np.random.default_rng(0).standard_normal((60, 1))
    where = {"subject": np.repeat([f"p{k}" for k in range(8)], 20), "region": np.tile([f"r{k}" for k in range(20)], 8)}

    def study(seed):
        rng = np.random.default_rng([seed, 1])
        gain = np.abs(1 + 0.5 * rng.standard_normal(160))
        values = gain * shared + 1.5 * rng.standard_normal((60, 160))
        return isc(make_responses(values, np.arange(60.0), [str(k) for k in range(160)], dim="time",
                                  neuroid_coords=where), n_permutations=0, n_bootstraps=200)

    found = [study(seed) for seed in range(25)]
    truth = np.mean([f.score.values for f in found])
    assert 0.89 < np.mean([(f.ci_low < truth) & (f.ci_high > truth) for f in found]) < 0.97


def test_an_interval_of_a_unit_rests_on_the_subjects_that_have_it():
    r = responses(subjects=8)
    values = r.values.copy()
    values[:, [1, 3, 5, 7, 9, 11]] = np.nan  # two subjects have "noise"
    with pytest.warns(NeuroalignWarning, match="6 series are missing"):
        found = isc(r.copy(data=values), n_permutations=0, n_bootstraps=100)
    whole = isc(r, n_permutations=0, n_bootstraps=100)
    assert np.isnan(found.ci_low.values[0, 0, 1]) and np.isfinite(found.score).all()
    np.testing.assert_allclose(found.ci_low.values[0, 0, 0], whole.ci_low.values[0, 0, 0])


def test_what_is_shared_is_found_and_noise_is_not():
    found = isc(responses(), n_permutations=99)
    assert found.q.sel(neuroid="driven").item() <= 0.02 and found.p.sel(neuroid="noise").item() > 0.05
    apart = isc(shift_subjects(responses()), n_permutations=99)
    assert (apart.p > 0.05).all() and (abs(apart.score) < 0.2).all()


def test_the_null_rejects_at_its_level():
    """Autocorrelated series of unrelated subjects: the share of p at most .1 is near .1."""
    hits = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        noise = rng.standard_normal((80, 5))
        for t in range(1, 80):
            noise[t] += 0.8 * noise[t - 1]
        r = make_responses(noise, np.arange(80.0), list("abcde"), dim="time",
                           neuroid_coords={"subject": list("abcde"), "region": ["x"] * 5})
        hits.append(isc(r, n_permutations=29, random_state=seed).p.item() <= 0.1)
    assert np.mean(hits) < 0.25  # 3 standard errors


def test_shifts_stay_within_runs_and_keep_a_subject_together():
    r = responses()
    moved = shift_subjects(r, random_state=3)
    for run in (0, 1):
        before, after = (v.values[v.run.values == run] for v in (r, moved))
        np.testing.assert_allclose(np.sort(before, 0), np.sort(after, 0))
    of_one = moved.values[:60, :2]
    rolls = [np.allclose(np.roll(r.values[:60, :2], s, axis=0), of_one) for s in range(60)]
    assert sum(rolls) == 1 and moved.attrs["shifted_subjects"]


def test_a_subject_without_a_series_takes_no_part_and_is_named():
    r = responses()
    r.values[:, 3] = 0  # p1:noise
    with pytest.warns(NeuroalignWarning, match="1 series are missing, constant or hold NaN.*'noise of p1'"):
        found = isc(r, n_permutations=9, keep="subject_score")
    assert found.n_subjects.values.tolist() == [5, 4] and np.isfinite(found.score).all()
    assert np.isnan(found.subject_score.sel(subject="p1", neuroid="noise")).all()
    kept = [k for k in range(10) if k != 3]
    with pytest.warns(NeuroalignWarning, match="'noise of p1'"):
        again = isc(r.isel(neuroid=kept), n_permutations=0)
    np.testing.assert_allclose(again.score, found.score)


@pytest.mark.parametrize("change, words", [
    (lambda r: r.drop_vars("subject"), "no coord 'subject' on 'neuroid'"),
    (lambda r: r.sel(neuroid=r.subject.values == "p0"), r"of one subject \(p0\), expected at least two"),
    (lambda r: r.drop_vars("region"), "no coord 'region'"),
    (lambda r: r.assign_coords(region=("neuroid", ["x"] * 10)), "subject 'p0' has several neuroids of 'x'"),
    (lambda r: r.assign_coords(region=("neuroid", [f"x{k}" for k in range(10)])), "fewer than two subjects"),
    (lambda r: r.drop_vars("time").rename(time="stimulus").assign_coords(
        stimulus_id=("stimulus", [f"s{k}" for k in range(120)])), r"expected \('time', 'neuroid'\)"),
])
@pytest.mark.filterwarnings("ignore::neuroalign.errors.NeuroalignWarning")
def test_wrong_responses_are_explained(change, words):
    with pytest.raises(ValueError, match=words):
        na.alignment.isc(change(responses()))
