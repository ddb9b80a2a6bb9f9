"""Layers are chosen on other subjects than they are scored on."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from neuroalign.alignment import compare_selected, rdms
from neuroalign.data import make_features, make_rdms, scores
from neuroalign.errors import NeuroalignWarning
from neuroalign.stats.rdm_ceilings import rdm_ceiling

N = 14
IDS = [f"s{i:02d}" for i in range(N)]


def layers(n=3, model="m", seed=0):
    return [make_features(np.random.default_rng((seed, k)).standard_normal((N, 12)), IDS, model=model, layer=f"l{k}")
            for k in range(n)]


def target(values, subjects=None, region="IT"):
    names = [f"sub{k}" for k in range(len(values))] if subjects is None else subjects
    return make_rdms(values, stimulus_ids=IDS, targets=[f"{region}{n}" for n in names],
                     target_coords={"region": [region] * len(values), "subject": names})


def noisy(rdm, n=6, noise=0.5, seed=0):
    return rdm + noise * np.random.default_rng(seed).random((n, rdm.size))


def test_the_planted_layer_is_chosen_and_scored_as_it_would_be_alone():
    spaces = layers()
    brain = target(noisy(rdms(spaces[1]).values[0]))
    found = compare_selected(spaces, brain, n_permutations=99, n_bootstraps=20, device="cpu")
    assert found.space.values.tolist() == ["m"] and found.score.dims == ("metric", "space", "target")
    model = rdms(spaces[1]).values[0]
    assert found.score.item() == pytest.approx(np.mean([spearmanr(model, r)[0] for r in brain.values]), abs=1e-5)
    assert scores.attrs_of(found)["selected"] == {"m": {"IT": {"m:l1:all": 1.0}}}
    assert found.p.item() == 0.01 and found.ci_low.item() < found.score.item() < found.ci_high.item()
    assert (found.ceiling_lower.item(), found.ceiling.item()) == pytest.approx(rdm_ceiling(brain.values), abs=1e-6)


def test_scores_equal_a_loop_over_splits():
    spaces, brain = layers(4), target(np.random.default_rng(1).random((5, 91)))
    found = compare_selected(spaces, brain, n_splits=3, n_permutations=0, device="cpu").score.item()
    from neuroalign.stats import child_rng

    r = np.array([[spearmanr(m, row)[0] for row in brain.values] for m in rdms(spaces).values])
    rng = child_rng(0, "halves of sub0 sub1 sub2 sub3 sub4")
    values = []
    for _ in range(3):
        order = rng.permutation(5)
        halves = order[:2], order[2:]
        values += [r[r[:, a].mean(1).argmax(), b].sum() / 5 for a, b in (halves, halves[::-1])]
    assert found == pytest.approx(np.sum(values) / 3, abs=1e-5)


def test_choosing_among_many_bad_layers_is_not_rewarded():
    """The best of 40 unrelated layers looks good on the subjects it was chosen on, and is not on the others."""
    chosen, naive = [], []
    for seed in range(6):
        spaces = layers(40, seed=seed)
        brain = target(np.random.default_rng(seed).random((8, 91)))
        found = compare_selected(spaces, brain, ceiling=None, n_permutations=0, device="cpu")
        chosen.append(found.score.item())
        naive.append(max(np.mean([spearmanr(m, r)[0] for r in brain.values]) for m in rdms(spaces).values))
    assert np.mean(naive) > 0.06 and abs(np.mean(chosen)) < 0.03


def test_the_null_chooses_again_in_every_permutation():
    """With subjects that share their noise, choosing helps; the null must know it."""
    p = []
    for seed in range(20):
        shared = np.random.default_rng(seed).random(91)
        brain = target(noisy(shared, 4, 0.1, seed))
        p.append(compare_selected(layers(10, seed=seed), brain, n_permutations=39, n_splits=2, device="cpu").p.item())
    assert np.mean(np.array(p) <= 0.05) <= 0.2 and 0.3 < np.mean(p) < 0.7


def test_models_compete_and_are_compared_by_a_paired_interval():
    good, bad = layers(3, "good"), layers(3, "bad", seed=9)
    brain = target(noisy(rdms(good[2]).values[0]))
    found = compare_selected([good, bad], brain, n_permutations=0, n_bootstraps=60, keep=["bootstrap"], device="cpu")
    assert found.space.values.tolist() == ["good", "bad"]
    assert scores.diff(found, "good", "bad").ci_low.item() > 0


def test_a_single_subject_cannot_be_split():
    spaces = layers()
    with pytest.warns(NeuroalignWarning, match=r"'IT' have fewer than two subjects") as caught:
        found = compare_selected(spaces, target(rdms(spaces[:1]).values), n_permutations=9, device="cpu")
    assert caught[0].message.code == "no-subject-split"
    assert found.score.isnull().all() and found.p.isnull().all()


@pytest.mark.parametrize("change, words", [
    ({"metric": "rsa.spearman.group"}, "expected a per-subject metric"),
    ({"n_splits": 0}, "n_splits: got 0"),
    ({"metric": "cka.debiased"}, r"'cka.debiased' belongs to `compare`; expected one of rsa"),
])
def test_wrong_arguments_are_explained(change, words):
    with pytest.raises(ValueError, match=words):
        compare_selected(layers(), target(np.random.default_rng(0).random((3, 91))), **change)
