"""`compare` on planted geometry, on every kind of target, and on bad input."""

import numpy as np
import pytest
import xarray as xr
from scipy.spatial.distance import pdist
from scipy.stats import pearsonr, spearmanr

import neuroalign as na
from neuroalign.alignment import linear_cka, rdms
from neuroalign.data import make_features, make_rdms, make_responses, scores
from neuroalign.errors import NeuroalignWarning, NotAligned
from neuroalign.stats.rdm_ceilings import rdm_ceiling

N = 16
IDS = [f"s{i:02d}" for i in range(N)]
QUICK = {"n_permutations": 19, "device": "cpu"}


def space(seed, p=20, model="m", layer=None, ids=IDS):
    values = np.random.default_rng(seed).standard_normal((len(ids), p)).astype(np.float32)
    return make_features(values, ids, model=model, layer=layer or f"l{seed}", depth=seed / 10)


def subjects_of(true, regions, noise=0.3, seed=0):
    """RDMs of the subjects of each region: a true RDM and noise. `regions` is a dict region -> number of subjects."""
    rng = np.random.default_rng(seed)
    labels = [(r, f"sub{k}") for r, count in regions.items() for k in range(count)]
    values = np.stack([true + noise * rng.random(true.size) for _ in labels])
    return make_rdms(values, stimulus_ids=IDS, targets=[f"{r}-{s}" for r, s in labels],
                     target_coords={"region": [r for r, _ in labels], "subject": [s for _, s in labels]})


@pytest.fixture
def spaces():
    return [space(1), space(2), space(3)]


@pytest.fixture
def brain(spaces):
    return subjects_of(rdms(spaces[0]).values[0], {"IT": 4, "EVC": 3})


def test_per_subject_and_group_scores_are_what_they_say(spaces, brain):
    found = na.compare(spaces, brain, metric=["rsa.spearman", "rsa.spearman.group", "rsa.pearson"], **QUICK)
    assert found.score.dims == ("metric", "space", "target") and found.target.values.tolist() == ["IT", "EVC"]
    for s in spaces:
        model = pdist(s.values.astype(float), "correlation")
        for region in ("IT", "EVC"):
            rows = brain.values[brain.region.values == region]
            at = found.score.sel(space=s.space_id.item(), target=region)
            assert at.sel(metric="rsa.spearman").item() == pytest.approx(
                np.mean([spearmanr(model, r)[0] for r in rows]), abs=1e-5)
            assert at.sel(metric="rsa.spearman.group").item() == pytest.approx(
                spearmanr(model, rows.mean(0))[0], abs=1e-5)
            assert at.sel(metric="rsa.pearson").item() == pytest.approx(
                np.mean([pearsonr(model, r)[0] for r in rows]), abs=1e-5)


def test_the_ceiling_stands_beside_per_subject_spearman_alone(spaces, brain):
    names = ["rsa.spearman", "rsa.spearman.group", "rsa.pearson", "rsa.cosine.group"]
    found = na.compare(spaces, brain, metric=names, ceiling="raw", **QUICK)
    expected = rdm_ceiling(brain.values[brain.region.values == "IT"], averaging="raw")
    own = found.sel(metric="rsa.spearman", target="IT", space="m:l1:all")
    assert (own.ceiling_lower.item(), own.ceiling.item()) == pytest.approx(expected, abs=1e-6)
    others = found.sel(metric=names[1:])
    assert others.ceiling.isnull().all() and others.ceiling_lower.isnull().all()
    none = na.compare(spaces, brain, ceiling=None, **QUICK)
    assert none.ceiling.isnull().all()


def test_the_planted_space_is_found_and_leads_by_a_paired_interval(spaces, brain):
    found = na.compare(spaces, brain, n_permutations=199, n_bootstraps=100, keep=["bootstrap", "null"])
    planted = found.sel(space="m:l1:all")
    assert (planted.score > 0.7).all() and (planted.p == 1 / 200).all() and (planted.q == 1 / 200).all()
    assert (found.sel(space="m:l2:all").score.max() < 0.4)
    assert (planted.ci_low < planted.score).all() and (planted.score < planted.ci_high + 0.05).all()
    lead = scores.diff(found, "m:l1:all", "m:l2:all")
    assert (lead.ci_low > 0).all()
    kept = found.bootstrap
    paired = (kept.sel(space="m:l1:all") - kept.sel(space="m:l2:all")).quantile(0.025, "resample")
    np.testing.assert_allclose(lead.ci_low.values.ravel(), paired.values.ravel(), rtol=1e-5)
    assert found.null.dims == ("permutation", "metric", "space", "target")
    about = scores.attrs_of(found)
    assert set(about["interval"]["rsa.spearman"]["resampled"].values()) == {"stimuli and subjects"}


def test_p_is_uniform_for_unrelated_models():
    many = {f"r{k}": space(100 + k, ids=IDS, model=f"r{k}") for k in range(200)}
    target = make_rdms(pdist(np.random.default_rng(0).standard_normal((N, 20)))[None], stimulus_ids=IDS)
    p = na.compare(many, target, n_permutations=99, device="cpu").p.values.ravel()
    assert 0.01 <= (p <= 0.05).mean() <= 0.10 and 0.4 < p.mean() < 0.6


def test_rows_are_matched_by_id_never_by_position(spaces, brain):
    shuffled = [s.isel(stimulus=np.random.default_rng(0).permutation(N)) for s in spaces]
    again = na.compare(shuffled, brain.isel(pair=slice(None, None, -1)), **QUICK)
    straight = na.compare(spaces, brain, **QUICK)
    np.testing.assert_allclose(again.score, straight.score, atol=1e-6)


def test_the_same_seed_gives_the_same_numbers(spaces, brain):
    one, two = (na.compare(spaces, brain, n_bootstraps=10, random_state=5, **QUICK) for _ in range(2))
    xr.testing.assert_equal(one.drop_attrs(), two.drop_attrs())
    other = na.compare(spaces, brain, random_state=6, **QUICK)
    assert not np.array_equal(other.null_mean, one.null_mean)
    alone = na.compare(spaces[1], brain, random_state=5, **QUICK)
    np.testing.assert_allclose(alone.null_mean, one.null_mean.sel(space=["m:l2:all"]), atol=1e-6)


def test_sessions_of_a_subject_are_averaged_before_they_count(spaces):
    brain = subjects_of(rdms(spaces[0]).values[0], {"IT": 4})
    brain = brain.assign_coords(subject=("target", ["a", "a", "b", "b"]))
    found = na.compare(spaces[0], brain, keep="subject_score", **QUICK)
    model = pdist(spaces[0].values.astype(float), "correlation")
    expected = [spearmanr(model, brain.values[k:k + 2].mean(0))[0] for k in (0, 2)]
    np.testing.assert_allclose(found.subject_score.values.ravel(), expected, atol=1e-5)
    assert found.score.item() == pytest.approx(np.mean(expected), abs=1e-5) and found.n_subjects.item() == 2


def test_a_target_of_one_owner_has_no_ceiling_and_resamples_stimuli_alone(spaces):
    target = make_rdms(rdms(spaces[0]).values, stimulus_ids=IDS, targets=["monkey"])
    found = na.compare(spaces, target, n_bootstraps=20, **QUICK)
    assert found.ceiling.isnull().all() and found.score.values[0, 0, 0] == pytest.approx(1, abs=1e-5)
    assert scores.attrs_of(found)["interval"]["rsa.spearman"]["resampled"] == {"monkey": "stimuli"}


def test_an_unreliable_target_is_named_and_nothing_can_be_divided_by_it(spaces):
    values = np.concatenate([[row, 2 - row] for row in rdms(spaces[:1]).values])
    target = make_rdms(values, stimulus_ids=IDS, targets=["a", "b"],
                       target_coords={"region": ["X", "X"], "subject": ["a", "b"]})
    with pytest.warns(NeuroalignWarning, match=r"'X'.*unreliable") as caught:
        found = na.compare(spaces, target, **QUICK)
    assert caught[0].message.code == "unreliable-target"
    assert found.ceiling.isnull().all() and (found.ceiling_lower < 0).all() and found.score.notnull().all()
    assert scores.attrs_of(found)["warnings"][0]["code"] == "unreliable-target"


def test_model_rdms_are_spaces(spaces, brain):
    given = na.compare(rdms(spaces), brain, **QUICK)
    computed = na.compare(spaces, brain, **QUICK)
    np.testing.assert_allclose(given.score, computed.score, atol=1e-6)
    np.testing.assert_allclose(given.null_mean, computed.null_mean, atol=1e-6)
    assert given.layer.values.tolist() == ["l1", "l2", "l3"]


def test_judged_pairs_are_permuted_by_stimulus(spaces):
    model = rdms(spaces[0]).isel(pair=np.random.default_rng(0).permutation(120)[:60])
    target = make_rdms(model.values, pairs=(model.stimulus_b.values, model.stimulus_a.values), targets=["rated"])
    found = na.compare(spaces, target, n_permutations=99, n_bootstraps=20)
    assert found.score.values[0, 0, 0] == pytest.approx(1, abs=1e-5) and found.p.values[0, 0, 0] == 0.01
    assert (found.n == 60).all() and abs(found.null_mean).max() < 0.1


def test_partial_scores_control_for_a_space(spaces, brain):
    found = na.compare(spaces[1:], brain, metric=["rsa.spearman.partial", "rsa.spearman.partial.group"],
                       control=spaces[0], **QUICK)
    ranked = [np.argsort(np.argsort(pdist(s.values.astype(float), "correlation"))) for s in spaces]
    design = np.column_stack([ranked[0], np.ones(120)])

    def rest(v):
        return v - design @ np.linalg.lstsq(design, v, rcond=None)[0]

    it = brain.values[:4]
    expected = np.mean([pearsonr(rest(ranked[1]), rest(np.argsort(np.argsort(r))))[0] for r in it])
    assert found.score.sel(metric="rsa.spearman.partial", target="IT")[0].item() == pytest.approx(expected, abs=1e-4)
    by_name = na.compare(spaces, brain, metric="rsa.spearman.partial", control="m:l1:all", **QUICK)
    assert by_name.score.sel(space="m:l2:all", target="IT").item() == pytest.approx(expected, abs=1e-4)


def responses(spaces, bins=None):
    rng = np.random.default_rng(3)
    blocks = [spaces[0].values @ rng.standard_normal((20, 6)), spaces[1].values @ rng.standard_normal((20, 5))]
    values = np.concatenate(blocks, 1).astype(np.float32)
    if bins is not None:
        values = values[:, :, None] * np.array([1.0, -2.0]) + rng.standard_normal((N, 11, 2)) * [[[0, 0.1]]]
    owners = {"region": ["V"] * 6 + ["L"] * 5, "subject": ["a"] * 3 + ["b"] * 3 + ["a"] * 5}
    return make_responses(values, IDS, [f"e{k}" for k in range(11)], time_bins=bins, neuroid_coords=owners)


def test_responses_are_taken_region_by_region_and_subject_by_subject(spaces):
    recorded = responses(spaces)
    found = na.compare(spaces, recorded, metric=["rsa.spearman", "cka.debiased"], n_bootstraps=20, **QUICK)
    assert found.target.values.tolist() == ["V", "L"] and found.n_neuroids.values.tolist() == [6, 5]
    assert found.n_subjects.values.tolist() == [2, 1]
    x, y = spaces[0].values.astype(float), recorded.values.astype(float)
    own = [spearmanr(pdist(x, "correlation"), pdist(y[:, k], "correlation"))[0] for k in (slice(3), slice(3, 6))]
    assert found.score.sel(metric="rsa.spearman", space="m:l1:all", target="V").item() == pytest.approx(
        np.mean(own), abs=1e-5)
    both = np.mean([linear_cka(x, y[:, k]) for k in (slice(3), slice(3, 6))])
    cka = found.score.sel(metric="cka.debiased", space="m:l1:all", target="V").item()
    assert cka == pytest.approx(both, abs=1e-5)
    assert (found.n.sel(metric="cka.debiased") == N).all() and (found.n.sel(metric="rsa.spearman") == 120).all()


def test_time_bins_are_targets_of_their_own(spaces):
    recorded = responses(spaces, bins=[0.1, 0.2])
    found = na.compare(spaces, recorded, metric="cka.biased", **QUICK)
    assert found.score.dims == ("metric", "space", "target", "time_bin")
    late = na.compare(spaces, recorded.isel(time_bin=1), metric="cka.biased", **QUICK)
    np.testing.assert_allclose(found.score.isel(time_bin=1), late.score, atol=1e-6)


def test_repeats_are_averaged(spaces):
    recorded = responses(spaces)
    twice = make_responses(np.concatenate([recorded.values + 1, recorded.values - 1]), IDS * 2,
                           recorded.neuroid_id.values, dim="presentation",
                           neuroid_coords={k: recorded[k].values for k in ("region", "subject")})
    np.testing.assert_allclose(na.compare(spaces, twice, metric="cka.debiased", **QUICK).score,
                               na.compare(spaces, recorded, metric="cka.debiased", **QUICK).score, atol=1e-5)


def test_spaces_against_spaces(spaces):
    found = na.compare(spaces, spaces[:2], metric=["cka.debiased", "rsa.spearman"], n_bootstraps=50, **QUICK)
    assert found.score.dims == ("metric", "space", "space_b")
    np.testing.assert_allclose(np.diagonal(found.score.values[:, :2], axis1=1, axis2=2), 1, atol=1e-5)
    assert found.layer_b.values.tolist() == ["l1", "l2"]
    same = found.sel(metric="cka.debiased", space="m:l1:all", space_b="m:l1:all")
    assert same.ci_high.item() == pytest.approx(1, abs=1e-5)  # duplicated rows would not be needed to stay at 1
    off = found.sel(metric="cka.debiased", space="m:l3:all")
    assert (off.ci_low < 0).all() and (off.ci_high > 0).all()


def test_the_cka_interval_covers_the_population_value():
    """Two Gaussian spaces y = x + noise of unit covariances: population CKA is tr(Sxy Syx) / (|Sxx| |Syy|) = 0.5."""
    covered = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((80, 5))
        y = x + rng.standard_normal((80, 5))
        ids = [f"i{k}" for k in range(80)]
        a, b = make_features(x, ids, model="a"), make_features(y, ids, model="b")
        one = na.compare(a, b, metric="cka.debiased", n_permutations=0, n_bootstraps=100, device="cpu")
        covered += one.ci_low.item() <= 0.5 <= one.ci_high.item()
    assert covered >= 34


def test_a_stimulus_with_nan_costs_its_own_pairs(spaces, brain):
    broken = spaces[1].copy(deep=True)
    broken[3, 0] = np.nan
    with pytest.warns(NeuroalignWarning, match=r"'s03' hold NaN"):
        found = na.compare([spaces[0], broken], brain, **QUICK)
    assert found.n.values[0, :, 0].tolist() == [120, 105] and found.p.notnull().all()
    kept = np.delete(np.arange(N), 3)
    model = pdist(spaces[1].values[kept].astype(float), "correlation")
    pairs = (brain.stimulus_a.values != "s03") & (brain.stimulus_b.values != "s03")
    expected = np.mean([spearmanr(model, r[pairs])[0] for r in brain.values[:4]])
    assert found.score.sel(target="IT")[0, 1].item() == pytest.approx(expected, abs=1e-5)


def test_a_constant_target_is_nan_alone_and_named(spaces, brain):
    values = brain.values.copy()
    values[4:] = 1.0
    with pytest.warns(NeuroalignWarning, match=r"'EVC of sub0', 'EVC of sub1', 'EVC of sub2'.*constant") as caught:
        found = na.compare(spaces, brain.copy(data=values), metric="rsa.spearman", n_bootstraps=5, **QUICK)
    assert caught[0].message.code == "constant-target" and caught[0].message.count == 3
    assert found.score.sel(target="EVC").isnull().all() and found.p.sel(target="EVC").isnull().all()
    assert found.score.sel(target="IT").notnull().all() and found.p.sel(target="IT").notnull().all()


def test_constant_features_are_nan_alone_for_cka(spaces):
    flat = make_features(np.ones((N, 3)), IDS, model="flat")
    with pytest.warns(NeuroalignWarning, match=r"CKA of 'flat::all' is NaN") as caught:
        found = na.compare([spaces[0], flat], spaces[1], metric="cka.debiased", **QUICK)
    assert caught[0].message.code == "undefined-cka"
    assert np.isnan(found.score.values.ravel()).tolist() == [False, True]


def test_missing_stimuli_are_listed_or_dropped(spaces, brain):
    short = spaces[1].isel(stimulus=slice(2, None))
    with pytest.raises(NotAligned, match=r"features 'm:l2:all'.*'s00', 's01' missing.*on_missing='drop'"):
        na.compare([spaces[0], short], brain, **QUICK)
    with pytest.warns(NeuroalignWarning) as caught:
        found = na.compare([spaces[0], short, spaces[2][2:]], brain, on_missing="drop", **QUICK)
    assert [str(w.message) for w in caught] == [
        "2 stimuli dropped (29 of 120 pairs), missing in the features: 's00', 's01'."]
    assert caught[0].message.code == "dropped-stimuli" and caught[0].message.ids == ("s00", "s01")
    assert (found.n == 91).all()
    with pytest.raises(NotAligned, match=r"'m:l1:all'.*'m:l2:all'.*'s00', 's01' stand in one alone"):
        na.compare(spaces[0], short, metric="cka.debiased", **QUICK)
    with pytest.warns(NeuroalignWarning, match=r"2 stimuli dropped"):
        dropped = na.compare(spaces[0], short, metric="cka.debiased", on_missing="drop", **QUICK)
    assert dropped.n.item() == 14
    with pytest.raises(NotAligned, match="do not cover the same stimuli"):
        na.compare(space(1, ids=[f"x{k}" for k in range(5)]), brain, on_missing="drop", **QUICK)


@pytest.mark.parametrize("metric", ["rsa.spearman", "rsa.tau_a", "cka.debiased", "cka.rbf"])
def test_a_long_null_shows_which_share_is_done(metric, spaces, monkeypatch, capsys):
    monkeypatch.setattr("neuroalign.alignment.progress.PATIENCE", 0)
    silent = na.compare(spaces, spaces, metric=metric, progress=False, **QUICK)
    assert capsys.readouterr().err == ""
    shown = na.compare(spaces, spaces, metric=metric, **QUICK)
    assert f"{metric}: null: 100%" in capsys.readouterr().err
    np.testing.assert_array_equal(shown.p, silent.p)
    na.compare(spaces, spaces, metric=metric, n_bootstraps=6, **QUICK)
    assert ("half samples: 100%" in capsys.readouterr().err) == metric.startswith("cka")


def test_stimuli_that_rdms_lack_are_named_too(spaces, brain):
    few = brain.isel(pair=(brain.stimulus_a != "s03") & (brain.stimulus_b != "s03"))
    both = [s.isel(stimulus=[k for k in range(N) if k != 3]) for s in spaces]
    with pytest.raises(NotAligned, match=r"'s03' missing in the RDMs. Pass on_missing='drop'"):
        na.compare(spaces, few, **QUICK)
    with pytest.warns(NeuroalignWarning) as caught:
        found = na.compare(spaces, few, on_missing="drop", **QUICK)
    assert [str(w.message) for w in caught] == ["1 stimuli dropped, missing in the target RDMs: 's03'."]
    assert caught[0].message.code == "dropped-stimuli"
    np.testing.assert_array_equal(found.score, na.compare(both, few, **QUICK).score)
    models = rdms(spaces)
    with pytest.raises(NotAligned, match="'s03' missing in the RDMs"):
        na.compare(models, few, **QUICK)
    with pytest.raises(NotAligned, match="'s03' stand in one alone"):
        na.compare(models, both, **QUICK)


def test_a_control_without_some_stimuli_is_refused(spaces):
    """Its last row would stand for the missing ones."""
    with pytest.raises(NotAligned, match=r"control 'm:l3:all': 's14', 's15' missing"):
        na.compare(spaces[0], spaces[1], metric="rsa.spearman.partial",
                   control=spaces[2].isel(stimulus=slice(14)), **QUICK)


@pytest.mark.parametrize("change, words", [
    ({"metric": "rsa.kendal"}, r"metric: got 'rsa.kendal', expected one of"),
    ({"metric": "r.pooled"}, r"belongs to `encode`"),
    ({"metric": "cka.debiased"}, r"'cka.debiased' needs features or responses, but the targets are RDMs"),
    ({"metric": "rsa.spearman.partial"}, r"control: got none, but metric 'rsa.spearman.partial' needs it"),
    ({"control": "m:l1:all"}, r"control: got one, but no partial metric"),
    ({"metric": "rsa.spearman.partial", "control": "m:l9:all"}, r"control: no space 'm:l9:all' among"),
    ({"rdm": "manhattan"}, r"rdm: got 'manhattan', expected one of 'correlation'"),
    ({"n_permutations": -1}, r"n_permutations: got -1, expected an integer of at least 0"),
    ({"n_bootstraps": 2.5}, r"n_bootstraps: got 2.5"),
    ({"keep": ["nul"]}, r"keep: got 'nul', expected one of 'null'"),
    ({"ceiling": "mean"}, r"ceiling: got 'mean', expected one of 'rank', 'raw', None"),
    ({"on_missing": "ignore"}, r"on_missing: got 'ignore'"),
])
def test_wrong_arguments_are_explained(spaces, brain, change, words):
    with pytest.raises(ValueError, match=words):
        na.compare(spaces, brain, **change)


def test_wrong_inputs_are_explained(spaces, brain):
    with pytest.raises(TypeError, match=r"targets: got ndarray.*make_rdms"):
        na.compare(spaces, np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"targets: got dims \('a', 'b'\)"):
        na.compare(spaces, xr.DataArray(np.ones((2, 2)), dims=("a", "b")))
    few = IDS[:3]
    target = make_rdms([[1.0, 2.0, 3.0]], stimulus_ids=few)
    with pytest.raises(ValueError, match=r"3 stimuli are shared, expected at least 4"):
        na.compare(space(1, ids=few), target)
    clock = make_features(np.ones((5, 2)), np.arange(5.0), model="t", dim="time")
    with pytest.raises(NotAligned, match=r"'t::all' stand on 'time'"):
        na.compare(clock, brain)
    twice = make_features(np.ones((5, 2)), ["a", "a", "b", "c", "d"], model="t", dim="presentation")
    with pytest.raises(NotAligned, match=r"'a'.* missing|more than once|do not cover"):
        na.compare(twice, brain)


def test_the_attrs_say_how_it_was_done(spaces, brain):
    about = scores.attrs_of(na.compare(spaces, brain, n_bootstraps=5, **QUICK))
    assert about["n_stimuli"] == N and about["n_pairs"] == 120 and about["n_permutations"] == 19
    assert "mean over the subjects" in about["aggregation"]["rsa.spearman"]
    assert "averaged by rank" in about["ceiling"] and len(about["fingerprints"]["targets"]) == 64
    assert about["warnings"] == [] and about["random_state"] == 0


def test_scores_survive_saving(spaces, brain, tmp_path):
    found = na.compare(spaces, brain, n_bootstraps=5, keep=["null", "bootstrap", "subject_score"], **QUICK)
    xr.testing.assert_identical(scores.load(scores.save(found, tmp_path / "s.nc")), found)
