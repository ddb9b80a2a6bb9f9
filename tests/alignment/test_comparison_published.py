"""Published data through the public calls: RSA values computed independently, ceilings, and what they forbid."""

import json

import numpy as np
import pytest

import neuroalign as na
from neuroalign.data import scores

SUBJECT_TARGETS = ("hIT", "fmri_EVC", "fmri_IT", "behaviour")
GROUP_TARGETS = ("hIT_group", "monkeyIT", "fmri_EVC", "fmri_IT", "behaviour")
LAYERS = {"stem": "stem", "block7": "blocks.7", "block14": "blocks.14", "pool": "pool"}


@pytest.fixture
def accepted(mirror):
    return json.loads((mirror / "acceptance.json").read_text())


def check(accepted, key, value):
    assert value == pytest.approx(accepted[key]["value"], abs=accepted[key]["tol"]), key


def words_of_minilm(stimuli):
    """The last layer, averaged over all tokens, those of the tokenizer among them: what the values were made of."""
    stimuli = na.load_stimuli(stimuli)
    return na.extract("minilm", stimuli, layers=["encoder.layer.5"], streams=["all"], progress=False)


@pytest.mark.parametrize("averaging", ["rank", "raw"])
def test_model_rdms_of_objects92_per_subject(accepted, averaging):
    models, brain = na.load_rdms("objects92", part="models"), na.load_rdms("objects92")
    found = na.compare(models, brain, ceiling=averaging, n_permutations=0)
    for target in SUBJECT_TARGETS:
        at = found.sel(metric="rsa.spearman", target=target)
        for bound, name in (("lower", "ceiling_lower"), ("upper", "ceiling")):
            check(accepted, f"obj92.ceiling_{bound}.{averaging}.{target}", at[name].values[0])
        for model in ("animacy", "Silhouette"):
            check(accepted, f"obj92.rsa.per_subject.{model}~{target}", at.score.sel(space=model).item())


def test_a_group_score_gets_no_ceiling_of_single_subjects(accepted):
    """Silhouette against EVC: per subject below the upper bound; with the mean RDM above it, and without ceiling."""
    found = na.compare(na.load_rdms("objects92", part="models"), na.load_rdms("objects92"),
                       metric=["rsa.spearman", "rsa.spearman.group"], n_permutations=0)
    own, group = (found.sel(metric=m, space="Silhouette", target="fmri_EVC")
                  for m in ("rsa.spearman", "rsa.spearman.group"))
    check(accepted, "obj92.silhouette~fmri_EVC", group.score.item())
    assert own.score.item() < own.ceiling.item() < group.score.item()
    assert np.isnan(group.ceiling.item()) and np.isnan(group.ceiling_lower.item())
    animacy = found.sel(metric="rsa.spearman.group", space="animacy", target="hIT_group")
    check(accepted, "obj92.animacy~hIT_group", animacy.score.item())


@pytest.fixture
def object_features(mirror):
    images = na.load_stimuli("objects92")
    vision = na.extract("efficientnet-lite0", images, layers=list(LAYERS.values()), pooling="flatten", progress=False)
    table = images.table.assign(text=["a photo of a " + n for n in images.table["name"]])
    names = na.StimulusSet(table[["text"]], name="names")
    return vision, words_of_minilm(names)


def test_pretrained_models_against_objects92(object_features, accepted):
    vision, text = object_features
    brain = na.load_rdms("objects92")
    names = ["rsa.spearman", "rsa.spearman.group"]
    found = na.compare(vision, brain, metric=names, n_permutations=199)
    for short, layer in LAYERS.items():
        space = f"efficientnet-lite0:{layer}:image"
        for target in SUBJECT_TARGETS:
            check(accepted, f"obj92.rsa.per_subject.effnet.{short}~{target}",
                  found.score.sel(metric="rsa.spearman", space=space, target=target).item())
        for target in GROUP_TARGETS:
            check(accepted, f"obj92.rsa.group.effnet.{short}~{target}",
                  found.score.sel(metric="rsa.spearman.group", space=space, target=target).item())
    best = found.sel(metric="rsa.spearman.group", space="efficientnet-lite0:blocks.14:image", target="hIT_group")
    assert best.p.item() < 0.05 and best.null_sd.item() < 0.04

    worded = na.compare(text, brain, metric="rsa.spearman.group", n_permutations=0)
    for target in GROUP_TARGETS:
        check(accepted, f"obj92.rsa.group.minilm.a_photo_of~{target}", worded.score.sel(target=target).item())

    both = {"vision": vision["efficientnet-lite0:blocks.14:image"], "text": next(iter(text.values()))}
    for model, control in (("vision", "text"), ("text", "vision")):
        left = na.compare({model: both[model]}, brain, metric="rsa.spearman.partial.group", control=both[control],
                          n_permutations=0)
        for target in ("hIT_group", "behaviour"):
            check(accepted, f"obj92.partial.{model}|{control}~{target}", left.score.sel(target=target).item())


@pytest.mark.parametrize("name", ["wordsim353", "simlex999"])
def test_word_similarity(mirror, accepted, name):
    features = words_of_minilm(name)
    found = na.compare(features, na.load_rdms(name), rdm="cosine", n_permutations=99)
    check(accepted, f"sim.{name}.minilm", found.score.item())
    assert found.p.item() == 0.01


def test_document_similarity(mirror, accepted):
    features = words_of_minilm("lee50")
    found = na.compare(features, na.load_rdms("lee50"), rdm="cosine", metric=["rsa.pearson", "rsa.spearman"],
                       n_permutations=99)
    check(accepted, "sim.lee50.minilm.pearson", found.score.sel(metric="rsa.pearson").item())
    check(accepted, "sim.lee50.minilm.spearman", found.score.sel(metric="rsa.spearman").item())
    assert scores.attrs_of(found)["n_pairs"] == 1225
