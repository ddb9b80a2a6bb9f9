"""The labelled call: against the pieces it is made of, planted truth, and bad input."""

import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.signal import butter, filtfilt
from scipy.stats import pearsonr
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold

import neuroalign as na
from neuroalign.alignment.designs import EventTiming, make_designs
from neuroalign.alignment.ridge import ALPHAS
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of, load, save, to_frame, validate
from neuroalign.errors import NeuroalignWarning, NotAligned
from neuroalign.features.confounds import word_rate
from neuroalign.features.timing import events_to_samples
from neuroalign.stats import block_permutations, make_folds, repeat_reliability, row_permutations, shift_permutations

# Nulls are checked permutation by permutation here, on a handful of them.
pytestmark = pytest.mark.filterwarnings("ignore:.*the smallest attainable p:neuroalign.errors.NeuroalignWarning")


def toy(n=80, p=6, t=4, noise=1.0, seed=0, dim="stimulus", **options):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, p))
    y = x @ rng.standard_normal((p, t)) + noise * np.sqrt(p) * rng.standard_normal((n, t))
    ids = [f"s{k:03d}" for k in range(n)] if dim == "stimulus" else np.arange(n) * 2.0
    names = [f"v{k}" for k in range(t)]
    return (make_features(x, ids, model="toy", layer="block1", depth=0.5, dim=dim),
            make_responses(y, ids, names, dim=dim, **options))


def by_hand(X, Y, folds, n_inner=5, groups=None):
    """Nested cross-validation by scikit-learn in float64."""
    P = np.full(Y.shape, np.nan)
    for train, test in folds:
        inner = make_folds("kfold" if groups is None else "groups", len(train), n_splits=n_inner,
                           groups=None if groups is None else groups[train])
        loss = np.zeros((len(ALPHAS), Y.shape[1]))
        for i, j in inner:
            i, j = train[i], train[j]
            mean, sd = X[i].mean(0), X[i].std(0)
            for k, alpha in enumerate(ALPHAS):
                model = Ridge(alpha=alpha).fit((X[i] - mean) / sd, Y[i])
                loss[k] += ((model.predict((X[j] - mean) / sd) - Y[j]) ** 2).sum(0)
        mean, sd = X[train].mean(0), X[train].std(0)
        for c, k in enumerate(loss.argmin(0)):
            model = Ridge(alpha=ALPHAS[k]).fit((X[train] - mean) / sd, Y[train, c])
            P[test, c] = model.predict((X[test] - mean) / sd)
    return P


def test_scores_and_predictions_equal_nested_sklearn():
    features, responses = toy()
    metrics = ["r.pooled", "r.foldmean", "r2.pooled", "r2.foldmean"]
    scores = na.encode(features, responses, metric=metrics, keep=["prediction", "fold_score"])
    folds = make_folds("kfold", 80)
    Y = responses.values.astype(float)
    P = by_hand(features.values, Y, folds)
    np.testing.assert_allclose(scores.prediction.sel(space="toy:block1:all").values, P, atol=1e-3)
    for c in range(4):
        tests = [test for _, test in folds]
        expected = [pearsonr(P[:, c], Y[:, c])[0], np.mean([pearsonr(P[i, c], Y[i, c])[0] for i in tests]),
                    r2_score(Y[:, c], P[:, c]), np.mean([r2_score(Y[i, c], P[i, c]) for i in tests])]
        np.testing.assert_allclose(scores.score.values[:, 0, c], expected, atol=2e-4)
        folded = [pearsonr(P[i, c], Y[i, c])[0] for i in tests]
        np.testing.assert_allclose(scores.fold_score.sel(metric="r.foldmean").values[:, 0, c], folded, atol=2e-4)


def test_result_says_how_it_was_made(tmp_path):
    features, responses = toy(noise=3.0)
    scores = validate(na.encode(features, responses, random_state=3))
    told = attrs_of(scores)
    assert told["random_state"] == 3 and told["warnings"] == [] and told["nulls"] is None
    assert told["folds"]["name"] == "kfold" and len(told["folds"]["fold_of_sample"]) == 80
    assert told["aggregation"] == {"r.pooled": "pooled", "r2.pooled": "pooled"}
    assert set(told["fingerprints"]) == {"responses", "toy:block1:all"}
    assert scores.depth.values.tolist() == [0.5] and scores.layer.item() == "block1"
    assert scores.neuroid.values.tolist() == ["v0", "v1", "v2", "v3"]
    assert (scores.n == 80).all() and np.isnan(scores.ceiling).all() and told["ceiling"].startswith("unavailable")
    assert {"score", "best_alpha", "ceiling"} <= set(to_frame(scores))
    xr.testing.assert_identical(load(save(scores, tmp_path / "s.nc")), scores)


def test_rows_are_matched_by_id_never_by_position():
    features, responses = toy()
    order = np.random.default_rng(1).permutation(80)
    plain, moved = na.encode(features, responses), na.encode(features.isel(stimulus=order), responses)
    np.testing.assert_allclose(moved.score, plain.score, atol=1e-6)
    with pytest.raises(NotAligned, match="'s003' missing"):
        na.encode(features.drop_isel(stimulus=3), responses)
    with pytest.warns(NeuroalignWarning, match="1 stimuli dropped"):
        fewer = na.encode(features.drop_isel(stimulus=3), responses, on_missing="drop")
    assert (fewer.n == 79).all() and attrs_of(fewer)["warnings"][0]["code"] == "dropped-stimuli"


def test_several_spaces_and_time_bins_are_scored_as_if_alone():
    features, responses = toy(t=6)
    values = np.random.default_rng(5).standard_normal((80, 150))
    other = make_features(values, features.stimulus_id.values, model="wide")
    binned = make_responses(responses.values.reshape(80, 2, 3), responses.stimulus_id.values, ["a", "b"],
                            time_bins=[0.0, 0.1, 0.2])
    both = na.encode([features, other], binned)
    assert both.score.dims == ("metric", "space", "neuroid", "time_bin")
    assert both.n_features.values.tolist() == [6, 150] and both.time_bin.values.tolist() == [0.0, 0.1, 0.2]
    alone = na.encode(features, responses)
    np.testing.assert_allclose(both.score.values[:, 0].reshape(2, 6), alone.score.values[:, 0], atol=1e-6)


def test_nan_and_constant_neuroids_are_named_and_alone():
    features, responses = toy()
    plain = na.encode(features, responses)
    broken = responses.copy(deep=True)
    broken[4, 1], broken[:, 2] = np.nan, 3.0
    with pytest.warns(NeuroalignWarning) as caught:
        scores = na.encode(features, broken, n_permutations=19)
    said = [(w.message.code, w.message.ids) for w in caught]
    assert said == [("nan-target", ("v1",)), ("constant-target", ("v2",))]
    assert np.isnan(scores.score.values[0, 0]).tolist() == [False, True, True, False]
    assert np.isnan(scores.q.values[0, 0]).tolist() == [False, True, True, False]
    np.testing.assert_allclose(scores.score.values[..., [0, 3]], plain.score.values[..., [0, 3]], atol=1e-6)
    assert scores.n.values.tolist() == [80, 0, 0, 80]
    with pytest.warns(NeuroalignWarning), pytest.raises(ValueError, match="nothing to predict"):
        na.encode(features, responses * np.nan)


def test_presentations_of_a_stimulus_never_straddle_folds_and_give_the_ceiling():
    rng = np.random.default_rng(0)
    features, single = toy(n=60, noise=0.3)
    ids = np.repeat(features.stimulus_id.values, 4)
    noise = np.array([0.3, 1.0, 3.0, 9.0]) * 3
    values = np.repeat(single.values, 4, 0) + noise * rng.standard_normal((240, 4))
    responses = make_responses(values, np.arange(240), [f"v{k}" for k in range(4)], dim="presentation",
                               sample_coords={"stimulus_id": ids})
    scores = na.encode(features, responses)
    rho = repeat_reliability(responses.values, ids)
    assert scores.sizes["neuroid"] == 4 and (scores.n == 60).all()
    np.testing.assert_allclose(scores.reliability, rho)
    np.testing.assert_allclose(scores.ceiling.sel(metric="r.pooled").values[0], np.sqrt(rho))
    np.testing.assert_allclose(scores.ceiling.sel(metric="r2.pooled").values[0], rho)
    assert attrs_of(scores)["ceiling"].startswith("split halves")
    kept = na.encode(features, responses, repeats="keep")
    assert attrs_of(kept)["ceiling"].startswith("unavailable: repeats='keep' predicts single presentations")
    fold = np.array(attrs_of(kept)["folds"]["fold_of_sample"])
    assert all(len(set(fold[ids == i])) == 1 for i in set(ids)) and (kept.n == 240).all()
    assert np.isnan(kept.ceiling).all()
    with pytest.raises(ValueError, match="stand in both training and test"):
        na.encode(features, responses, repeats="keep", cv=KFold(5, shuffle=True, random_state=0))


def test_why_there_is_no_ceiling_is_said():
    features = make_features(np.random.default_rng(0).standard_normal((30, 2)), [f"s{k}" for k in range(30)], model="m")
    for extra, words in (([], "no repeats"), ([0], "only 1 stimulus was repeated"), ([0, 0, 3], "only 2 stimuli were")):
        ids = [f"s{k}" for k in [*range(30), *extra]]
        responses = make_responses(np.random.default_rng(1).standard_normal((len(ids), 2)), ids, ["a", "b"],
                                   dim="presentation")
        assert attrs_of(na.encode(features, responses))["ceiling"].startswith(f"unavailable: {words}")


def test_an_unreliable_neuroid_gets_no_ceiling_and_a_name():
    features, responses = toy()
    with pytest.warns(NeuroalignWarning, match="unreliable") as caught:
        scores = na.encode(features, responses, ceiling={"v0": 0.64, "v1": 0.01, "v3": 1.2})
    assert caught[0].message.ids == ("v1",)
    np.testing.assert_allclose(scores.ceiling.sel(metric="r.pooled").values[0], [0.8, np.nan, np.nan, 1.2**0.5])
    np.testing.assert_allclose(scores.reliability, [0.64, 0.01, np.nan, 1.2])
    labelled = xr.DataArray([0.5, 0.6, 0.7, 0.8], dims="neuroid", coords={"neuroid_id": ("neuroid", list("dcba"))},
                            attrs={"aggregation": "foldmean"})
    labelled["neuroid_id"] = ("neuroid", ["v3", "v2", "v1", "v0"])
    scores = na.encode(features, responses, ceiling=labelled, metric=["r.pooled", "r2.foldmean"])
    assert np.isnan(scores.ceiling.values[0]).all()
    np.testing.assert_allclose(scores.ceiling.values[1, 0], [0.8, 0.7, 0.6, 0.5])
    for wrong, words in (({"v9": 0.5}, "unknown neuroids 'v9'"), ([0.5, 0.5], "one reliability a neuroid"),
                         ("split-half", "no repeats to split"), ("loo", "expected one of 'split-half'")):
        with pytest.raises(ValueError, match=words):
            na.encode(features, responses, ceiling=wrong)


def test_nuisance_stands_beside_the_features_and_alone():
    features, responses = toy()
    length = features.values[:, 0] + 0.1 * np.random.default_rng(2).standard_normal(80)
    features = features.assign_coords(length=("stimulus", length))
    named = na.encode(features, responses, nuisance="length")
    columns = xr.DataArray(length[::-1], dims="stimulus", name="length",
                           coords={"stimulus_id": ("stimulus", features.stimulus_id.values[::-1])})
    np.testing.assert_allclose(na.encode(features, responses, nuisance=[columns]).score, named.score, atol=1e-6)
    joint = make_features(np.c_[length, features.values], features.stimulus_id.values, model="joint")
    np.testing.assert_allclose(named.score, na.encode(joint, responses).score, atol=1e-5)
    alone = make_features(length[:, None], features.stimulus_id.values, model="alone")
    np.testing.assert_allclose(named.baseline, na.encode(alone, responses).score[:, 0], atol=1e-5)
    assert attrs_of(named)["nuisance"] == ["length"] and named.n_features.item() == 6
    with pytest.raises(ValueError, match="no coord 'lenght'.*Did you mean 'length'"):
        na.encode(features, responses, nuisance="lenght")


def test_responses_are_permuted_by_refitting_everything():
    features, responses = toy(noise=2.0)
    scores = na.encode(features, responses, n_permutations=12, keep=["null"])
    assert scores.null.dims == ("permutation", "metric", "space", "neuroid") and scores.sizes["permutation"] == 12
    for k, order in enumerate(row_permutations(80, 12)[:3]):
        shuffled = responses.copy(data=responses.values[order])
        again = na.encode(features, shuffled)
        np.testing.assert_allclose(scores.null.values[k], again.score.values, atol=1e-4)
    reached = (scores.null.values >= scores.score.values - 1e-6).sum(0)
    np.testing.assert_allclose(scores.p, (1 + reached) / 13)
    np.testing.assert_allclose(scores.null_mean, scores.null.mean("permutation"), atol=1e-6)
    np.testing.assert_allclose(scores.null_sd, scores.null.std("permutation", ddof=1), atol=1e-5)
    told = attrs_of(scores)["nulls"]
    assert told == {"name": "permute", "permuted": "responses", "n": 12, "smallest_p": 1 / 13, "min_shift": None,
                    "independent_samples": None}


def test_with_nuisance_the_features_are_permuted_and_the_nuisance_stays():
    features, responses = toy(t=3, noise=0.5, p=2)
    nuisance = xr.DataArray(features.values[:, 0], dims="stimulus", name="known", coords=features.stimulus_id.coords)
    scores = na.encode(features.isel(feature=[1]), responses, nuisance=nuisance, n_permutations=19, keep=["null"])
    # The null keeps what the nuisance explains: it lies about the baseline, not about zero.
    gap = (scores.null_mean.sel(metric="r.pooled")[0] - scores.baseline.sel(metric="r.pooled")).values
    assert np.abs(gap).max() < 0.1 and (scores.baseline.sel(metric="r.pooled").values > 0.2).any()
    assert attrs_of(scores)["nulls"]["permuted"] == "residual features"


def test_decompositions_that_do_not_fit_are_made_again(monkeypatch):
    features, responses = toy()
    held = na.encode(features, responses, n_permutations=7, keep=["null"])
    monkeypatch.setattr("neuroalign.alignment.nulls.free_memory", lambda device: 0)
    monkeypatch.setattr("neuroalign.alignment.nulls.BUDGET", 5 * 6 * 4 * 8 * 3)
    again = na.encode(features, responses, n_permutations=7, keep=["null"])
    np.testing.assert_allclose(again.null, held.null, atol=1e-6)


def test_a_time_series_gets_blocks_with_a_purge_gap():
    features, responses = toy(n=200, dim="time", sfreq=0.5)
    told = attrs_of(na.encode(features, responses))
    assert told["folds"]["name"] == "blocks(5, gap=8)" and told["inner_folds"] == "blocks(5, gap=8)"
    assert told["gap"] == 16.0
    eeg = responses.assign_attrs(kind="eeg", sfreq=0.5)
    assert attrs_of(na.encode(features, eeg))["folds"]["name"] == "blocks(5, gap=1)"
    assert attrs_of(na.encode(features, eeg, gap=5.0))["folds"]["name"] == "blocks(5, gap=3)"
    with pytest.raises(ValueError, match="cv='shuffled'"):
        na.encode(features, responses, cv="kfold")
    with pytest.warns(NeuroalignWarning, match="shuffled"):
        told = attrs_of(na.encode(features, responses, cv="shuffled"))
    assert told["warnings"][0]["code"] == "shuffled-time-series"


def test_runs_can_be_left_out_whole():
    features, responses = toy(n=120, dim="time", sfreq=0.5, sample_coords={"run": np.repeat([1, 2, 3, 4], 30)})
    features = features.assign_coords(run=responses.run)
    told = attrs_of(na.encode(features, responses, groups="run", cv="leave-one-group-out"))
    assert told["folds"]["n_folds"] == 4 and told["folds"]["n_purged"] == [0] * 4


def test_shifting_the_responses_keeps_autocorrelation():
    features, responses = toy(n=150, dim="time", sfreq=0.5)
    scores = na.encode(features, responses, n_permutations=5, keep=["null"])
    order = shift_permutations(150, 5)[2]
    again = na.encode(features, responses.copy(data=responses.values[order]))
    np.testing.assert_allclose(scores.null.values[2], again.score.values, atol=1e-4)
    told = attrs_of(scores)["nulls"]
    assert told["name"] == "shift" and told["min_shift"] == 0.1
    with pytest.warns(NeuroalignWarning, match="only 121 of 500 permutations exist.*smallest attainable p"):
        few = na.encode(features.isel(feature=[0]), responses.isel(neuroid=[0]), n_permutations=500, n_splits=2,
                        n_inner_splits=2, alphas=[1.0, 1e5])
    assert attrs_of(few)["nulls"]["smallest_p"] == pytest.approx(1 / 122)
    with pytest.warns(NeuroalignWarning, match="destroys their autocorrelation"):
        na.encode(features, responses, n_permutations=2, null="permute")


def words(n=150, seed=0):
    rng = np.random.default_rng(seed)
    onset = np.sort(rng.uniform(0, 390, n))
    return make_features(rng.standard_normal((n, 1)), [f"w{k}" for k in range(n)], model="lm", stream="word",
                         coords={"onset": onset, "duration": np.full(n, 0.3)})


def test_events_are_convolved_filtered_and_shifted_before_convolution():
    events = words()
    times = np.arange(200) * 2.0
    driven = events_to_samples(events, times, hrf="glover").values
    rate = events_to_samples(events.copy(data=np.ones((150, 1))), times, hrf="glover")
    noise = np.random.default_rng(1).standard_normal((200, 2))
    responses = make_responses(driven * [[1.0, 0.0]] / driven.std() + noise, times, ["driven", "not"], dim="time",
                               sfreq=0.5)
    cleaned = na.clean(responses, high_pass=1 / 128)
    with pytest.raises(NotAligned, match="hrf='glover'"):
        na.encode(events, cleaned)
    scores = na.encode(events, cleaned, hrf="glover", nuisance="word_rate", n_permutations=39, keep=["null"])
    told = attrs_of(scores)
    assert told["high_pass"] == pytest.approx(1 / 128) and told["nulls"]["permuted"] == "events"
    assert scores.p.sel(metric="r.pooled").values[0, 0] <= 0.05 < scores.p.sel(metric="r.pooled").values[0, 1]
    # By hand: convolve, filter, put beside the filtered rate.
    series = [na.clean(s, high_pass=1 / 128, detrend=False).values for s in
              (rate, events_to_samples(events, times, hrf="glover"))]
    joint = make_features(np.hstack(series), times, model="joint", dim="time")
    np.testing.assert_allclose(scores.score, na.encode(joint, cleaned).score, atol=1e-4)
    order = shift_permutations(150, 39)[4]
    shifted = events.copy(data=events.values[order])
    again = na.encode(shifted, cleaned, hrf="glover", nuisance="word_rate")
    np.testing.assert_allclose(scores.null.values[4], again.score.values, atol=1e-4)
    unfiltered = na.encode(events, cleaned, hrf="glover", high_pass=None)
    assert attrs_of(unfiltered)["high_pass"] is None


@pytest.mark.parametrize("option", [{"hrf": "glover"}, {"downsample": "mean"}])
def test_series_are_not_said_to_be_convolved_or_downsampled(option):
    features, responses = toy(n=150, dim="time", sfreq=0.5)
    name = next(iter(option))
    with pytest.raises(ValueError, match=rf"{name}: got .* stand on 'time' already.*timed events.*Leave {name}"):
        na.encode(features, responses, **option)
    with pytest.raises(ValueError, match="stand on 'time' already"):
        na.encode(features, responses, nuisance=features[:, :1], **option)
    # Events among the nuisance, or in another space, are put in time.
    rate = words().isel(feature=0)
    rate = rate.assign_coords(onset=("stimulus", np.sort(np.random.default_rng(0).uniform(10, 260, 150))))
    beside = na.encode(features, responses, nuisance=rate, **option)
    by_hand = events_to_samples(rate.expand_dims("feature", -1), responses.time.values,
                                **({"hrf": "glover"} if name == "hrf" else {"how": "mean"}))
    again = na.encode(features, responses, nuisance=by_hand, gap=attrs_of(beside)["gap"])
    np.testing.assert_allclose(beside.score, again.score, atol=1e-5)
    both = na.encode([features, rate.expand_dims("feature", -1)], responses, **option)
    assert both.sizes["space"] == 2


def test_blocks_of_a_time_series_are_put_in_another_order():
    features, responses = toy(n=150, dim="time", sfreq=0.5)
    scores = na.encode(features, responses, n_permutations=3, null="block", block=40.0, keep=["null"])
    order = block_permutations(150, 3, block=20)[1]
    again = na.encode(features, responses.copy(data=responses.values[order]))
    np.testing.assert_allclose(scores.null.values[1], again.score.values, atol=1e-4)
    named, events = toy(n=150, sample_coords={"onset": np.arange(150) * 2.0})
    timed = na.encode(named, events, n_permutations=3, null="block", block=40.0, keep=["null"])
    np.testing.assert_allclose(timed.null, scores.null, atol=1e-6)


def test_each_run_has_its_own_clock():
    times = np.tile(np.arange(100) * 2.0, 2)
    run = np.repeat([1, 2], 100)
    events = words().assign_coords(run=("stimulus", np.repeat([1, 2], 75)))
    events = events.assign_coords(onset=events.onset / 2)
    series = np.concatenate([events_to_samples(events.isel(stimulus=events.run.values == r), times[run == r],
                                               hrf="spm").values for r in (1, 2)])
    noise = np.random.default_rng(3).standard_normal((200, 3))
    responses = make_responses(series + series.std() * noise, times, list("abc"), dim="time", sfreq=0.5,
                               sample_coords={"run": run})
    by_call = na.encode(events, responses, hrf="spm")
    by_hand = na.encode(make_features(series, times, model="x", dim="time", coords={"run": run}), responses)
    np.testing.assert_allclose(by_call.score, by_hand.score, atol=1e-4)


def two_runs():
    """Events of two runs in one table, whose clocks both begin at 0."""
    rng, run = np.random.default_rng(5), np.repeat([1, 2], 40)
    onset = np.concatenate([np.sort(rng.uniform(0, 110, 40)) for _ in range(2)])
    events = make_features(rng.standard_normal((80, 1)).cumsum(0), [f"e{k}" for k in range(80)], model="toy",
                           coords={"onset": onset, "run": run})
    responses = make_responses(rng.standard_normal((120, 2)), np.tile(np.arange(60) * 2.0, 2), ["a", "b"], dim="time",
                               sfreq=0.5, sample_coords={"run": np.repeat([1, 2], 60)})
    return events, responses


def test_every_event_finds_its_run():
    events, responses = two_runs()
    options = {"hrf": "glover", "groups": "run", "cv": "leave-one-group-out", "inner_cv": "loo", "baselines": ()}
    score = na.encode(events, responses, **options).score
    as_text = events.assign_coords(run=("stimulus", events.run.values.astype(str)))
    np.testing.assert_array_equal(na.encode(as_text, responses, **options).score, score)
    numbered = responses.assign_coords(run=("time", responses.run.values * 1.0))
    np.testing.assert_array_equal(na.encode(events, numbered, **options).score, score)
    mixed = np.argsort(responses.time.values, kind="stable")  # the samples of runs by turns
    np.testing.assert_array_equal(
        make_designs({"toy": events}, responses[mixed], np.zeros((120, 0)), EventTiming("glover"))["toy"]().series,
        make_designs({"toy": events}, responses, np.zeros((120, 0)), EventTiming("glover"))["toy"]().series[mixed])
    third = events.assign_coords(run=("stimulus", np.repeat([1, 2, 3], [40, 30, 10])))
    with pytest.raises(NotAligned, match=r"10 of 80 events are of runs '3'.*have '1', '2'.*leave these events out"):
        na.encode(third, responses, **options)
    with pytest.warns(NeuroalignWarning, match="10 of 80 events are of runs '3'.*are dropped"):
        dropped = na.encode(third, responses, on_missing="drop", **options)
    np.testing.assert_array_equal(dropped.score, na.encode(third[:70], responses, **options).score)
    one, alone = responses.isel(time=slice(60)), events[:40]
    named = alone.assign_coords(run=("stimulus", ["film"] * 40))
    np.testing.assert_array_equal(na.encode(named, one, hrf="glover").score, na.encode(alone, one, hrf="glover").score)
    with pytest.raises(NotAligned, match="of 2 runs, but the responses do not say of which run"):
        na.encode(events, one.drop_vars("run"), hrf="glover")


def test_events_are_filtered_run_by_run_and_need_not_occur_in_each():
    events, responses = two_runs()
    kinds = np.stack([np.arange(80) < 20, np.arange(80) % 2], 1)  # of the first kind there are none in run 2
    both = make_features(kinds, events.stimulus_id.values, model="toy", coords={
        c: events[c].values for c in ("onset", "run")})
    cleaned = na.clean(responses, high_pass=1 / 64)
    b, a = butter(2, 1 / 64 / 0.25, "highpass")
    by_hand = np.zeros((120, 2))
    for k in (0, 1):
        own, rows = both[40 * k:40 * (k + 1)], slice(60 * k, 60 * (k + 1))
        series = events_to_samples(own, np.arange(60) * 2.0).values.astype(float)
        by_hand[rows] = filtfilt(b, a, series, axis=0)
    design = make_designs({"toy": both}, cleaned, np.zeros((120, 0)), EventTiming("glover", high_pass=1 / 64))
    np.testing.assert_allclose(design["toy"]().series, by_hand, atol=1e-5)
    assert (by_hand[60:, 0] == 0).all() and by_hand[:60, 0].std() > 0.01
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "clean:")
        assert np.isfinite(na.encode(both, cleaned, hrf="glover", inner_cv="loo", baselines=()).score).all()


def test_the_word_rate_of_several_runs():
    events, responses = two_runs()
    ones = word_rate(events)
    by_hand = np.concatenate([events_to_samples(ones[ones.run.values == r], np.arange(60) * 2.0) for r in (1, 2)])
    options = {"hrf": "glover", "groups": "run", "cv": "leave-one-group-out", "inner_cv": "loo", "baselines": ()}
    given = xr.DataArray(by_hand[:, 0], dims="time", coords={"time": responses.time}, name="rate")
    np.testing.assert_allclose(na.encode(events, responses, nuisance="word_rate", **options).score,
                               na.encode(events, responses, nuisance=given, **options).score, atol=1e-6)


def test_nulls_permute_the_events_of_a_run_together():
    events, responses = two_runs()
    order = np.argsort(events.onset.values, kind="stable")  # as a table sorted by onset alone has them
    design = make_designs({"toy": events[order]}, responses, np.zeros((120, 0)), EventTiming("glover"))["toy"]()
    np.testing.assert_array_equal(design.events.stimulus_id, events.stimulus_id)
    moved = design.permuted(np.roll(np.arange(80), -5)).events
    np.testing.assert_array_equal(moved.values[:75], events.values[5:])


def test_nuisance_stands_on_the_clock_of_the_responses():
    features, responses = toy(n=60, dim="time", sfreq=0.5)
    late = xr.DataArray(np.arange(60.0) % 7, dims="time", coords={"time": responses.time + 500.0}, name="loud")
    with pytest.raises(NotAligned, match=r"'nuisance loud' and responses differ in 'time': 500.0 to 618.0"):
        na.encode(features, responses, nuisance=late)


def test_the_gap_is_counted_on_the_clock_and_not_by_a_rate_that_was_true_before():
    features, responses = toy(n=300, dim="time", sfreq=0.5)
    stale = responses.isel(time=slice(None, None, 3))
    told = attrs_of(na.encode(features.isel(time=slice(None, None, 3)), stale, gap=12.0))
    assert told["folds"]["name"] == "blocks(5, gap=2)" and stale.attrs["sfreq"] == 0.5


def test_blocks_of_stimuli_last():
    times = np.arange(200) * 2.0
    blocks = words(20).assign_coords(onset=("stimulus", np.arange(20) * 19.0), duration=("stimulus", np.full(20, 12.0)))
    series = events_to_samples(blocks, times, hrf="glover", boxcar=True)
    noise = np.random.default_rng(3).standard_normal((200, 2))
    responses = make_responses(series.values / series.values.std() + noise, times, ["a", "b"], dim="time", sfreq=0.5)
    lasting = na.encode(blocks, responses, hrf="glover", at="whole")
    np.testing.assert_allclose(lasting.score, na.encode(series, responses, gap=16.0).score, atol=1e-4)
    with pytest.warns(NeuroalignWarning, match="20 of 20 events last longer than 5 s.*up to 12 s.*at='whole'"):
        impulses = na.encode(blocks, responses, hrf="glover")
    assert (lasting.score > impulses.score).all()
    with pytest.raises(ValueError, match="'whole' with downsample='mean'.*points in time"):
        na.encode(blocks, responses, downsample="mean", at="whole")
    with pytest.raises(ValueError, match="at: got 'hole'.*Did you mean 'whole'"):
        na.encode(blocks, responses, hrf="glover", at="hole")


def test_alphas_at_an_edge_that_matters_are_named():
    rng = np.random.default_rng(0)
    features, responses = toy(p=60, noise=0.01)
    with pytest.warns(NeuroalignWarning, match="smallest penalty of the grid \\(100\\).*Widen") as caught:
        na.encode(features, responses, alphas=[100.0, 1000.0])
    assert caught[0].message.code == "alpha-edge"
    noise = responses.copy(data=rng.standard_normal(responses.shape))
    with pytest.warns(NeuroalignWarning, match="largest penalty of the grid"):
        na.encode(features, noise, alphas=[0.1, 1.0])
    na.encode(features, noise)  # 1e6 leaves nothing of 80 samples: going on would change nothing


@pytest.mark.parametrize(("options", "words"), [
    ({"metric": "r.poled"}, "Did you mean 'r.pooled'"),
    ({"metric": "rsa.spearman"}, "belongs to `compare`"),
    ({"keep": ["predictions"]}, "Did you mean 'prediction'"),
    ({"hrf": "glover"}, "responses on 'time' only"),
    ({"gap": 3.0}, "no clock"),
    ({"null": "shift", "n_permutations": 3}, "no order in time"),
    ({"null": "block", "n_permutations": 3}, "needs groups"),
    ({"null": "bootstrap", "n_permutations": 3}, "'shift', 'block', 'permute'"),
    ({"groups": "subject"}, "no coord 'subject'"),
    ({"groups": [1, 2]}, "one label for each of the 80"),
    ({"inner_cv": [0, 1] * 40}, "not a table"),
    ({"n_splits": 1}, "expected 2 to 80"),
    ({"alphas": [-1.0, 1.0]}, "above 0"),
    ({"high_pass": "yes"}, "expected one of 'auto'"),
    ({"high_pass": -1.0}, "above 0"),
    ({"fdr": "holm", "n_permutations": 3}, "'bh', 'by'"),
])
def test_bad_options_are_explained(options, words):
    features, responses = toy()
    with pytest.raises(ValueError, match=words):
        na.encode(features, responses, **options)


def test_bad_features_are_named():
    features, responses = toy()
    broken = features.copy(deep=True)
    broken[5, 1] = np.inf
    with pytest.raises(ValueError, match="'toy:block1:all': NaN or infinite values in the rows of 's005'"):
        na.encode(broken, responses)
    with pytest.raises(TypeError, match="make_features"):
        na.encode(features.values, responses)


@pytest.mark.filterwarnings("ignore:there are 6 samples")
def test_few_stimuli_get_as_many_inner_folds_as_they_can_have():
    features, responses = toy(n=6)
    few = na.encode(features, responses)  # four or five training rows, five inner folds
    np.testing.assert_array_equal(few.score, na.encode(features, responses, n_inner_splits=9).score)
    with pytest.raises(ValueError, match=r"n_splits: got 5, expected 2 to 4 \(the number of samples\)"):
        na.encode(features[:4], responses[:4])


def test_scores_do_not_depend_on_the_order_of_rows():
    features, responses = toy(noise=2.0)
    order = np.random.default_rng(1).permutation(80)
    one = na.encode(features, responses)
    other = na.encode(features.isel(stimulus=order[::-1]), responses.isel(stimulus=order))
    np.testing.assert_allclose(one.score, other.score, atol=1e-5)


def test_too_few_permutations_are_named():
    features, responses = toy()
    with pytest.warns(NeuroalignWarning, match=r"18 permutations: the smallest attainable p is 0\.0526"):
        na.encode(features, responses, n_permutations=18)


def test_plain_arrays_are_told_how_to_be_labelled():
    features, responses = toy()
    with pytest.raises(TypeError, match="make_responses"):
        na.encode(features, responses.values)
