"""Recordings on disk with a planted answer: runs of BOLD (the other formats: tests/recordings)."""

import numpy as np

import neuroalign as na
from neuroalign.recordings import clean, from_nilearn, paint, read_events
from neuroalign.simulate.recordings import bold_runs, treebank_folder


def test_planted_voxels_come_back_through_events_and_hrf(tmp_path):
    planted = bold_runs(tmp_path)
    bold = from_nilearn(planted.more["runs"], planted.more["mask"])
    assert bold.attrs["space"] == "MNI152NLin2009cAsym" and bold.attrs["sfreq"] == 0.5 and "x" in bold.coords
    assert bold.neuroid_id.values.tolist() == list(planted.driven)
    events = [read_events(p) for p in planted.more["events"]]
    assert [i for e in events for i in e["stimulus_id"]] == planted.features.stimulus_id.values.tolist()
    scores = na.encode(planted.features, clean(bold), hrf="glover", groups="run", cv="leave-one-group-out",
                       alphas=[1.0], baselines=())
    score = scores.score.sel(metric="r.pooled").isel(space=0)
    found = dict(zip(score.neuroid.values.tolist(), (score > 0.35).values.tolist()))
    assert found == planted.driven
    image = paint(score, bold, fill=0).get_fdata()
    assert ((image > 0.35) == planted.more["driven"]).all()


def test_the_same_seed_writes_the_same(tmp_path):
    first, again = (treebank_folder(tmp_path / d, n_words=20) for d in "ab")
    other = treebank_folder(tmp_path / "c", n_words=20, random_state=1)
    np.testing.assert_array_equal(first.features, again.features)
    file = "all_subject_data/sub_3_trial000.h5"
    assert (first.path / file).read_bytes() == (again.path / file).read_bytes()
    assert not np.array_equal(first.features, other.features)
