"""Encoding of the Alice recordings against independently computed values."""

import json

import numpy as np
import pytest

import neuroalign as na
from neuroalign.features.confounds import word_rate
from neuroalign.recordings import group_mean, group_reliability, load_confounds

REGIONS = ["LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG"]


@pytest.fixture
def alice(mirror):
    expected = json.loads((mirror / "acceptance.json").read_text())
    responses = na.load_responses("alice_fmri")
    cleaned = na.clean(responses, confounds=load_confounds("alice_fmri"), high_pass=1 / 128)
    return expected, group_mean(cleaned), group_reliability(cleaned)


def check(expected, prefix, values):
    for region, value in zip(REGIONS, values):
        entry = expected[f"{prefix}.{region}"]
        assert value == pytest.approx(entry["value"], abs=entry["tol"]), f"{prefix}.{region}"


def test_word_rate_and_sound_power_reach_the_reference_scores(alice):
    expected, responses, reliability = alice
    assert responses.neuroid_id.values.tolist() == REGIONS
    words = word_rate(na.load_stimuli("alice_fmri"))
    options = {"hrf": "spm", "at": "offset", "nuisance": "sound_power", "n_splits": 6, "ceiling": reliability,
               "metric": ["r.pooled", "r.foldmean"]}
    scores = na.encode(words, responses, **options)
    check(expected, "alice.ceiling.group_mean", scores.ceiling.sel(metric="r.pooled").values[0])
    assert np.isnan(scores.ceiling.sel(metric="r.foldmean").values).all()
    for metric in ("pooled", "foldmean"):
        check(expected, f"alice.enc.inner5gap8.{metric}.rate+snd", scores.score.sel(metric=f"r.{metric}").values[0])
    scores = na.encode(words, responses, inner_cv="loo", **options)
    check(expected, "alice.enc.loo.pooled.rate+snd", scores.score.sel(metric="r.pooled").values[0])


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_surprisal_adds_in_temporal_and_frontal_regions(alice):
    expected, responses, reliability = alice
    stimuli = na.load_stimuli("alice_fmri")
    surprisal = na.extract("smollm2-135m", stimuli, streams=["word"], outputs=["surprisal"],
                           progress=False)
    options = {"hrf": "spm", "at": "offset", "nuisance": ["word_rate", "sound_power"], "n_splits": 6,
               "ceiling": reliability, "metric": ["r.pooled", "r.foldmean"]}
    scores = na.encode(surprisal, responses, **options)
    for metric in ("pooled", "foldmean"):
        found = scores.score.sel(metric=f"r.{metric}").values[0]
        check(expected, f"alice.enc.inner5gap8.{metric}.rate+snd+surprisal", found)
        check(expected, f"alice.enc.inner5gap8.{metric}.rate+snd", scores.baseline.sel(metric=f"r.{metric}").values)
    # The null shifts the series of surprisal by at least a tenth of the words; rate and sound power stay.
    scores = na.encode(surprisal, responses, inner_cv="loo", n_permutations=999, **options)
    check(expected, "alice.enc.loo.pooled.rate+snd+surprisal", scores.score.sel(metric="r.pooled").values[0])
    p = dict(zip(REGIONS, scores.p.sel(metric="r.pooled").values[0]))
    assert all(p[region] < 0.05 for region in ("LATL", "RATL", "LPTL", "LIFG")), p
    assert p["LIPL"] > 0.05 and p["LPreM"] > 0.05, p
