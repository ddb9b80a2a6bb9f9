"""Site tests over time bins: bins chosen on validation, the largest over bins, pairs, and the paper's bootstrap."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter1d
from scipy.stats import norm
from scipy.stats import t as student
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import neuroalign as na
from neuroalign.alignment import count_sites, site_tests, validation_scores
from neuroalign.alignment.problem import set_up
from neuroalign.data import make_features, make_responses
from neuroalign.data import scores as results
from neuroalign.errors import NeuroalignWarning

pytestmark = pytest.mark.filterwarnings("ignore:the (small|larg)est penalty:neuroalign.errors.NeuroalignWarning")
FAST = {"alphas": [10.0, 100.0, 1e3, 1e5], "n_inner_splits": 3}
EQUAL = {"a > b": ("a::all", "b::all"), "b > a": ("b::all", "a::all")}


def recording(seed=0, n=150, n_sites=40, n_bins=20, signal=0.6, driven=slice(5, 15), wide=8):
    """Two equally good models of sites whose bins are means over overlapping windows; bins 5 to 15 are driven."""
    rng, ids = np.random.default_rng(seed), [f"s{i:03d}" for i in range(n)]
    shared = rng.standard_normal((n, 3))
    spaces = [make_features(shared + rng.standard_normal((n, 3)), ids, model=m) for m in "ab"]
    noise = uniform_filter1d(rng.standard_normal((n, n_sites, n_bins + wide)), wide)[..., wide // 2:][..., :n_bins]
    Y = noise * np.sqrt(wide)
    Y[..., driven] += signal * (shared @ rng.standard_normal((3, n_sites)))[..., None]
    return spaces, make_responses(Y, ids, [f"v{k}" for k in range(n_sites)], time_bins=np.arange(n_bins) * 0.025)


def encoded(seed=0, **options):
    spaces, responses = recording(seed, **options)
    return na.encode(spaces, responses, metric="r.pooled", n_bootstraps=400, keep=["bootstrap"], **FAST)


def passing(scores, bins_a, bins_b):
    """Validation scores of two folds by which these bins pass, at every site."""
    values = np.full((2, 1, 2, scores.sizes["neuroid"], scores.sizes["time_bin"]), -0.1)
    for k, bins in enumerate((bins_a, bins_b)):
        values[:, 0, k, :, bins] = 0.1
    values[1, 0, :, :, 19] = 0.1  # passes in one fold of two: does not pass
    dims, one = ("metric", "space", "neuroid", "time_bin"), scores.score
    return results.make({"score": (dims, values.mean(0)), "fold_score": (("fold", *dims), values)},
                        {"metric": ["r2.validation"], **{d: one[d].values for d in dims[1:]}})


@pytest.fixture(scope="module")
def scores():
    return encoded()


def test_events_are_resampled_and_bins_are_not():
    # One-sided at .05, in both directions, between models that are equally good.
    rates = {k: [] for k in ("mean", "max", "paper", "chosen")}
    for seed in range(3):
        spaces, responses = recording(seed)
        scores, chosen = encoded(seed), {"validation": validation_scores(spaces, responses, **FAST), "min_bins": 3}
        for name, options in (("mean", {}), ("max", {"over": "max"}), ("chosen", chosen)):
            p = site_tests(scores, EQUAL, **options).p.values
            rates[name].append((p[np.isfinite(p)] <= 0.05).mean())
        with pytest.warns(NeuroalignWarning, match="bootstrap over time bins.*not calibrated.*49 % false positives"):
            rates["paper"].append((site_tests(scores, EQUAL, paper_compat=True).p.values <= 0.05).mean())
    found = {k: np.mean(v) for k, v in rates.items()}
    assert max(found["mean"], found["max"], found["chosen"]) <= 0.065 and found["paper"] > 0.2, found


def test_what_the_paper_did_says_so_in_the_result(scores):
    with pytest.warns(NeuroalignWarning, match="not calibrated"):
        tests = site_tests(scores, EQUAL, paper_compat=True)
    told = results.attrs_of(tests)
    assert "p-values are not calibrated" in told["paper_compat"] and told["warnings"][-1]["code"] == "not-calibrated"
    gain = (scores.score.sel(space="a::all") - scores.score.sel(space="b::all")).values[0]
    away = np.abs(gain.mean(1)) > 3 * gain.std(1) / np.sqrt(20)  # far from 0, if bins were independent
    assert (np.minimum(*tests.p.values[0])[away] < 0.01).all() and np.allclose(tests.p.values[0].sum(0), 1, atol=0.02)


def test_both_models_are_compared_on_the_bins_where_either_passes(scores):
    tests = site_tests(scores, EQUAL, validation=passing(scores, slice(5, 12), slice(8, 15)), min_bins=7)
    assert (tests.n_bins == 10).all() and (tests.default_winner == "").all() and (tests.p <= 1).all()
    union = scores.isel(time_bin=slice(5, 15))
    plain = site_tests(union, EQUAL)
    for name in ("score", "p", "q", "ci_low", "ci_high"):
        np.testing.assert_allclose(tests[name], plain[name], atol=1e-6)
    limits = passing(scores, slice(5, 12), slice(8, 15)).rename(fold_score="ci_low").isel(fold=0, drop=True)
    np.testing.assert_allclose(site_tests(scores, EQUAL, validation=limits, min_bins=7).score, plain.score, atol=1e-6)
    by_name = site_tests(scores, EQUAL, bins=scores.time_bin.values[5:15])
    np.testing.assert_allclose(by_name.score, plain.score, atol=1e-6)
    told = results.attrs_of(by_name)
    assert told["n_bins"] == 10 and told["n_events"] == 150 and (by_name.n == 150).all()


def test_winners_by_default_carry_no_p_and_are_counted_apart(scores):
    only_a = passing(scores, slice(5, 15), slice(0, 2))
    tests = site_tests(scores, EQUAL, validation=only_a, min_bins=5)
    assert np.isnan(tests.p).all() and np.isnan(tests.q).all()
    assert (tests.default_winner.sel(space="a > b") == "better").all()
    assert (tests.default_winner.sel(space="b > a") == "other").all()
    half = only_a.copy(deep=True)
    half.fold_score[:, :, 1, :10, 5:15] = 0.1  # at ten sites both pass
    half.fold_score[:, :, :, 30:] = -0.1  # at ten, none
    tests = site_tests(scores, EQUAL, validation=half, min_bins=5)
    counts = count_sites(tests).set_index("comparison")
    assert counts.loc["a > b", ["n_sites", "default", "default_other"]].tolist() == [10, 20, 0]
    assert counts.loc["b > a", ["n_sites", "default", "default_other"]].tolist() == [10, 0, 20]
    assert np.isnan(tests.score.values[0, :, 30:]).all() and (tests.n_bins[:, 30:] == 0).all()
    # A site that was tested in one condition of two counts as tested, and can be weak but not strict.
    both = count_sites([tests, site_tests(scores, EQUAL)])
    assert both.n_sites.tolist() == [40, 40] and (both.strict <= both.weak).all()


def test_the_largest_over_bins_is_held_against_the_largest_of_every_resample(scores):
    tests = site_tests(scores, EQUAL, over="max")
    drawn = (scores.bootstrap.sel(space="a::all") - scores.bootstrap.sel(space="b::all")).values[:, 0].astype(float)
    gain = (scores.score.sel(space="a::all") - scores.score.sel(space="b::all")).values[0]
    moved = np.sqrt(1 + 5 / 4) * (drawn - gain)
    z, null = gain / moved.std(0), moved / moved.std(0)
    needed = norm.isf(student.sf(z.max(1) * np.sqrt(149 / 150), 149))  # what t of 150 events makes of it
    expected = [(1 + (null[:, k].max(1) >= needed[k]).sum()) / 401 for k in range(40)]
    np.testing.assert_allclose(tests.p.sel(space="a > b").values[0], expected, atol=1.5 / 401)
    np.testing.assert_allclose(tests.peak.sel(space="a > b"), scores.time_bin.values[z.argmax(1)])
    np.testing.assert_allclose(tests.score, site_tests(scores, EQUAL).score)


def test_pairs_must_all_hold():
    spaces, responses = recording(n_bins=1, driven=slice(0, 1))
    rng, ids = np.random.default_rng(9), spaces[0].stimulus_id.values
    spaces += [make_features(rng.standard_normal((150, 3)), ids, model=f"random{k}") for k in range(3)]
    scores = na.encode(spaces, responses.isel(time_bin=0, drop=True), metric="r.pooled", n_bootstraps=400,
                       keep=["bootstrap"], **FAST)
    seeds = [f"random{k}::all" for k in range(3)]
    tests = site_tests(scores, {"seeds": ("a::all", seeds), **{s: ("a::all", s) for s in seeds},
                                "pairs": (["a::all", "b::all"], seeds[:2]), "other": ("b::all", seeds[1])})
    one = tests.sel(space=seeds)
    np.testing.assert_allclose(tests.p.sel(space="seeds"), one.p.max("space"))
    np.testing.assert_allclose(tests.score.sel(space="seeds"), one.score.mean("space"))
    np.testing.assert_allclose(tests.p.sel(space="pairs"), tests.p.sel(space=[seeds[0], "other"]).max("space"))
    assert (tests.p.sel(space="seeds") < 0.05).mean() > 0.7
    with pytest.raises(ValueError, match="2 and 3 spaces cannot be paired"):
        site_tests(scores, {"x": (["a::all", "b::all"], seeds)})
    with pytest.raises(ValueError, match="no time bins, which 'over=max' needs"):
        site_tests(scores, EQUAL, over="max")


def test_validation_scores_are_those_of_the_inner_folds():
    spaces, responses = recording(n=60, n_sites=3, n_bins=2, driven=slice(0, 1))
    found = validation_scores(spaces, responses, **FAST)
    assert found.fold_score.dims == ("fold", "metric", "space", "neuroid", "time_bin")
    fitter = set_up(spaces, responses, **FAST).fitter
    X, Y = spaces[0].values, responses.values.reshape(60, 6).astype(float)
    for fold, (train, _) in enumerate(fitter.outer):
        x, y = X[train], Y[train]
        models = [make_pipeline(StandardScaler(), Ridge(alpha)) for alpha in FAST["alphas"]]
        error = np.array([sum(((y[j] - m.fit(x[i], y[i]).predict(x[j])) ** 2).sum(0) for i, j in fitter.inner[fold])
                          for m in models])
        expected = 1 - error.min(0) / (len(y) * y.var(0))
        np.testing.assert_allclose(found.fold_score.values[fold, 0, 0].ravel(), expected, atol=1e-4)
    np.testing.assert_allclose(found.score, found.fold_score.mean("fold"))


def test_validation_scores_of_groups_and_joint_designs_have_the_names_of_the_encoding():
    spaces, responses = recording(n=60, n_sites=3, n_bins=2, driven=slice(0, 1))
    single = validation_scores(spaces, responses, **FAST)
    best = validation_scores(spaces, responses, layer={"any": ["a*", "b*"]}, **FAST)
    np.testing.assert_allclose(best.fold_score.sel(space="any"), single.fold_score.max("space"), atol=1e-6)
    joint = validation_scores(spaces, responses, joint=[["a::all"], ["a::all", "b::all"]], n_candidates=4, **FAST)
    assert joint.space.values.tolist() == ["a::all", "a::all + b::all"]
    np.testing.assert_allclose(joint.fold_score[:, :, 0], single.fold_score.sel(space="a::all"), atol=0.01)
    fitted = na.encode_banded(spaces, responses, n_candidates=4, **FAST)
    assert fitted.space.item() == joint.space.values[1]
    with pytest.raises(ValueError, match="alphas: one penalty leaves nothing to choose"):
        validation_scores(spaces, responses, alphas=[1.0])


def test_what_does_not_fit_is_explained(scores):
    other = passing(scores, slice(5, 15), slice(5, 15))
    with pytest.raises(ValueError, match="no validation scores of 'b::all'"):
        site_tests(scores, EQUAL, validation=other.sel(space=["a::all"]))
    with pytest.raises(ValueError, match="are not those of the scores"):
        site_tests(scores, EQUAL, validation=other.isel(neuroid=slice(5)))
    with pytest.raises(ValueError, match="happened to do well there"):
        site_tests(scores, EQUAL, validation=other, over="max")
    with pytest.raises(ValueError, match=r"bins: got '7.0', expected some of the time bins 0 to 0.475 s"):
        site_tests(scores, EQUAL, bins=[0.1, 7.0])
