"""Scores: schema, joining, differences, tables and files."""

import json

import numpy as np
import pytest
import xarray as xr

from neuroalign.data import scores


def make(spaces=("m:a:all", "m:b:all"), metrics=("rsa.spearman",), targets=("IT", "EVC"), dim="target", seed=0,
         attrs=None, **more):
    rng = np.random.default_rng(seed)
    dims, shape = ("metric", "space", dim), (len(metrics), len(spaces), len(targets))
    variables = {"score": (dims, rng.random(shape)), "p": (dims, rng.random(shape))} | more
    layers = [s.split(":")[1] for s in spaces]
    coords = {"metric": list(metrics), "space": list(spaces), dim: list(targets), "layer": ("space", layers),
              "depth": ("space", np.linspace(0, 1, len(spaces)))}
    return scores.make(variables, coords, {"random_state": 3, "warnings": []} | (attrs or {}))


def with_bootstrap(n=400, spaces=("m:a:all", "m:b:all")):
    rng = np.random.default_rng(1)
    shared = rng.standard_normal((n, 1, 1, 2))
    values = 0.5 + 0.2 * shared - 0.1 * np.arange(len(spaces))[:, None] + 0.01 * rng.standard_normal(
        (n, 1, len(spaces), 2))
    return make(spaces, bootstrap=(("resample", "metric", "space", "target"), values))


def test_made_scores_say_when_and_with_what_they_were_made():
    about = scores.attrs_of(make())
    assert about["random_state"] == 3 and about["schema_version"] == scores.SCHEMA_VERSION
    assert about["versions"]["numpy"] == np.__version__ and about["created"].endswith("+00:00")
    assert all(isinstance(v, str) for v in make().attrs.values())


def test_attrs_take_numpy_values():
    about = scores.attrs_of(make(attrs={"a": np.float32(0.5), "b": np.arange(2), "c": np.bool_(True)}))
    assert (about["a"], about["b"], about["c"]) == (0.5, [0, 1], True)


@pytest.mark.parametrize("change, words", [
    (lambda s: s.rename(score="value"), r"no variable 'score'; found \['value', 'p'\]"),
    (lambda s: s.transpose("space", "metric", "target"), r"'score' has dims \('space', 'metric', 'target'\)"),
    (lambda s: s.rename(target="site"), r"'score' has dims \('metric', 'space', 'site'\)"),
    (lambda s: s.assign(effect=s.score), r"unknown variables 'effect'; known are score"),
    (lambda s: s.assign_coords(space=["x", "x"]), r"space is not unique: 'x', 'x'"),
])
def test_a_departure_from_the_schema_is_named(change, words):
    with pytest.raises(ValueError, match=words):
        scores.validate(change(make()))


def test_other_things_are_no_scores():
    with pytest.raises(TypeError, match="got DataArray, expected an xarray.Dataset"):
        scores.validate(make().score)


def test_parts_are_joined_along_spaces_metrics_and_targets():
    one, two = make(seed=1), make(("m:c:all",), seed=2)
    joined = scores.concat([one, two])
    assert joined.space.values.tolist() == ["m:a:all", "m:b:all", "m:c:all"] and joined.layer.values[2] == "c"
    np.testing.assert_array_equal(joined.score.sel(space="m:c:all"), two.score.sel(space="m:c:all"))
    metrics = scores.concat([one, make(metrics=("cka.debiased",))], dim="metric")
    assert metrics.score.shape == (2, 2, 2) and metrics.depth.dims == ("space",)
    targets = scores.concat([one, make(targets=("V4",))], dim="target")
    assert targets.target.values.tolist() == ["IT", "EVC", "V4"]


def test_variables_that_only_some_parts_have_are_nan_in_the_others():
    one, two = with_bootstrap(n=5), make(("m:c:all",))
    two["ci_low"] = two.score - 1
    joined = scores.concat([one, two])
    assert joined.ci_low.sel(space="m:a:all").isnull().all() and joined.ci_low.sel(space="m:c:all").notnull().all()
    assert joined.bootstrap.sel(space="m:c:all").isnull().all() and joined.bootstrap.sizes["resample"] == 5
    assert joined.bootstrap.sel(space="m:b:all").notnull().all()


def test_coords_that_only_some_parts_have_are_kept():
    two = make(("m:c:all",)).assign_coords(part=("space", ["both"]))
    joined = scores.concat([make(), two])
    assert joined.part.sel(space="m:c:all").item() == "both"
    assert joined.score.notnull().all()


def test_targets_of_only_some_parts_are_nan_in_the_others():
    joined = scores.concat([make(), make(("m:c:all",), targets=("V4", "IT"))])
    assert set(joined.target.values) == {"IT", "EVC", "V4"}
    assert joined.score.sel(space="m:c:all", target="EVC").isnull().all()
    assert joined.score.sel(space="m:a:all", target="IT").notnull().all()


def test_warnings_of_all_parts_are_kept():
    parts = [make(attrs={"warnings": [{"code": "one"}]}), make(("m:c:all",), attrs={"warnings": [{"code": "two"}]})]
    assert [w["code"] for w in scores.attrs_of(scores.concat(parts))["warnings"]] == ["one", "two"]


def test_what_is_said_metric_by_metric_is_joined():
    parts = [make(attrs={"aggregation": {"rsa.spearman": "mean over subjects"}}),
             make(metrics=("cka.debiased",), attrs={"aggregation": {"cka.debiased": "one value"}})]
    joined = scores.attrs_of(scores.concat(parts, dim="metric"))
    assert joined["aggregation"] == {"rsa.spearman": "mean over subjects", "cka.debiased": "one value"}


@pytest.mark.parametrize("parts, options, words", [
    ([], {}, "no scores given"),
    ([make(), make()], {}, "space is not unique"),
    ([make()], {"dim": "fold"}, r"dim: got 'fold', expected one of 'space', 'metric'"),
    ([make(), make(("m:c:all",), dim="neuroid")], {}, r"'target'\) and \('metric', 'space', 'neuroid'\) cannot be"),
])
def test_what_cannot_be_joined_is_explained(parts, options, words):
    with pytest.raises(ValueError, match=words):
        scores.concat(parts, **options)


def test_a_difference_is_paired_over_resamples():
    found = scores.diff(with_bootstrap(), "m:a:all", "m:b:all")
    both = with_bootstrap()
    np.testing.assert_allclose(found.score, both.score[:, [0]].values - both.score[:, [1]].values)
    paired = (both.bootstrap[:, :, 0] - both.bootstrap[:, :, 1]).values
    np.testing.assert_allclose(found.ci_low.values[:, 0], np.quantile(paired, 0.025, axis=0))
    np.testing.assert_allclose(found.ci_high.values[:, 0], np.quantile(paired, 0.975, axis=0))
    # Each space alone varies ten times more than their difference: an unpaired interval would not exclude zero.
    assert (found.ci_low > 0).all() and (found.ci_high - found.ci_low < 0.1).all()
    assert found.space.values.tolist() == ["m:a:all - m:b:all"] and found.target.values.tolist() == ["IT", "EVC"]


def test_a_wider_level_gives_a_wider_interval():
    narrow, wide = (scores.diff(with_bootstrap(), "m:a:all", "m:b:all", level=v) for v in (0.5, 0.99))
    assert (wide.ci_low < narrow.ci_low).all() and (wide.ci_high > narrow.ci_high).all()
    assert "99%" in scores.attrs_of(wide)["interval"]


def test_without_resamples_a_difference_has_no_interval():
    found = scores.diff(make(), "m:a:all", "m:b:all")
    assert found.ci_low.isnull().all() and found.score.notnull().all()
    assert "no interval" in scores.attrs_of(found)["interval"]


def test_a_difference_keeps_the_coords_of_the_targets():
    kept = scores.diff(make().assign_coords(n_subjects=("target", [4, 15])), "m:a:all", "m:b:all")
    assert kept.n_subjects.values.tolist() == [4, 15] and "layer" not in kept.coords


def test_an_unknown_space_is_named():
    with pytest.raises(KeyError, match=r"no space 'm:z:all'; found 'm:a:all', 'm:b:all'"):
        scores.diff(make(), "m:a:all", "m:z:all")


def test_a_table_has_one_row_a_score():
    table = scores.to_frame(with_bootstrap())
    assert len(table) == 4 and list(table.columns[:5]) == ["metric", "space", "target", "score", "p"]
    row = table[(table.space == "m:b:all") & (table.target == "EVC")].iloc[0]
    assert row.score == with_bootstrap().score.values[0, 1, 1] and row.layer == "b" and row.depth == 1
    assert "bootstrap" not in table


def test_a_saved_file_comes_back_the_same(tmp_path):
    made = with_bootstrap()
    path = scores.save(made, tmp_path / "deep" / "scores.nc")
    xr.testing.assert_identical(scores.load(path), made)
    assert [p.name for p in path.parent.iterdir()] == ["scores.nc"]
    scores.save(make(), path)
    assert "bootstrap" not in scores.load(path)


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="no variable 'score'"):
        scores.save(make().drop_vars("score"), tmp_path / "scores.nc")
    assert list(tmp_path.iterdir()) == []


def test_missing_and_outdated_files_are_explained(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file.*gone\.nc"):
        scores.load(tmp_path / "gone.nc")
    (tmp_path / "table.csv").write_text("stimulus_id,v1\na,1\n")
    with pytest.raises(ValueError, match=r"table\.csv' is no netCDF file.*--out"):
        scores.load(tmp_path / "table.csv")
    old = make()
    old.attrs["schema_version"] = json.dumps(0)
    with pytest.raises(ValueError, match=r"schema_version is 0, expected 1. Compute it again"):
        scores.load(scores.save(old, tmp_path / "old.nc"))


def test_concat_of_targets_keeps_the_coords_of_spaces_that_only_one_part_has():
    def one(spaces, target):
        return scores.make({"score": (("metric", "space", "target"), np.zeros((1, len(spaces), 1)))},
                           {"metric": ["rsa.spearman"], "space": spaces, "target": [target],
                            "model": ("space", [s[0] for s in spaces])})

    joined = scores.concat([one(["b:1", "a:1"], "x"), one(["b:1", "c:1"], "y")], dim="target")
    assert joined["space"].values.tolist() == ["b:1", "a:1", "c:1"]
    assert joined["model"].values.tolist() == ["b", "a", "c"]
    assert np.isnan(joined["score"].sel(space="c:1", target="x")).all()


def test_a_metric_chosen_without_a_list_is_explained(tmp_path):
    one = scores.make({"score": (("metric", "space", "neuroid"), np.zeros((1, 1, 2)))},
                      {"metric": ["r.pooled"], "space": ["m:l:all"], "neuroid": ["a", "b"]})
    with pytest.raises(ValueError, match=r"keeps the dim: scores.sel\(metric=\['r.pooled'\]\)"):
        scores.save(one.sel(metric="r.pooled"), tmp_path / "s.nc")
    assert scores.load(scores.save(one.sel(metric=["r.pooled"]), tmp_path / "s.nc")).equals(one)
