"""Choices of geometries against loops over trials, and on real judgements of people."""

import numpy as np
import pandas as pd
import pytest

import neuroalign as na
from neuroalign.alignment import odd_one_out, two_afc
from neuroalign.data import make_features, make_rdms
from neuroalign.errors import NeuroalignWarning, NotAligned

IDS = [f"s{k:02d}" for k in range(20)]


def features(seed=0, p=6, model="toy"):
    return make_features(np.random.default_rng(seed).standard_normal((20, p)), IDS, model=model)


def triplets(n=200, seed=1):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(20)[:3] for _ in range(n)])


def cosine(x):
    u = x / np.linalg.norm(x, axis=1, keepdims=True)
    return u @ u.T


def choose(similarity, shown):
    """Odd one of each triplet: left over by the most similar pair."""
    return np.array([[c, b, a][int(np.argmax([similarity[a, b], similarity[a, c], similarity[b, c]]))]
                     for a, b, c in shown])


def odd_table(shown, odd, **more):
    names = np.array(IDS)
    return pd.DataFrame({"a": names[shown[:, 0]], "b": names[shown[:, 1]], "c": names[shown[:, 2]],
                         "odd": names[odd], **more})


def afc_table(shown, chosen, **more):
    names = np.array(IDS)
    return pd.DataFrame({"reference": names[shown[:, 0]], "a": names[shown[:, 1]], "b": names[shown[:, 2]],
                         "choice": names[chosen], **more})


def test_choices_equal_loops_over_the_trials():
    x, other, shown = features(), features(5, model="other"), triplets()
    person = cosine(np.random.default_rng(9).standard_normal((20, 4)) @ np.ones((4, 6)) + x.values)
    odd = choose(person, shown)
    found = odd_one_out([x, other], odd_table(shown, odd), n_permutations=0)
    for space, array in (("toy::all", x), ("other::all", other)):
        assert found.score.sel(space=space).item() == pytest.approx((choose(cosine(array.values), shown) == odd).mean())
    nearer = np.array([b if person[r, b] > person[r, c] else c for r, b, c in shown])
    own = np.array([b if cosine(x.values)[r, b] > cosine(x.values)[r, c] else c for r, b, c in shown])
    scored = two_afc(x, afc_table(shown, nearer), n_permutations=0)
    assert scored.score.item() == pytest.approx((own == nearer).mean())
    assert scored.metric.item() == "choice.2afc" and np.isnan(scored.ceiling).all() and scored.n.item() == 200


def test_the_layout_of_a_trial_and_the_scale_of_the_features_change_nothing():
    x, shown = features(), triplets()
    odd = choose(cosine(features(3).values), shown)
    turned = np.array([row[np.random.default_rng(k).permutation(3)] for k, row in enumerate(shown)])
    whole = odd_one_out(x, odd_table(shown, odd), n_permutations=49)
    again = odd_one_out(3 * x[::-1], odd_table(turned, odd), n_permutations=49)
    assert whole.score.item() == again.score.item()
    assert odd_one_out(x, odd_table(turned, odd), n_permutations=49).p.item() == pytest.approx(whole.p.item(), abs=0.1)


def test_a_geometry_that_makes_the_choices_is_right_and_a_random_one_at_chance():
    x, shown = features(), np.unique(np.sort(triplets(800), axis=1), axis=0)
    spaces = [x, features(77, model="random")]
    found = odd_one_out(spaces, odd_table(shown, choose(cosine(x.values), shown)), n_permutations=99, n_bootstraps=100)
    assert found.score.sel(space="toy::all").item() == 1 and found.p.sel(space="toy::all").item() == 0.01
    chance = found.sel(space="random::all")
    assert chance.p.item() > 0.05 and abs(chance.null_mean.item() - 1 / 3) < 0.02
    assert chance.ci_low < chance.score < chance.ci_high
    # as of a proportion over independent trials
    assert (chance.ci_high - chance.ci_low).item() == pytest.approx(3.92 * np.sqrt(2 / 9 / len(shown)), rel=0.3)


def test_ceilings_equal_loops_over_the_answers():
    rng = np.random.default_rng(2)
    shown = np.repeat(triplets(30), rng.integers(2, 7, 30), axis=0)
    odd = shown[np.arange(len(shown)), rng.choice(3, len(shown), p=[0.6, 0.3, 0.1])]
    subjects = rng.integers(0, 4, len(shown))
    found = odd_one_out(features(), odd_table(shown, odd, subject=subjects), n_permutations=0, keep=["subject_score"])
    keys = [tuple(sorted(row)) for row in shown]
    lower = 0
    for k, key in enumerate(keys):
        own = [j for j, other in enumerate(keys) if other == key]
        others = [odd[j] for j in own if j != k]
        most = max(others.count(v) for v in key)
        tied = [v for v in key if others.count(v) == most]
        lower += (odd[k] in tied) / len(tied)
    modal = sum(max([odd[j] for j, o in enumerate(keys) if o == key].count(v) for v in key) for key in set(keys))
    assert found.ceiling_lower.item() == pytest.approx(lower / len(keys))
    assert found.ceiling.item() == pytest.approx(modal / len(keys)) and found.score.item() <= found.ceiling.item()
    own = choose(cosine(features().values), shown) == odd
    expected = [own[subjects == s].mean() for s in range(4)]
    np.testing.assert_allclose(found.subject_score.values.ravel(), expected)


def test_ties_count_as_a_share():
    flat = make_rdms(np.ones((1, 3)), stimulus_ids=["x", "y", "z"], targets=["flat"])
    odd = pd.DataFrame({"a": ["x"], "b": ["y"], "c": ["z"], "odd": ["z"]})
    assert odd_one_out(flat, odd, n_permutations=0).score.item() == pytest.approx(1 / 3)
    two = pd.DataFrame({"reference": ["x"], "a": ["y"], "b": ["z"], "choice": ["z"]})
    assert two_afc(flat, two, n_permutations=0).score.item() == 0.5


def test_people_who_arranged_objects_as_judges_of_triplets(mirror):
    """The RDM of each person makes the choices; monkey IT and silhouettes answer against a loop, below the ceiling."""
    people = na.load_rdms("objects92").sel(target=[f"behaviour:{s}" for s in _subjects()[:6]])
    ids = na.load_stimuli("objects92").ids
    shown = np.array([np.random.default_rng(k).permutation(92)[:3] for k in range(150)])
    tables, names = [], np.array(ids)
    for person in people:
        d = na.alignment.rdm.square(person.values)
        odd = choose(-d, shown)
        tables.append(pd.DataFrame({"a": names[shown[:, 0]], "b": names[shown[:, 1]], "c": names[shown[:, 2]],
                                    "odd": names[odd], "subject": str(person.target.values)}))
    table = pd.concat(tables)
    brain = na.load_rdms("objects92")
    brain = brain.sel(target=[t for t in brain.target.values if t in ("hIT_group", "monkeyIT")])
    found = odd_one_out(brain, table, n_permutations=99)
    for target in brain.target.values:
        own = names[choose(-na.alignment.rdm.square(brain.sel(target=target).values), shown)]
        expected = np.mean([(t["odd"].to_numpy() == own).mean() for t in tables])
        at = found.sel(space=target)
        assert at.score.item() == pytest.approx(expected)
        assert at.p.item() == 0.01 and 1 / 3 < at.score < at.ceiling_lower < at.ceiling


def _subjects():
    targets = na.load_rdms("objects92")
    return list(dict.fromkeys(targets.subject.values[targets.region.values == "behaviour"].tolist()))


def test_published_dimensions_of_object_concepts_make_alike_choices(mirror):
    """14 and 82 dimensions fitted to odd-one-out choices (Hebart et al. 2020) answer the same triplets alike."""
    names = np.loadtxt(mirror / "things_spose" / "unique_id.csv", dtype=str, skiprows=1)[::6]
    small, large = (np.load(mirror / "things_spose" / f"spose_{k}d.npy")[::6].astype(float) for k in (14, 82))
    shown = np.array([np.random.default_rng(k).permutation(len(names))[:3] for k in range(500)])
    odd = choose(large @ large.T, shown)
    table = pd.DataFrame({"a": names[shown[:, 0]], "b": names[shown[:, 1]], "c": names[shown[:, 2]],
                          "odd": names[odd]})
    squares = np.stack([-(v @ v.T) for v in (small, np.random.default_rng(0).standard_normal(small.shape))])
    found = odd_one_out(make_rdms(squares, stimulus_ids=names, targets=["spose14", "noise"]), table,
                        n_permutations=39)
    assert found.score.sel(space="spose14").item() == pytest.approx((choose(small @ small.T, shown) == odd).mean(),
                                                                    abs=0.003)  # ties in float32
    assert found.score.sel(space="spose14") > 0.75 and abs(found.score.sel(space="noise") - 1 / 3) < 0.08
    assert found.p.sel(space="spose14") == 0.025


def test_missing_stimuli_are_named_or_dropped_with_their_trials():
    shown = triplets(40)
    table = odd_table(shown, shown[:, 0])
    short = features()[2:]
    with pytest.raises(NotAligned, match=r"trials: 's0\d', 's0\d' missing in features 'toy::all'.*on_missing='drop'"):
        odd_one_out(short, table)
    kept = ~np.isin(shown, [0, 1]).any(1)
    with pytest.warns(NeuroalignWarning, match=rf"{(~kept).sum()} of 40 answers dropped: 's0"):
        found = odd_one_out(short, table, on_missing="drop", n_permutations=0)
    assert found.n.item() == kept.sum()
    assert found.score.item() == odd_one_out(short, table[kept], n_permutations=0).score.item()


def test_unknown_distances_do_not_count_and_are_counted():
    x = features()
    x.values[3] = 0
    table = odd_table(triplets(60), triplets(60)[:, 0])
    with pytest.warns(NeuroalignWarning):
        found = odd_one_out(x, table, n_permutations=0)
    assert found.n.item() == 60 - (triplets(60) == 3).any(1).sum()
    assert "unanswered-trials" in found.attrs["warnings"]


@pytest.mark.parametrize("change, words", [
    (lambda t: t.rename(columns={"odd": "answer"}), "no column 'odd'.*expected a, b, c, odd"),
    (lambda t: t.assign(odd="nobody"), "in 40 of 40 rows 'odd' is none of a, b, c: rows '0', '1', '2' and 37 more"),
    (lambda t: t.assign(b=t["a"], odd=t["a"]), "a stimulus stands twice in rows"),
    (lambda t: t[:0], "the table has no rows"),
])
def test_wrong_tables_are_explained(change, words):
    with pytest.raises(ValueError, match=words):
        odd_one_out(features(), change(odd_table(triplets(40), triplets(40)[:, 0])))
    with pytest.raises(TypeError, match="trials: got list, expected a DataFrame"):
        two_afc(features(), [("a", "b")])
