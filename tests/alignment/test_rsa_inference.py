"""Tests of RSA scores: the corrected variance against rsatoolbox, t-tests of scipy, rates under no difference."""

import numpy as np
import pytest
from scipy import stats
from scipy.spatial.distance import pdist

from neuroalign.alignment import rdms, rsa_tests
from neuroalign.alignment.rsa_inference import dual_variance
from neuroalign.data import make_features, make_rdms
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import fdr, holm
from neuroalign.stats.rdm_ceilings import rdm_ceiling

N, SUBJECTS = 14, 6
IDS = [f"s{k:02d}" for k in range(N)]


def space(seed, model, x=None, noise=0.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, 10)) if x is None else x + noise * rng.standard_normal(x.shape)
    return make_features(x, IDS, model=model)


def brain(truth, noise=0.4, seed=0, regions=("IT",)):
    rng = np.random.default_rng(seed)
    owners = [(r, f"sub{k}") for r in regions for k in range(SUBJECTS)]
    values = np.stack([truth + noise * rng.random(truth.size) for _ in owners])
    return make_rdms(values, stimulus_ids=IDS, targets=[f"{r}{s}" for r, s in owners],
                     target_coords={"region": [r for r, _ in owners], "subject": [s for _, s in owners]})


@pytest.fixture(scope="module")
def tested():
    spaces = [space(1, "true"), space(2, "other"), space(3, "third")]
    target = brain(rdms(spaces[0]).values[0])
    return spaces, target, {o: rsa_tests(spaces, target, over=o, n_bootstraps=400, device="cpu")
                            for o in ("both", "stimuli", "subjects")}


def test_the_corrected_variance_is_that_of_rsatoolbox():
    inference = pytest.importorskip("rsatoolbox.util.inference_util", reason="rsatoolbox is not installed")
    rng = np.random.default_rng(0)
    for _ in range(20):
        stimuli, subjects = rng.random(2)
        both = (stimuli + subjects) * rng.uniform(0.9, 3)
        expected = inference._dual_bootstrap(np.array([[both], [subjects], [stimuli]]), n_rdm=7, n_pattern=20)[0]
        assert dual_variance(both, stimuli, subjects, 20, 7) == pytest.approx(expected, abs=1e-12)


def test_over_subjects_it_is_the_t_test(tested):
    spaces, target, tables = tested
    models = [pdist(s.values.astype(float), "correlation") for s in spaces]
    scores = np.array([[stats.spearmanr(m, row)[0] for row in target.values] for m in models])
    table = tables["subjects"].set_index(["test", "space", "other"])
    for i, name in enumerate(["true", "other", "third"]):
        row = table.loc[("above zero", f"{name}::all", "")]
        expected = stats.ttest_1samp(scores[i], 0, alternative="greater")
        assert row.estimate == pytest.approx(scores[i].mean(), abs=1e-5) and row.df == SUBJECTS - 1
        assert row.se == pytest.approx(stats.sem(scores[i]), rel=0.12)  # 400 resamples
        assert np.log10(row.p) == pytest.approx(np.log10(expected.pvalue), abs=0.6)
    row = table.loc[("difference", "true::all", "other::all")]
    assert row.se == pytest.approx(stats.sem(scores[0] - scores[1]), rel=0.12)


def test_the_three_kinds_and_their_order(tested):
    _, target, tables = tested
    lower = rdm_ceiling(target.values)[0]
    both = tables["both"].set_index(["test", "space", "other"])
    assert len(both) == 3 + 3 + 3 and both.loc[("above zero", "true::all", ""), "p"] < 1e-3
    gap = both.loc[("below ceiling", "other::all", "ceiling")]
    assert gap.estimate == pytest.approx(lower - both.loc[("above zero", "other::all", ""), "estimate"], abs=1e-5)
    assert gap.p < 0.01 and both.loc[("below ceiling", "true::all", "ceiling"), "p"] > 0.05
    assert both.loc[("difference", "true::all", "other::all"), "p"] < 0.01
    assert both.loc[("difference", "other::all", "third::all"), "p"] > 0.05
    # A claim about more is less certain.
    errors = {o: t.loc[t.test == "above zero", "se"].to_numpy() for o, t in tables.items()}
    assert (errors["both"] >= 0.97 * np.maximum(errors["stimuli"], errors["subjects"])).all()


def test_p_is_adjusted_within_each_kind(tested):
    for adjust, call in (("holm", holm), ("bh", fdr)):
        table = rsa_tests(tested[0], tested[1], adjust=adjust, n_bootstraps=50, device="cpu")
        for _, part in table.groupby("test"):
            np.testing.assert_allclose(part.p_adjusted, call(part.p.to_numpy()))
        assert table.attrs["adjust"].startswith(adjust)


@pytest.mark.slow
def test_rates_under_no_difference():
    """Two models, each the truth with noise of its own: new stimuli and subjects every time."""
    found = {"both": 0, "stimuli": 0}
    for seed in range(120):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((N, 10))
        pair = [space(1000 + 2 * seed + k, m, x, 1.0) for k, m in enumerate("ab")]
        target = brain(rdms(space(0, "t", x)).values[0], noise=1.0, seed=seed)
        for over in found:
            table = rsa_tests(pair, target, over=over, n_bootstraps=100, device="cpu")
            found[over] += table.loc[table.test == "difference", "p"].item() < 0.05
    assert found["both"] <= 12 and found["stimuli"] <= 24


def test_a_single_owner_is_resampled_over_stimuli_and_has_no_ceiling():
    spaces = [space(1, "a"), space(2, "b")]
    table = rsa_tests(spaces, make_rdms(rdms(spaces[0]).values, stimulus_ids=IDS, targets=["me"]), n_bootstraps=50)
    assert set(table.test) == {"above zero", "difference"} and (table.df == N - 1).all()
    with pytest.warns(NeuroalignWarning, match="'me' has 1 subjects that can be resampled; it is left out"):
        with pytest.raises(ValueError, match="no target is left"):
            rsa_tests(spaces, make_rdms(rdms(spaces[0]).values, stimulus_ids=IDS, targets=["me"]), over="subjects")


@pytest.mark.parametrize("options, words", [
    ({"metric": "rsa.tau_a"}, "expected a per-subject metric that can be resampled"),
    ({"metric": "rsa.spearman.group"}, "expected a per-subject metric"),
    ({"over": "runs"}, "over: got 'runs'"), ({"adjust": "none"}, "adjust: got 'none'"),
    ({"n_bootstraps": 0}, "n_bootstraps=0"),
])
def test_wrong_arguments_are_explained(options, words, tested):
    with pytest.raises(ValueError, match=words):
        rsa_tests(tested[0], tested[1], **options)
