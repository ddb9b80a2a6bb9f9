"""The methods paragraph says what the attrs say, and nothing else."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.data import make_features, make_responses
from neuroalign.data import scores as scores_
from neuroalign.errors import NeuroalignWarning
from neuroalign.reports.facts import commit_of, glance, references, warning_rows
from neuroalign.reports.methods import methods


def test_encoding_is_described(encoding):
    said = methods(encoding)
    for words in ("3 values between 0.1 and 1e+03", "inner cross-validation (blocks(5, gap=8))",
                  "blocks(6, gap=8), 6 in all, with 290 to 298 training and 60 to 61 test samples; up to 16 samples",
                  "16 s", "glover haemodynamic response, at their onset", "word_rate and sound_power",
                  "200 circular shifts of the events", "shortest shift 150", "smallest possible p is 0.005",
                  "Benjamini-Hochberg", "split halves of the subjects", "out-of-fold predictions of all folds pooled",
                  "Random state 0"):
        assert words in said, words
    assert "high-pass" not in said


def test_comparison_is_described(comparison):
    said = methods(comparison())
    for words in ("6, of net and text", "net (1 seed)", "92 stimuli, 4,186 pairs", "correlation distance",
                  "999 permutations (stimulus labels permuted)", "smallest possible p is 0.001",
                  "percentile bootstrap, 95%, resampling stimuli and subjects", "No noise ceiling is available"):
        assert words in said, words
    assert "ridge" not in said


def test_what_is_not_known_is_not_said(comparison):
    scores = comparison()[["score"]]
    scores.attrs = {}
    said = methods(scores)
    assert "Nothing was tested for significance." in said and "ridge" not in said and "Random state" not in said


def test_counts(comparison):
    models, twins = glance("a", comparison())
    columns = ("of", "scores", "p < 0.05", "q < 0.05")
    assert [models[c] for c in columns] == ["models", 8, 2, 0]
    assert [twins[c] for c in columns] == ["random twins", 4, 4, 4]
    assert np.isnan(glance("a", comparison().drop_vars(["p", "q"]))[0]["q < 0.05"])


def test_the_highest_score_comes_with_the_p_of_a_maximum(comparison):
    scores = comparison()
    score = scores["score"].isel(metric=0)
    tested = scores.assign(p_max=scores["p"] * 0 + 0.5)
    tested["p_max"].values[0].flat[np.nanargmax(score.values)] = 0.02
    rows = glance("a", tested)
    assert 0.02 in [row["p of highest"] for row in rows] and "highest of all spaces and targets" in methods(tested)
    assert "p of highest" not in glance("a", scores)[0]


def test_warnings_are_counted_once_each(comparison):
    rows = warning_rows([("first", comparison()), ("second", comparison())])
    assert len(rows) == 1 and rows[0]["said"] == 2 and rows[0]["in"] == "first; second"


def test_references_follow_the_metrics(comparison, encoding):
    found = " ".join(references([comparison()]))
    assert "Kriegeskorte" in found and "Benjamini" in found and "Naselaris" not in found
    assert "Naselaris" in " ".join(references([encoding]))


@pytest.mark.parametrize("packed", [True, False])
def test_commit_is_read_from_the_checkout(tmp_path, packed):
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    if packed:
        (git / "packed-refs").write_text("# pack-refs\nabc123 refs/heads/main\n")
    else:
        (git / "refs" / "heads" / "main").write_text("abc123\n")
    (tmp_path / "deep").mkdir()
    assert commit_of(tmp_path / "deep") == "abc123"


def test_bands_and_parts_are_described():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(40)]
    spaces = {m: make_features(rng.standard_normal((40, 3)), ids, model=m) for m in ("vision", "language")}
    responses = make_responses(rng.standard_normal((40, 2)), ids, ["v1", "v2"])
    said = methods(na.encode_banded(spaces, responses, n_candidates=4, refine=1, n_splits=3))
    assert "Bands of features: 2, language and vision." in said and "by ridge regression" in said
    assert "4 shares of the bands were tried for each target and refined by up to 1 steps" in said
    parts = na.partition_variance(spaces, responses, method="ridge", n_splits=3, n_bootstraps=20)
    said = methods(parts)
    assert "commonality analysis of the held-out R²" in said and "Banded ridge" not in said
    assert "20 resamples of stimuli (40)" in said


def test_a_gap_is_told_only_where_something_was_purged(encoding):
    about = scores_.attrs_of(encoding)
    assert "Gap between training and test samples: 16 s." in methods(encoding)
    unpurged = scores_.make(dict(encoding.data_vars), dict(encoding.coords),
                            about | {"folds": about["folds"] | {"n_purged": [0, 0]}})
    assert "Gap" not in methods(unpurged)


def test_delays_are_described(encoding):
    scores = encoding.copy()
    for delays, words in (([2.0, 4.0], "delayed by 2 and 4 s"), (list(range(9)), "delayed by each of 9 from 0 to 8 s")):
        scores.attrs = encoding.attrs | {"hrf": "null", "downsample": '"lanczos"', "delays": str(delays)}
        said = methods(scores)
        assert words in said and "Lanczos filter of three lobes, at their onset" in said and "haemodynamic" not in said


def test_only_regressors_made_of_events_are_said_to_be_filtered(encoding):
    scores = encoding.copy()
    scores.attrs = encoding.attrs | {"high_pass": "0.01"}
    assert "Regressors made of events passed the same high-pass filter" in methods(scores)
    scores.attrs = scores.attrs | {"hrf": "null"}
    assert "filter" not in methods(scores) and "convolved" not in methods(scores)


def test_site_tests_are_described(encoding):
    dims = ("metric", "space", "neuroid")
    scores = scores_.make({"score": (dims, np.zeros((1, 1, 2))), "p": (dims, np.ones((1, 1, 2)))},
                          {"metric": ["r.pooled"], "space": ["gain"], "neuroid": ["a", "b"]},
                          {"analysis": "site_tests", "comparisons": {"gain": ["multi", "uni"]}, "fdr": "by",
                           "interval": "2,000 resamples of stimuli", "widening": 1.5, "smallest_p": 0.0005,
                           "n_bins": 12, "folds": {"n_folds": 5, "name": "kfold"}})
    said = methods(scores)
    for words in ("gain (multi better than uni)", "12 time bins", "5 outer folds (kfold)", "widened by 1.50",
                  "smallest possible p is 0.0005", "Benjamini-Yekutieli over the sites", "2,000 resamples of stimuli"):
        assert words in said, words
    assert "ceiling" not in said and "Feature spaces" not in said
    scores.attrs["paper_compat"] = "true"
    assert "not calibrated" in methods(scores) and "widened" not in methods(scores)


def test_choices_within_the_folds_are_described(encoding):
    scores = encoding.copy()
    scores.attrs = encoding.attrs | {"reduce": '"pca:50"', "residualize": '"both"', "select_neuroids": "0.2"}
    said = methods(scores.assign_coords(layer=("space", ["nested"])))
    for words in ("reduced within the training rows (pca:50)", "regressed out of the features and responses",
                  "reliability of the repeats in its training rows, at least 0.2", "Layers, and models within a group"):
        assert words in said, words
    assert "alone as the baseline" not in said


def test_what_stands_beside_the_scores_is_described(encoding):
    scores = encoding.assign(drift=encoding.score * 0.1, shuffled=encoding.score * 0.0)
    scores.attrs = encoding.attrs | {"residualize": '"features"',
                                     "leftover": '{"a": {"mean": -0.01, "highest": 0.3}, "b": {"mean": 0.004}}'}
    said = methods(scores)
    for words in ("still predicted of held-out residual features: R² 0.004 at most", "smooth function of the order",
                  "the same features in other orders"):
        assert words in said, words
    rng, ids = np.random.default_rng(0), [f"s{k}" for k in range(40)]
    with pytest.warns(NeuroalignWarning, match="not calibrated"):
        papers = na.alignment.subramaniam2024(make_features(rng.standard_normal((40, 3)), ids, model="m"),
                                              make_responses(rng.standard_normal((40, 2)), ids, ["a", "b"]))
    said = methods(papers)
    assert "2406.14481, for comparison with its figures: not calibrated" in said and "40 stimuli" in said


def test_only_dissimilarities_have_a_distance(comparison):
    scores = comparison().assign_coords(metric=["cka.debiased"])
    assert "correlation distance" in methods(comparison()) and "correlation distance" not in methods(scores)


def test_sides_without_a_metric_of_the_registry_are_described(comparison):
    scores = comparison(attrs={"kind": "matching", "n_anchors": 60, "n_queries": 32, "n_draws": 10, "n_stimuli": 92,
                               "n_pairs": None, "aggregation": {"mine": "what I measured"}, "null": {"mine": "swaps"}})
    said = methods(scores.assign_coords(metric=["mine"]))
    for words in ("60 anchors and scored on 32 held-out rows, mean of 10 draws", "`mine`: what I measured.", "(swaps)"):
        assert words in said, words


def test_what_must_be_known_first_is_said(comparison):
    said = methods(comparison(attrs={"analysis": "searchlight", "radius_mm": 8.0, "untrained": True,
                                     "paper_compat": "as a paper had it, leaks", "inference": "by clusters of sites"}))
    for words in ("(within 8 mm)", "weights of the model were random", "As a paper had it, leaks.",
                  "By clusters of sites."):
        assert words in said, words
    assert "permutations" not in said  # the inference is that of the analysis itself
