"""Site tests on planted truth: who predicts better where, in pairs, with counts by subject and condition."""

import numpy as np
import pytest
from scipy import stats as theirs

import neuroalign as na
from neuroalign.alignment import count_sites, site_tests
from neuroalign.data import make_features, make_responses
from neuroalign.data import scores as results
from neuroalign.errors import NeuroalignWarning

ALPHAS = np.logspace(-2, 6, 9)


def brain(n=200, sites=30, seed=0):
    """Two unimodal spaces and a multimodal one with their interaction, which drives the first ten sites."""
    rng, ids = np.random.default_rng(seed), [f"s{i:03d}" for i in range(n)]
    vision, language = rng.standard_normal((2, n, 4))
    fused = vision * language
    Y = np.concatenate([vision, language], 1) @ rng.standard_normal((8, sites))
    Y[:, :10] = 2 * fused @ rng.standard_normal((4, 10))
    Y += 2 * rng.standard_normal(Y.shape)
    spaces = [make_features(x, ids, model=m, layer=f"l{k}", depth=float(k)) for m, parts in
              (("vision", (vision, vision[:, :2])), ("language", (language, language[:, :2])),
               ("fusion", (fused, fused[:, :2]))) for k, x in enumerate(parts)]
    responses = make_responses(Y, ids, [f"v{k}" for k in range(sites)])
    return spaces, responses.assign_coords(subject=("neuroid", ["A"] * (sites // 2) + ["B"] * (sites - sites // 2)))


@pytest.fixture(scope="module")
def scores():
    spaces, responses = brain()
    return na.encode(spaces, responses, layer={"multimodal": ["fusion:*"], "unimodal": ["vision:*", "language:*"]},
                     metric="r.pooled", alphas=ALPHAS, n_bootstraps=600, keep=["bootstrap"])


def test_groups_of_models_are_chosen_from_and_named(scores):
    assert scores.space.values.tolist() == ["multimodal", "unimodal"]
    assert scores.model.values.tolist() == ["multimodal", "unimodal"]
    assert np.all(scores.chosen_depth.sel(space="multimodal")[:10] < 0.5)  # the full space, not half of it
    spaces, responses = brain(n=60, sites=12)
    with pytest.raises(ValueError, match="layer: group 'both': no space 'flava:.'"):
        na.encode(spaces, responses, layer={"both": ["flava:*"]}, alphas=ALPHAS)


def test_planted_sites_are_found_and_others_are_not(scores):
    tests = site_tests(scores, {"multi > uni": ("multimodal", "unimodal"), "uni > multi": ("unimodal", "multimodal")})
    q = tests.q.values[0]
    assert (q[0, :10] < 0.05).all() and (q[0, 10:] > 0.5).all()
    assert (q[1, 10:] < 0.05).mean() > 0.8 and (q[1, :10] > 0.5).all()
    np.testing.assert_allclose(tests.score.values[0, 0], -tests.score.values[0, 1])
    assert np.all(tests.ci_low <= tests.score) and np.all(tests.score <= tests.ci_high)
    counts = count_sites(tests, by="subject")
    assert counts.query("comparison == 'multi > uni'")[["subject", "n_sites", "weak", "strict"]].values.tolist() == [
        ["A", 15, 10, 10], ["B", 15, 0, 0]]


def test_comparisons_are_named_pairs(scores):
    for comparisons, words in (({"g>b": "multimodal"}, "got 'multimodal' under 'g>b', expected a pair of spaces"),
                               ({"g>b": ("multimodal",)}, "expected a pair of spaces"),
                               ([("multimodal", "unimodal")], "expected a dict of named pairs, such as {'a > b'"),
                               ({}, "expected a dict of named pairs")):
        with pytest.raises(ValueError) as error:
            site_tests(scores, comparisons)
        assert words in str(error.value)


def test_few_resampled_groups_are_said_to_be_too_few(scores):
    assert na.scores.attrs_of(site_tests(scores, {"m": ("multimodal", "unimodal")}))["resampled_units"] == 200
    spaces, responses = brain(n=80, sites=12)
    responses = responses.assign_coords(film=("stimulus", [f"film{i // 20}" for i in range(80)]))
    with pytest.warns(NeuroalignWarning, match="intervals rest on 4 groups"):
        by_film = na.encode(spaces[::2], responses, groups="film", cv="leave-one-group-out", metric="r.pooled",
                            alphas=ALPHAS, n_bootstraps=300, keep=["bootstrap"])
    with pytest.warns(NeuroalignWarning, match="site tests of 4 resampled units .*: so few") as said:
        tests = site_tests(by_film, {"f": (by_film.space.values[0], by_film.space.values[1])}, fdr="bh")
    about = na.scores.attrs_of(tests)
    assert [w.message.code for w in said] == ["few-units"] and about["warnings"][-1]["code"] == "few-units"
    assert about["resampled_units"] == 4


def test_p_holds_its_level_where_neither_is_better():
    # Without the widening it is .11: the fits themselves vary, too.
    rng, below = np.random.default_rng(5), []
    for seed in range(6):
        ids = [f"s{i:03d}" for i in range(150)]
        shared = rng.standard_normal((150, 3))
        spaces = [make_features(shared + rng.standard_normal((150, 3)), ids, model=m) for m in "ab"]
        Y = shared @ rng.standard_normal((3, 80)) + 2 * rng.standard_normal((150, 80))
        responses = make_responses(Y, ids, [str(k) for k in range(80)])
        scores = na.encode(spaces, responses, metric="r.pooled", alphas=ALPHAS, n_bootstraps=300, keep=["bootstrap"],
                           random_state=seed)
        tests = site_tests(scores, {"a > b": ("a::all", "b::all"), "b > a": ("b::all", "a::all")})
        below.append((tests.p.values <= 0.05).mean())
    assert 0.01 < np.mean(below) < 0.065


def test_strict_counts_need_every_condition(scores):
    comparison = {"multi > uni": ("multimodal", "unimodal")}
    spaces, responses = brain()
    shuffled = responses.copy(data=responses.values[np.random.default_rng(1).permutation(200)])
    other = na.encode(spaces, shuffled, layer={"multimodal": ["fusion:*"], "unimodal": ["vision:*", "language:*"]},
                      metric="r.pooled", alphas=ALPHAS, n_bootstraps=600, keep=["bootstrap"])
    both = [site_tests(scores, comparison), site_tests(other, comparison)]
    counts = count_sites(both)
    assert counts.weak.item() >= 10 and counts.strict.item() <= 1 and counts.n_sites.item() == 30
    with pytest.raises(ValueError, match="different neuroids"):
        count_sites([both[0], both[1].isel(neuroid=slice(5))])
    words = r"condition 1 \(analysis .site_tests.\) lack .q., .default_winner., .*make them again by na.alignment"
    with pytest.raises(ValueError, match=words):
        count_sites([both[0], both[1].drop_vars(["q", "default_winner"])])
    with pytest.raises(ValueError, match="by: no coord 'lobe' of the neuroids, expected one of .*neuroid"):
        count_sites(both, by="lobe")


def test_what_cannot_be_shown_is_refused(scores):
    few = scores.isel(resample=slice(30))
    with pytest.raises(ValueError, match=r"with 30 resamples p is at least 0.032, and no q of 30 sites.*n_bootstraps="):
        site_tests(few, {"a": ("multimodal", "unimodal")})
    with pytest.raises(ValueError, match="no resampled scores"):
        site_tests(scores.drop_vars("bootstrap"), {"a": ("multimodal", "unimodal")})
    with pytest.raises(KeyError, match="no space 'fused'"):
        site_tests(scores, {"a": ("fused", "unimodal")})


def film_study(seed, n_films, n=160, sites=20):
    """Resampled r of whole films of two equally good models, as `encode` gives them; films and sites differ in both."""
    rng = np.random.default_rng(seed)
    film, shared = np.repeat(np.arange(n_films), n // n_films), rng.standard_normal((n, 3))
    weights = rng.standard_normal((3, sites)) + 0.5 * rng.standard_normal((n_films, 3, sites))
    Y = np.einsum("ni,nis->ns", shared, weights[film]) + 2 * rng.standard_normal((n, sites))
    counts = rng.multinomial(n_films, np.full(n_films, 1 / n_films), 300)
    score, drawn = [], []
    for _ in "ab":
        x = shared + np.exp(0.4 * rng.standard_normal(n_films))[film][:, None] * rng.standard_normal((n, 3))
        p = np.empty_like(Y)
        for k in range(n_films):
            fit = np.linalg.lstsq(x[film != k], Y[film != k], rcond=None)[0]
            p[film == k] = x[film == k] @ fit
        sums = [np.stack([v[film == k].sum(0) for k in range(n_films)]) for v in
                (np.ones_like(Y), Y, Y * Y, p, p * p, Y * p)]
        for kept, weight in ((score, np.ones((1, n_films))), (drawn, counts)):
            m, y, yy, q, qq, yq = (weight @ s for s in sums)
            kept.append((yq - y * q / m) / np.sqrt((yy - y * y / m) * (qq - q * q / m)))
    dims, coords = ("metric", "space", "neuroid"), {"metric": ["r.pooled"], "space": ["a", "b"],
                                                    "neuroid": [f"v{k}" for k in range(sites)]}
    folds = {"n_test": [n // n_films] * n_films, "n_train": [n - n // n_films] * n_films}
    return results.make({"score": (dims, np.concatenate(score)[None]),
                         "bootstrap": (("resample", *dims), np.stack(drawn, 1)[:, None].astype(np.float32))},
                        coords, {"folds": folds, "resampled_units": n_films})


EITHER = {"a > b": ("a", "b"), "b > a": ("b", "a")}


@pytest.mark.parametrize(("n_films", "studies"), [(4, 40), (10, 40)])
@pytest.mark.filterwarnings("ignore:site tests of 4")
def test_p_of_few_films_holds_its_level(n_films, studies):
    # Against resamples alone .13 of four films, and .08 of ten.
    tests = [site_tests(film_study(seed, n_films), EITHER, fdr="bh") for seed in range(studies)]
    p = np.stack([one.p.values for one in tests])
    assert 0.01 < (p <= 0.05).mean() < 0.06 and (p <= 0.005).mean() < 0.012
    covered = np.mean([((one.ci_low < 0) & (one.ci_high > 0)).values.mean() for one in tests])
    assert covered > 0.93  # of plain percentiles .90 of four films


def test_p_of_four_films_is_at_least_that_of_t():
    scores = film_study(1, 4)
    with pytest.warns(NeuroalignWarning, match="site tests of 4 resampled units"):
        tests = site_tests(scores, EITHER, fdr="bh")
    moved = np.sqrt(1 + 160 / 120) * np.subtract(*scores.bootstrap.values[:, 0].transpose(1, 0, 2)).astype(float)
    gain = np.subtract(*scores.score.values[0])
    of_t = theirs.t.sf(gain / moved.std(0) * np.sqrt(3 / 4), 3)
    assert (tests.p.values[0, 0] >= of_t - 1e-6).all() and np.isclose(tests.p.values[0, 0], of_t).any()


def test_resamples_without_a_score_count_as_reaching_it():
    # A target that is constant in the films drawn has no r.
    scores = film_study(0, 10)
    scores["score"][0, 0] = scores.score[0, 1] + 0.5
    scores["bootstrap"][:] = scores.bootstrap - scores.bootstrap.mean("resample") + scores.score
    scores["bootstrap"][:60, :, 0, :3] = np.nan
    p = site_tests(scores, EITHER, fdr="bh").p.values[0, 0]
    assert (p[:3] >= 61 / 301).all() and (p[3:] < 0.05).all()


def test_equal_models_are_not_different():
    scores = film_study(0, 10)
    scores["score"][0, 0], scores["bootstrap"][:, 0, 0] = scores.score[0, 1], scores.bootstrap[:, 0, 1]
    scores["bootstrap"][:, 0, :, 0] = scores.score.astype(np.float32)[0, :, 0]  # nothing varies
    assert (site_tests(scores, EITHER, fdr="bh").p == 1).all()
