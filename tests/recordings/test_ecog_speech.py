"""ECoG of sentences: the published responses, read through bins."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ttest_rel

from neuroalign.data import make_responses
from neuroalign.errors import NeuroalignWarning
from neuroalign.recordings import bin_events


@pytest.fixture
def ecog(mirror):
    found = mirror / "ecog_speech" / "ecog_hfa.npz"
    if not found.is_file():
        pytest.skip("the re-packed ECoG is not in the mirror")
    return np.load(found)


def sentences(ecog):
    """One run a sentence; its sound begins at second 0 of the run."""
    hfa = ecog["hfa"]
    values = hfa.transpose(0, 2, 1).reshape(-1, 32)
    times = np.tile(np.arange(1500) / 200 - 1.5, len(hfa))
    return make_responses(values, times, [f"e{k}" for k in range(32)], dim="time", kind="ecog", sfreq=200,
                          sample_coords={"run": np.repeat(np.arange(len(hfa)), 1500)})


def test_seven_electrodes_respond(ecog):
    recording = sentences(ecog)
    events = pd.DataFrame({"onset": 0.0, "run": np.arange(29), "stimulus_id": ecog["sentence"].astype(str)})
    with pytest.warns(NeuroalignWarning, match="32 of 32 neuroids have samples that are not finite"):
        before = bin_events(recording, events, tmin=-0.6, tmax=-0.6, window=1.2)[..., 0]
        after = bin_events(recording, events, tmin=0.4, tmax=0.4, window=0.6)[..., 0]
    t, p = ttest_rel(after, before)
    assert ((p < 1e-3) & (t > 0)).sum() == 7
    assert t.argmax() == 11 and t.max() == pytest.approx(9.56, abs=0.01)


def test_the_best_electrode_rises_after_the_onset_of_the_sound(ecog):
    """The published cut was 1.5 s too early; put back, the response follows the sound by 0.15 s."""
    events = pd.DataFrame({"onset": 0.0, "run": np.arange(29), "stimulus_id": ecog["sentence"].astype(str)})
    with pytest.warns(NeuroalignWarning, match="are not finite"):
        course = bin_events(sentences(ecog), events, tmin=-1.0, tmax=0.5, window=0.05, step=0.05)
    mean = course.sel(neuroid="e11").mean("stimulus")
    before = mean[mean.time_bin < 0]
    high = (mean > before.mean() + 4 * before.std()) & (mean.time_bin > 0)
    assert 0.1 <= float(mean.time_bin[int(np.argmax(high.values))]) <= 0.2
