"""Means over subjects: which neuroids count, what few subjects allow, and what is said of it."""

import numpy as np
import pytest

from neuroalign.alignment import group_scores
from neuroalign.data import scores as results
from neuroalign.errors import NeuroalignWarning
from neuroalign.reports.methods import methods
from neuroalign.stats import expanded_interval, hierarchical_means, sign_flip_test


def made(n_subjects=8, seed=0, null=True, times=None, analysis="encode"):
    """Scores of two regions; five neuroids a subject, of which the first is in V1, the others in IT."""
    rng = np.random.default_rng(seed)
    subjects = np.repeat([f"S{k}" for k in range(n_subjects)], 5)
    shape = (1, 2, len(subjects), *(() if times is None else (len(times),)))
    score = 0.1 + 0.1 * rng.standard_normal(shape)
    dims = ("metric", "space", "neuroid", "time_bin")[:len(shape)]
    variables = {"score": (dims, score)} | ({"null_mean": (dims, score * 0 - 0.02)} if null else {})
    coords = {"metric": ["r.pooled"], "space": ["a", "b"], "neuroid": [f"n{k}" for k in range(len(subjects))],
              "subject": ("neuroid", subjects), "region": ("neuroid", np.tile(["V1", *["IT"] * 4], n_subjects))}
    return results.make(variables, coords | ({} if times is None else {"time_bin": times}), {"analysis": analysis})


def test_subjects_count_alike_and_intervals_are_over_subjects():
    scores = made()
    found = group_scores(scores, by="region")
    assert found.score.dims == ("metric", "space", "target") and found.target.values.tolist() == ["V1", "IT"]
    own = scores.score.values[0, :, 1:].reshape(2, -1)
    it = scores.isel(neuroid=scores.region.values == "IT")
    per_subject = it.score.values[0].reshape(2, 8, 4).mean(2)
    np.testing.assert_allclose(found.subject_score.sel(target="IT").values[:, 0], per_subject.T)
    np.testing.assert_allclose(found.score.sel(target="IT")[0], per_subject.mean(1))
    drawn = hierarchical_means(it.score.values[0].T, it.subject.values, 5000)
    low, high = expanded_interval(drawn, 8)
    np.testing.assert_allclose(found.ci_low.sel(target="IT")[0], low)
    np.testing.assert_allclose(found.ci_high.sel(target="IT")[0], high)
    test = sign_flip_test((per_subject + 0.02).T)
    np.testing.assert_allclose(found.p.sel(target="IT")[0], test.p)
    np.testing.assert_allclose(found.n_positive.sel(target="IT")[0], test.n_positive)
    np.testing.assert_allclose(found.null_mean, -0.02)
    told = results.attrs_of(found)
    assert told["smallest_p"] == 2**-8 and told["interval"] == "95% over 8 subjects, expanded percentile"
    assert found.n_neuroids.values.tolist() == [8, 32] and own.size == 78
    both = group_scores(scores, by="region", draw="both")
    assert (both.ci_high - both.ci_low).sel(target="IT").mean() > (found.ci_high - found.ci_low).sel(target="IT").mean()


def test_few_subjects_get_results_each_and_nothing_is_said_of_a_population():
    with pytest.warns(NeuroalignWarning, match=r"1 of 1 groups have fewer than 6 subjects \('all': 5\): no interval"):
        found = group_scores(made(5))
    assert np.isnan(found.ci_low).all() and np.isnan(found.ci_high).all() and np.isnan(found.p).all()
    assert np.isfinite(found.subject_score).all() and found.n_subjects.item() == 5
    np.testing.assert_array_equal(found.n_positive[:, :, 0], (found.subject_score[..., 0] > -0.02).sum("subject"))
    told = results.attrs_of(found)
    assert told["interval"] == "none: 5 subjects, fewer than 6; nothing follows for a population"
    assert told["warnings"][0]["code"] == "few-subjects" and told["smallest_p"] is None


def test_a_region_that_few_subjects_have_is_named_and_the_others_are_not_held_up():
    scores = made(7)
    region = scores.region.values.astype("U4")
    region[[4, 9]] = "TPJ"
    scores = scores.assign_coords(region=("neuroid", region))
    with pytest.warns(NeuroalignWarning, match="1 of 3 groups .*no p for 'TPJ'"):
        found = group_scores(scores, by="region")
    assert np.isfinite(found.ci_low.sel(target=["V1", "IT"])).all() and np.isnan(found.ci_low.sel(target="TPJ")).all()
    assert np.isfinite(found.subject_score.sel(target="TPJ")).all(("metric", "space")).sum() == 2


def test_nothing_is_tested_against_zero_but_differences():
    assert "p" not in group_scores(made(null=False)) and "n_positive" not in group_scores(made(null=False)).coords
    differences = group_scores(made(null=False, analysis="site_tests"))
    expected = sign_flip_test(made().score.values[0].reshape(2, 8, 5).mean(2).T)
    np.testing.assert_allclose(differences.p[0, :, 0], expected.p)


def test_time_bins_stay_and_neuroids_of_nan_do_not_count():
    scores = made(times=[0.0, 0.1, 0.2])
    scores["score"].values[0, :, 3] = np.nan
    found = group_scores(scores, by="region")
    assert found.score.dims == ("metric", "space", "target", "time_bin") and found.n_neuroids.values.tolist() == [8, 31]
    kept = scores.score.values[0][:, [1, 2, 4]].mean(1)
    np.testing.assert_allclose(found.subject_score.sel(subject="S0", target="IT")[0], kept)
    with pytest.raises(ValueError, match="no coord 'lobe' on 'neuroid'; found 'subject', 'region'"):
        group_scores(scores, by="lobe")
    with pytest.raises(ValueError, match="Name the subject of each neuroid"):
        group_scores(scores.drop_vars("subject"))


def test_the_methods_say_what_was_done():
    assert "Intervals come from resampled subjects, each with its neuroids; p is" in methods(group_scores(made()))
    with pytest.warns(NeuroalignWarning):
        assert "With 3 subjects there is no interval and no p" in methods(group_scores(made(3)))
