"""Ratings as RDMs, agreement of people and runs against loops and the published ceilings, blind pairs."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr, spearmanr
from sklearn.feature_extraction.text import TfidfVectorizer

import neuroalign as na
from neuroalign.alignment import blind_pairs, collect_ratings, compare_ratings, rating_agreement, ratings_to_rdms
from neuroalign.data import make_features, make_rdms
from neuroalign.errors import NeuroalignWarning
from neuroalign.features.baselines import tfidf

IDS = list("abcdefg")


def table(seed=0, people=3, missing=0.0):
    rng = np.random.default_rng(seed)
    rows = [(a, b, rng.integers(0, 101) if rng.random() >= missing else np.nan, f"p{s}")
            for s in range(people) for k, a in enumerate(IDS) for b in IDS[k + 1:]]
    return pd.DataFrame(rows, columns=["stimulus_a", "stimulus_b", "rating", "subject"])


def test_ratings_become_dissimilarities_of_each_subject_whatever_the_order():
    plain = table()
    found = ratings_to_rdms(plain, scale=(0, 100), region="people")
    assert found.target.values.tolist() == ["people:p0", "people:p1", "people:p2"]
    for row, subject in zip(found.values, ["p0", "p1", "p2"]):
        own = plain[plain["subject"] == subject]
        np.testing.assert_allclose(row, 1 - own["rating"] / 100, atol=1e-6)
    turned = plain.sample(frac=1, random_state=1).rename(columns={"stimulus_a": "stimulus_b",
                                                                 "stimulus_b": "stimulus_a"})
    agreed = rating_agreement(found, ratings_to_rdms(turned, scale=(0, 100), region="people"))
    order = [f"people:p{k}" for k in range(3)]
    np.testing.assert_allclose(np.diag(agreed.between.sel(person=order, other=order)), 1, atol=1e-6)


def test_both_orders_are_averaged_and_missing_ratings_stay_missing():
    rows = pd.DataFrame([("a", "b", 20, "p"), ("b", "a", 40, "p"), ("a", "c", np.nan, "p"), ("a", "c", 100, "q"),
                         ("b", "c", 0, "p")], columns=["stimulus_a", "stimulus_b", "rating", "subject"])
    found = ratings_to_rdms(rows, scale=(0, 100))
    np.testing.assert_allclose(found.values, [[0.7, np.nan, 1.0], [np.nan, 0.0, np.nan]])
    rows.loc[3, "rating"] = np.nan
    with pytest.warns(NeuroalignWarning, match="1 pairs without any rating are left out: 'a, c'"):
        assert ratings_to_rdms(rows[rows["subject"] == "p"], scale=(0, 100)).sizes["pair"] == 2


@pytest.mark.parametrize("method, r", [("spearman", spearmanr), ("pearson", pearsonr)])
def test_agreement_equals_loops(method, r):
    people, runs = (ratings_to_rdms(table(s, n, missing=0.1), scale=(0, 100)) for s, n in ((0, 4), (1, 4)))
    x, y = people.values.astype(float), runs.values.astype(float)

    def over_both(a, b):
        here = ~np.isnan(a) & ~np.isnan(b)
        return r(a[here], b[here])[0]

    found = rating_agreement(people, runs, method=method)
    pairs = [tuple(sorted(p)) for p in zip(runs.stimulus_a.values, runs.stimulus_b.values)]
    y = y[:, [pairs.index(tuple(sorted(p))) for p in zip(people.stimulus_a.values, people.stimulus_b.values)]]
    np.testing.assert_allclose(found.between, [[over_both(a, b) for b in y] for a in x], atol=1e-6)
    np.testing.assert_allclose(found.within.values[0, 1:], [over_both(x[0], b) for b in x[1:]], atol=1e-6)
    assert np.isnan(np.diag(found.within)).all() and np.isnan(np.diag(found.within_others)).all()
    rest = [over_both(x[k], np.nanmean(np.delete(x, k, 0), 0)) for k in range(4)]
    np.testing.assert_allclose(found.leave_one_out, rest, atol=1e-6)
    np.testing.assert_allclose(found.group, [over_both(a, np.nanmean(y, 0)) for a in x], atol=1e-6)
    assert found.groups.item() == pytest.approx(over_both(np.nanmean(x, 0), np.nanmean(y, 0)), abs=1e-6)


def test_people_who_arranged_objects_reach_their_published_ceiling(mirror):
    """Judgements of 16 people: the mean of leave_one_out is the lower noise ceiling of their raw RDMs."""
    expected = json.loads((mirror / "acceptance.json").read_text())["obj92.ceiling_lower.raw.behaviour"]
    rdms = na.load_rdms("objects92")
    people = rdms.sel(target=rdms.region.values == "behaviour")
    monkey = rdms.sel(target=["monkeyIT"])
    found = rating_agreement(people, monkey)
    assert found.leave_one_out.mean().item() == pytest.approx(expected["value"], abs=expected["tol"])
    scored = na.compare(monkey, people, n_permutations=0)
    assert found.group.mean().item() == pytest.approx(scored.score.item(), abs=1e-6)
    assert found.between.mean() < found.within.mean() < found.leave_one_out.mean()


def test_documents_by_both_coefficients(mirror):
    """tf-idf against the Lee documents: .559 by Pearson, a known value of these files."""
    stimuli = na.load_stimuli("lee50")
    counts = TfidfVectorizer(stop_words="english").fit_transform(stimuli.table["text"]).toarray()
    found = compare_ratings(make_features(counts, stimuli.ids, model="tfidf"), na.load_rdms("lee50"),
                            n_permutations=19)
    assert found.metric.values.tolist() == ["rsa.spearman", "rsa.spearman.group", "rsa.pearson", "rsa.pearson.group"]
    assert found.score.sel(metric="rsa.pearson").item() == pytest.approx(0.559, abs=5e-4)
    assert (found.p == 0.05).all()


def test_packaged_word_ratings_need_no_mirror():
    pytest.importorskip("gensim")
    stimuli = na.load_stimuli("wordsim353")
    found = compare_ratings(tfidf(stimuli, unit="character"), na.load_rdms("wordsim353"), n_permutations=0)
    pairs = na.load_rdms("wordsim353")
    rows = tfidf(stimuli, unit="character").to_series().unstack()
    direct = [rows.loc[a] @ rows.loc[b] for a, b in zip(pairs.stimulus_a.values, pairs.stimulus_b.values)]
    expected = spearmanr(direct, -pairs.values[0])[0]
    assert found.score.sel(metric="rsa.spearman").item() == pytest.approx(expected, abs=1e-3)


def test_pairs_are_shown_in_both_orders_and_answers_that_are_no_number_are_missing():
    shown = []

    def ask(a, b, run):
        shown.append((a, b, run))
        return None if {a, b} == {"a", "b"} else 500 if {a, b} == {"a", "c"} else 10 * run

    with pytest.warns(NeuroalignWarning, match="4 of 84 answers hold no rating"):
        with pytest.warns(NeuroalignWarning, match=r"4 ratings outside 0 to 100 count as missing: '500 \("):
            found = collect_ratings(ask, IDS, scale=(0, 100), n_runs=4)
    orders = pd.Series([(a, b) for a, b, _ in shown]).value_counts()
    assert len(orders) == 42 and (orders == 2).all()
    assert [s[:2] for s in shown if s[2] == 0] != [s[:2] for s in shown if s[2] == 2]
    with pytest.warns(NeuroalignWarning, match="2 pairs without any rating"):
        assert ratings_to_rdms(found, scale=(0, 100)).shape == (4, 19)


def test_blind_pairs_equal_a_double_loop():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 30, 3))
    ids = [f"s{k:02d}" for k in range(30)]
    a, b = make_features(x, ids, model="a"), make_features(y, ids, model="b")[::-1]
    found = blind_pairs(a, b, high=0.8, low=0.2)
    kernels = [(v / np.linalg.norm(v, axis=1, keepdims=True)) for v in (x, y)]
    kernels = [u @ u.T for u in kernels]
    expected = {frozenset((ids[i], ids[j])) for i in range(30) for j in range(i)
                if kernels[0][i, j] > 0.8 and kernels[1][i, j] < 0.2}
    assert {frozenset(p) for p in found[["stimulus_a", "stimulus_b"]].to_numpy()} == expected and len(expected) > 5
    gap = found["similarity_blind"] - found["similarity_seeing"]
    assert (np.diff(gap) <= 0).all() and found.attrs["n_pairs"] == 435
    ranked = blind_pairs(a, b, high=0.9, low=0.1, by="rank")
    triangles = [pd.Series(k[np.triu_indices(30, 1)]).rank(pct=True) for k in kernels]
    assert len(ranked) == ((triangles[0] > 0.9) & (triangles[1] < 0.1)).sum() > 0


def test_a_model_is_blind_to_what_a_brain_region_tells_apart(mirror):
    rdms = na.load_rdms("objects92")
    found = blind_pairs(rdms.sel(target=["monkeyIT"]), rdms.sel(target=["hIT_group"]), high=0.95, low=0.35, by="rank")
    d = [na.alignment.rdm.square(rdms.sel(target=t).values) for t in ("monkeyIT", "hIT_group")]
    ids = list(na.load_stimuli("objects92").ids)
    for row in found.itertuples():
        i, j = ids.index(row.stimulus_a), ids.index(row.stimulus_b)
        assert (d[0][i, j] > d[0]).mean() < 0.08 and (d[1][i, j] > d[1]).mean() > 0.6
    assert len(found) == 4


@pytest.mark.parametrize("call, words", [
    (lambda: ratings_to_rdms(table().drop(columns="rating"), scale=(0, 100)), "no column 'rating'"),
    (lambda: ratings_to_rdms(table(), scale=(0, 10)), r"outside the scale 0 to 10: '\d+ \(a, b\)'"),
    (lambda: ratings_to_rdms(table(), scale=(9, 1)), "scale: got"),
    (lambda: ratings_to_rdms(table().assign(stimulus_b="a"), scale=(0, 100)), "of a stimulus with itself: 'a'"),
    (lambda: ratings_to_rdms(table().assign(rating=np.nan), scale=(0, 100)), "no rating at all by 'p0', 'p1', 'p2'"),
    (lambda: rating_agreement(ratings_to_rdms(table(people=1), scale=(0, 100))), "one person, expected at least two"),
    (lambda: rating_agreement(ratings_to_rdms(table(), scale=(0, 100)),
                              make_rdms(np.ones((1, 3)), stimulus_ids=["u", "v", "w"])), "share no pair"),
    (lambda: collect_ratings(len, ["a", "a", "b"], scale=(0, 1)), "items: got 3, 2 of them different"),
    (lambda: blind_pairs(make_features(np.eye(5), list("abcde"), model="a"),
                         [make_features(np.eye(5), list("abcde"), model=m) for m in "bc"]),
     "seeing: got 2 spaces, expected one"),
])
def test_wrong_input_is_explained(call, words):
    with pytest.raises(ValueError, match=words):
        call()
