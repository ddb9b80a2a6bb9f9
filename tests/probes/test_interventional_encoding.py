"""The closed loop: planted sites that are driven by what flows along an edge lose prediction, and no others."""

import json
import warnings

import numpy as np
import pandas as pd
import pytest
import routes
import xarray as xr
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import neuroalign as na
from neuroalign.data import StimulusSet, make_features, scores
from neuroalign.errors import NeuroalignWarning
from neuroalign.probes.edge_controls import match_pairs, matched_edges
from neuroalign.probes.edges import Edge
from neuroalign.probes.interventional_encoding import interventional_encoding
from neuroalign.probes.knockout import knockout

EDGE, LAST = "shown->question", "model.layers.3:last"


def many_texts(n, seed=0):
    """Texts of the courier, and which colour and last word each has."""
    rng = np.random.default_rng(seed)
    picked = [[words[i] for i in rng.integers(len(words), size=n)] for words in (
        routes.COLOURS, routes.FILLERS, routes.FILLERS, routes.ENDS)]
    table = pd.DataFrame({"stimulus_id": [f"s{i}" for i in range(n)], "text": [routes.text(*w) for w in zip(*picked)],
                          "shown": picked[0], "question": "what"}).set_index("stimulus_id")
    table["between"] = [(len(c) + 1, len(c) + 1 + len(b)) for c, b in zip(*picked[:2])]
    return StimulusSet(table, "many"), picked[0], picked[3]


def driven_by(words, ids, names, seed):
    """Sites whose responses are random weights of which word there is, and noise of half the variance."""
    kinds = sorted(set(words))
    one_hot = np.eye(len(kinds))[[kinds.index(w) for w in words]]
    return na.simulate.brain(make_features(one_hot, ids, model="cause"), sites=names, snr=2.0, random_state=seed)


@pytest.fixture(scope="module")
def loop(courier, tmp_path_factory):
    """One call on 400 texts: fused sites need the colour at the last word, own sites the last word itself."""
    stimuli, colours, ends = many_texts(400)
    responses = xr.concat([driven_by(colours, stimuli.ids, [f"fused{i}" for i in range(10)], 1),
                           driven_by(ends, stimuli.ids, [f"own{i}" for i in range(10)], 2)], dim="neuroid")
    with warnings.catch_warnings():  # they are kept in the Scores, and looked at below
        warnings.simplefilter("ignore", NeuroalignWarning)
        return interventional_encoding(
            courier[0], stimuli, responses, EDGE, windows=[(1, 2)], streams=["last", "shown"],
            irrelevant="between->last", n_controls=3, n_bootstraps=1000, alphas=np.logspace(-3, 4, 10),
            store=tmp_path_factory.mktemp("store"))


def test_fused_sites_lose_and_unimodal_ones_stay_with_the_control(loop):
    scores.validate(loop)
    cut = loop.sel(space=(loop.edge == EDGE) & (loop.stream == "last")).isel(space=0)
    fused, own = slice(0, 10), slice(10, 20)
    effect = cut.sel(metric="r.pooled.effect")
    lost = (effect.q.values < 0.05) & (effect.score.values < 0)
    assert lost[fused].mean() >= 0.8 and effect.score.values[fused].mean() < -0.05
    # one by one they scatter: the encoders have fewer useless columns after a cut, and more or less damage
    assert abs(effect.score.values[own].mean()) < 0.01 and lost[own].mean() <= 0.2
    assert effect.score.values[fused].max() < effect.score.values[own].min()
    other = cut.sel(metric="r.pooled.effect.irrelevant")
    assert (other.q.values[fused] < 0.05).mean() >= 0.8
    # the stream of the shown word alone: nothing flows into it along the edge
    alone = loop.sel(space=(loop.edge == EDGE) & (loop.stream == "shown")).isel(space=0)
    assert (alone.score.sel(metric="r.pooled.change") == 0).all()
    assert abs(alone.score.sel(metric="r.pooled.effect").values[fused].mean()) < 0.01
    assert (alone.p.sel(metric="r.pooled.change") == 1).all()


def test_differences_add_up_and_irrelevant_edges_have_no_control(loop):
    of = {m: loop.score.sel(metric=f"r.pooled.{m}") for m in ("change", "control", "effect", "effect.irrelevant")}
    np.testing.assert_allclose(of["effect"], of["change"] - of["control"], atol=1e-6)
    rows = {role: loop.role.values == role for role in ("edge", "irrelevant")}
    difference = of["change"].values[rows["edge"]] - of["change"].values[rows["irrelevant"]]
    np.testing.assert_allclose(of["effect.irrelevant"].values[rows["edge"]], difference, atol=1e-6)
    assert np.isnan(of["effect"].values[rows["irrelevant"]]).all()
    inside = (loop.ci_low <= loop.score + 1e-6) & (loop.score <= loop.ci_high + 1e-6)
    assert inside.where(loop.score.notnull(), True).mean() > 0.98
    about = scores.attrs_of(loop)
    assert 0.5 < about["attention_mass_of_controls"][f"{EDGE} block 1"][0] < 1
    assert "unmatched-attention" in {w["code"] for w in about["warnings"]} and not about["untrained"]


def test_a_frozen_encoder_predicts_from_the_cut_model(courier, tmp_path):
    stimuli, colours, _ = many_texts(60)
    responses = driven_by(colours, stimuli.ids, ["a", "b"], 1)
    folds = na.stats.make_folds("kfold", 60, n_splits=3)
    found = interventional_encoding(courier[0], stimuli, responses, EDGE, windows=[(1, 2)], streams=["last"], cv=folds,
                                    n_controls=0, encoder="both", n_bootstraps=0, alphas=[3.0], store=tmp_path)
    score = found.score.isel(space=0)
    np.testing.assert_allclose(score.sel(metric="r.pooled.frozen.intact"), score.sel(metric="r.pooled.intact"),
                               atol=1e-5)
    options = {"layers": "model.layers.3", "streams": ["last"], "store": tmp_path, "progress": False}
    whole, cut = (next(iter(na.extract(m, stimuli, **options).values())).values for m in (
        courier[0], knockout(courier[0], stimuli, EDGE, layers=(1, 2))))
    predicted = np.zeros((60, 2))
    for train, test in folds:
        ridge = make_pipeline(StandardScaler(), Ridge(3.0)).fit(whole[train], responses.values[train])
        predicted[test] = ridge.predict(cut[test])
    expected = [np.corrcoef(predicted[:, i], responses.values[:, i])[0, 1] for i in range(2)]
    got = score.sel(metric="r.pooled.frozen.change") + score.sel(metric="r.pooled.frozen.intact")
    np.testing.assert_allclose(got, expected, atol=1e-4)
    assert np.isnan(found.p).all() and np.isnan(score.sel(metric="r.pooled.effect")).all()


def test_random_reads_match_in_number_and_mass():
    rng = np.random.default_rng(0)
    mass = rng.exponential(size=(40, 40))
    edge = np.zeros((40, 40), bool)
    edge[20:30, 0:10] = True
    free = np.tril(np.ones((40, 40), bool), -1) & ~edge
    drawn = [match_pairs(mass, edge, free, np.random.default_rng(seed)) for seed in range(2)]
    for pairs in drawn:
        assert len({tuple(p) for p in pairs}) == len(pairs) == edge.sum()
        assert free[tuple(pairs.T)].all()
        assert mass[tuple(pairs.T)].sum() == pytest.approx(mass[edge].sum(), rel=0.05)
    assert {tuple(p) for p in drawn[0]} != {tuple(p) for p in drawn[1]}
    assert len(match_pairs(mass, free, edge, rng)) == edge.sum()  # fewer are there


def test_random_reads_are_off_the_edge_and_allowed(courier):
    model, stimuli = courier
    with pytest.warns(NeuroalignWarning, match="carry as much attention"):
        (matched,) = matched_edges(model, stimuli, Edge("shown", "question"), layers=(1, 2), n=1)
    inputs = matched.blocks.prepare(matched.blocks.reader.rows())
    ((site, masks),) = matched.blocks.masks(inputs).items()
    mask = masks["random reads"]
    assert site.path == "model.layers.1.self_attn" and (mask.sum((1, 2)) == 1).all()
    reader, read = mask.nonzero()[:, 1], mask.nonzero()[:, 2]
    assert (reader > read).all() and not ((reader == 3) & (read == 1)).any()


def test_what_cannot_be_compared_is_said(courier, tmp_path):
    stimuli, colours, _ = many_texts(20)
    responses = driven_by(colours, stimuli.ids, ["a"], 1)
    with pytest.raises(ValueError, match="'frozen' takes of the options of encode only.*got nuisance"):
        interventional_encoding(courier[0], stimuli, responses, EDGE, encoder="frozen", nuisance="x", store=tmp_path)
    with pytest.raises(ValueError, match="metric: got 'r'"):
        interventional_encoding(courier[0], stimuli, responses, EDGE, metric="r", store=tmp_path)
    with pytest.raises(ValueError, match="expected blocks from 0 to 3"):
        interventional_encoding(courier[0], stimuli, responses, EDGE, windows=[(2, 9)], store=tmp_path)


def test_scores_are_kept(loop, tmp_path):
    path = scores.save(loop, tmp_path / "loop.nc")
    again = scores.load(path)
    assert json.loads(again.attrs["irrelevant"]) == "between->last"
    xr.testing.assert_allclose(again.score, loop.score)
