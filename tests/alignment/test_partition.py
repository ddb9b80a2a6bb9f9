"""Variance partitioning: planted parts, the algebra of the parts, intervals by hand."""

import numpy as np
import pytest
import xarray as xr
from sklearn.metrics import r2_score

import neuroalign as na
from neuroalign.alignment.partition import commonality
from neuroalign.data import make_features, make_responses
from neuroalign.data.scores import attrs_of, diff, load, save, validate
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats import expanded_interval, make_resamples

ALPHAS = [0.01, 1.0, 100.0, 1e4, 1e6]
FEW = {"alphas": ALPHAS, "n_splits": 3, "n_inner_splits": 3}


def planted(shares, n=600, t=6, width=2, seed=0, dim="stimulus", **options):
    """Spaces that share latent features: `shares` maps the names of the spaces that hold a latent to its variance.

    What no latent explains is noise, up to a variance of 1.
    """
    rng = np.random.default_rng(seed)
    ids = [f"s{k:03d}" for k in range(n)] if dim == "stimulus" else np.arange(n) * 2.0
    latents = {members: rng.standard_normal((n, width)) for members in shares}
    y = np.sqrt(1 - sum(shares.values())) * rng.standard_normal((n, t))
    for members, share in shares.items():
        turn = rng.standard_normal((width, t))
        y += np.sqrt(share) * latents[members] @ (turn / np.linalg.norm(turn, axis=0))
    spaces = {}
    for name in sorted(set("".join(shares))):
        held = np.hstack([z for members, z in latents.items() if name in members])
        spaces[name] = make_features(held @ np.linalg.qr(rng.standard_normal(held.shape[1:] * 2))[0], ids, model=name,
                                     dim=dim)
    return spaces, make_responses(y, ids, [f"v{k}" for k in range(t)], dim=dim, **options)


def part(members):
    return f"{members}, unique" if len(members) == 1 else f"{' & '.join(members)}, shared"


@pytest.mark.parametrize("method", ["banded", "ridge"])
@pytest.mark.parametrize("shares", [
    {"a": 0.3, "b": 0.4},
    {"a": 0.15, "b": 0.05, "ab": 0.5},
    {"ab": 0.6, "a": 0.0, "b": 0.0},
    {"a": 0.1, "b": 0.15, "c": 0.0, "ab": 0.1, "ac": 0.05, "bc": 0.2, "abc": 0.25},
])
def test_planted_parts_are_recovered(shares, method):
    spaces, responses = planted(shares)
    scores = na.partition_variance(spaces, responses, method=method, n_candidates=8, n_bootstraps=0, **FEW)
    for members in shares:
        found = scores.score.sel(space=part(members)).mean().item()
        assert found == pytest.approx(shares[members], abs=0.035), members
    whole = scores.score.sel(space=" + ".join(spaces))
    summed = scores.score.isel(space=scores.part.isin(["unique", "shared"]).values).sum("space")
    np.testing.assert_allclose(summed, whole, atol=1e-12)
    assert whole.mean().item() == pytest.approx(sum(shares.values()), abs=0.04)


def test_a_small_band_is_not_drowned_by_a_wide_one():
    spaces, responses = planted({"a": 0.5, "b": 0.0}, n=150)
    wide = np.random.default_rng(1).standard_normal((150, 300))
    spaces["b"] = make_features(wide, spaces["a"].stimulus_id.values, model="b")
    found = {m: na.partition_variance(spaces, responses, method=m, n_bootstraps=0, n_candidates=6, **FEW)
             for m in ("banded", "ridge")}
    unique = {m: s.score.sel(space="a, unique").mean().item() for m, s in found.items()}
    assert unique["banded"] > 0.4
    # With one penalty the wide band takes from the small one, and the parts say so: none of them is clipped.
    harmed = {m: s.score.sel(space="a + b").mean().item() for m, s in found.items()}
    assert harmed["ridge"] < harmed["banded"] - 0.1
    assert (found["ridge"].score.sel(space="b, unique") < -0.05).all()


@pytest.mark.parametrize("k", [2, 3, 4, 5])
def test_what_is_lost_without_some_bands_is_the_sum_of_their_parts(k):
    names = list("abcde")[:k]
    sets, parts = commonality(names)
    assert len(sets) == len(parts) == 2**k - 1 and sets[-1] == tuple(names)
    r2 = np.random.default_rng(k).uniform(size=2**k)
    value = {frozenset(): r2[0]} | {frozenset(s): v for s, v in zip(sets, r2[1:])}
    regions = {frozenset(s): w @ r2 for s, w in zip(sets, parts.values())}
    for out in sets:
        lost = value[frozenset(names)] - value[frozenset(names) - set(out)]
        within = [v for s, v in regions.items() if s <= set(out)]
        assert sum(within) == pytest.approx(lost)
    assert list(parts)[:2] == ["a, unique", "b, unique"] and list(parts)[-1] == f"{' & '.join(names)}, shared"


def test_models_are_those_of_encoding():
    spaces, responses = planted({"a": 0.2, "b": 0.2, "ab": 0.2}, n=90)
    scores = na.partition_variance(spaces, responses, n_candidates=6, n_bootstraps=0, **FEW)
    joint = na.encode_banded(spaces, responses, n_candidates=6, **FEW)
    np.testing.assert_allclose(scores.score.sel(space="a + b"), joint.score.sel(metric=["r2.pooled"])[:, 0], atol=1e-6)
    plain = na.encode(spaces, responses, metric="r2.pooled", **FEW)
    np.testing.assert_allclose(scores.score.sel(space=["a", "b"]), plain.score, atol=1e-5)
    ridge = na.partition_variance(spaces, responses, method="ridge", n_bootstraps=0, **FEW)
    both = make_features(np.hstack([spaces[k].values for k in "ab"]), spaces["a"].stimulus_id.values, model="ab")
    np.testing.assert_allclose(ridge.score.sel(space="a + b"), na.encode(both, responses, **FEW).score[1:, 0],
                               atol=1e-5)
    np.testing.assert_allclose(ridge.score.sel(space=["a", "b"]), plain.score, atol=1e-6)


def test_the_order_of_the_spaces_changes_nothing():
    spaces, responses = planted({"a": 0.2, "b": 0.2, "ac": 0.1, "c": 0.1}, n=90)
    one = na.partition_variance(spaces, responses, n_candidates=6, n_bootstraps=20, **FEW)
    other = na.partition_variance({k: spaces[k] for k in "cab"}, responses, n_candidates=6, n_bootstraps=20, **FEW)
    xr.testing.assert_equal(one, other)


def test_the_result_is_scores_and_says_how_it_was_made(tmp_path):
    spaces, responses = planted({"a": 0.3, "b": 0.3}, n=90)
    scores = validate(na.partition_variance(spaces, responses, n_candidates=6, n_bootstraps=50, keep=["bootstrap"],
                                            **FEW))
    assert scores.space.values.tolist() == ["a", "b", "a + b", "a, unique", "b, unique", "a & b, shared"]
    assert scores.part.values.tolist() == ["model"] * 3 + ["unique"] * 2 + ["shared"]
    told = attrs_of(scores)
    assert told["analysis"] == "partition_variance" and told["method"] == "banded" and told["n_candidates"] == 6
    assert told["interval"] == ("95% expanded percentile interval over 50 resamples of stimuli (90) of the held-out "
                                "predictions")
    xr.testing.assert_identical(load(save(scores, tmp_path / "s.nc")), scores)
    delta = diff(scores, "a, unique", "b, unique")
    assert (delta.ci_low < delta.score).all() and (delta.score < delta.ci_high).all()
    assert np.isnan(scores.best_alpha.values[3:]).all() and np.isfinite(scores.best_alpha.values[:3]).all()
    assert na.plot.bars(scores, spaces=scores.space.values[3:].tolist()) is not None


def test_intervals_resample_the_held_out_predictions():
    spaces, responses = planted({"a": 0.3, "b": 0.2, "ab": 0.1}, n=90)
    scores = na.partition_variance(spaces, responses, n_candidates=6, n_bootstraps=40, level=0.8, keep=["bootstrap"],
                                   **FEW)
    P = {"a + b": na.encode_banded(spaces, responses, n_candidates=6, keep=["prediction"], **FEW).prediction}
    P |= {k: na.encode({k: spaces[k]}, responses, keep=["prediction"], **FEW).prediction for k in "ab"}
    Y = responses.values
    draws = make_resamples(np.arange(90), 40, purpose="predictions").indices
    for k, rows in enumerate(draws[:5]):
        r2 = {name: r2_score(Y[rows], p.values[rows, 0], multioutput="raw_values") for name, p in P.items()}
        np.testing.assert_allclose(scores.bootstrap.sel(space="a + b")[k, 0], r2["a + b"], atol=1e-3)
        np.testing.assert_allclose(scores.bootstrap.sel(space="a, unique")[k, 0], r2["a + b"] - r2["b"], atol=1e-3)
        shared = r2["a"] + r2["b"] - r2["a + b"]
        np.testing.assert_allclose(scores.bootstrap.sel(space="a & b, shared")[k, 0], shared, atol=1e-3)
    low, high = expanded_interval(scores.bootstrap.values, 90, 0.8)
    np.testing.assert_allclose(scores.ci_low, low, atol=1e-5)
    np.testing.assert_allclose(scores.ci_high, high, atol=1e-5)


def test_units_are_blocks_of_a_time_series_and_groups():
    spaces, responses = planted({"a": 0.3, "b": 0.3}, n=240, t=2, dim="time", sfreq=0.5)
    few = FEW | {"n_candidates": 4, "n_bootstraps": 30, "gap": 4.0}
    told = attrs_of(na.partition_variance(spaces, responses, block=20.0, **few))
    assert "of blocks of 10 samples (24)" in told["interval"]
    with pytest.warns(NeuroalignWarning, match="intervals rest on 10 blocks of 24 samples"):
        told = attrs_of(na.partition_variance(spaces, responses, **few))
    assert told["warnings"][0]["code"] == "few-blocks"
    runs = np.repeat([1, 2], [125, 115])
    by_run = na.partition_variance({k: v.assign_coords(run=("time", runs)) for k, v in spaces.items()},
                                   responses.assign_coords(run=("time", runs)), block=20.0, **few)
    assert "(23)" in attrs_of(by_run)["interval"]  # 12 and 11 whole blocks: none over the border, none of what is left
    spaces, responses = planted({"a": 0.3, "b": 0.3}, n=120, t=2)
    responses = responses.assign_coords(movie=("stimulus", np.repeat(np.arange(30), 4)))
    told = attrs_of(na.partition_variance(spaces, responses, groups="movie", **FEW, n_candidates=4, n_bootstraps=30))
    assert "of groups (30)" in told["interval"] and told["folds"]["name"] == "groups"


def test_nuisance_stands_in_every_model_and_is_a_part():
    spaces, responses = planted({"a": 0.3, "b": 0.3}, n=120)
    length = spaces["a"].values[:, 0] + 0.2 * np.random.default_rng(2).standard_normal(120)
    nuisance = xr.DataArray(length, dims="stimulus", name="length", coords=spaces["a"].stimulus_id.coords)
    scores = na.partition_variance(spaces, responses, nuisance=nuisance, n_candidates=6, n_bootstraps=30, **FEW)
    joint = na.encode_banded(spaces, responses, nuisance=nuisance, n_candidates=6, metric="r2.pooled", **FEW)
    np.testing.assert_allclose(scores.score.sel(space="nuisance"), joint.baseline, atol=1e-5)
    np.testing.assert_allclose(scores.score.sel(space="a + b"), joint.score[:, 0], atol=1e-6)
    parts = scores.score.isel(space=(scores.part != "model").values)
    np.testing.assert_allclose(parts.sum("space"), scores.score.sel(space="a + b"), atol=1e-12)
    assert scores.part.values[0] == "nuisance" and np.isfinite(scores.ci_low).all()


def test_many_targets_in_chunks_equal_few(monkeypatch):
    spaces, responses = planted({"a": 0.3, "b": 0.3}, n=90, t=7)
    options = FEW | {"n_candidates": 4, "n_bootstraps": 20, "keep": ["bootstrap"]}
    whole = na.partition_variance(spaces, responses, **options)
    monkeypatch.setattr("neuroalign.alignment.partition.BUDGET", 8 * 7 * 20 * 3)
    xr.testing.assert_allclose(na.partition_variance(spaces, responses, **options), whole, atol=1e-5)


def test_time_bins_and_broken_neuroids():
    spaces, responses = planted({"a": 0.3, "b": 0.3}, n=90, t=4)
    options = FEW | {"n_candidates": 4, "n_bootstraps": 20}
    plain = na.partition_variance(spaces, responses, **options)
    binned = make_responses(responses.values.reshape(90, 2, 2), responses.stimulus_id.values, ["p", "q"],
                            time_bins=[0.0, 0.1])
    found = na.partition_variance(spaces, binned, **options)
    assert found.score.dims == ("metric", "space", "neuroid", "time_bin")
    np.testing.assert_allclose(found.ci_low.values.reshape(1, 6, 4), plain.ci_low, atol=1e-5)
    broken = responses.copy(deep=True)
    broken[4, 1] = np.nan
    with pytest.warns(NeuroalignWarning, match="'v1'"):
        found = na.partition_variance(spaces, broken, ceiling=[0.5, 0.5, 0.5, 0.5], **options)
    assert np.isnan(found.score.values[0, :, 1]).all() and np.isfinite(found.score.values[0, :, 0]).all()
    assert (found.ceiling.values[0, :3, 0] == 0.5).all() and np.isnan(found.ceiling.values[0, 3:]).all()


def test_bad_input_is_explained():
    spaces, responses = planted({"a": 0.3, "b": 0.3}, n=60, t=1)
    with pytest.raises(ValueError, match="got 1 bands \\('a'\\), expected 2 to 5"):
        na.partition_variance({"a": spaces["a"]}, responses)
    many = {f"x{k}": spaces["a"] for k in range(6)}
    with pytest.raises(ValueError, match="got 6 bands.*bands={name: \\[ids\\]}"):
        na.partition_variance(many, responses)
    with pytest.raises(ValueError, match="method: got 'ols'"):
        na.partition_variance(spaces, responses, method="ols")
    with pytest.raises(ValueError, match="level: got 95"):
        na.partition_variance(spaces, responses, level=95)
    with pytest.raises(ValueError, match="inner_cv"):
        na.partition_variance(spaces, responses, inner_cv="loo")
    grouped = na.partition_variance(many, responses, bands={"one": ["x0", "x1"], "two": ["x2"]}, n_candidates=4,
                                    n_bootstraps=0, **FEW)
    assert grouped.space.values.tolist()[:3] == ["one", "two", "one + two"]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(120, 0.82), (300, 0.90)])
def test_intervals_hold_the_mean_over_studies(n, least):
    shares, score, low, high = {"a": 0.15, "b": 0.1, "ab": 0.25}, [], [], []
    for seed in range(4):
        spaces, responses = planted(shares, n=n, t=250, seed=seed)
        found = na.partition_variance(spaces, responses, n_bootstraps=500, n_candidates=4, n_inner_splits=3,
                                      alphas=[0.1, 10.0, 1000.0])
        for values, name in ((score, "score"), (low, "ci_low"), (high, "ci_high")):
            values.append(found[name].values[0])
    score, low, high = (np.concatenate(x, 1) for x in (score, low, high))
    mean = score.mean(1, keepdims=True)
    held = ((low <= mean) & (mean <= high)).mean(1)
    assert (held > least).all() and (held < 0.98).all(), held.round(3)
