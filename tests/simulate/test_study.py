"""The planted study: what each kind of site follows, found by least squares on many samples."""

import numpy as np
import pytest

from neuroalign.simulate import study
from neuroalign.simulate.study import KINDS


def explained(spaces, y):
    """Adjusted R² of least squares."""
    design = np.column_stack([np.ones(len(y)), *(x.values for x in spaces)])
    residual = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return 1 - (residual**2).sum(0) / (len(y) - design.shape[1]) / y.var(0, ddof=1)


@pytest.fixture(scope="module")
def planted():
    return study(6000, sites=dict.fromkeys(KINDS, 20), snr=3.0, width=60, view_noise=0.05)


def test_models_explain_what_their_sites_follow_and_no_more(planted):
    s, y = planted.spaces, planted.responses
    kind, both = y.kind.values, [s_ for k, s_ in planted.spaces.items() if k != "multimodal"]
    by = {k: explained(x, y.values) for k, x in (("v", [s["vision"]]), ("l", [s["language"]]), ("vl", both),
                                                 ("vlm", [*both, s["multimodal"]]), ("confounds", planted.nuisance))}
    means = {k: {n: r[kind == k].mean() for n, r in by.items()} for k in KINDS}
    for found in (means["vision"]["v"], means["language"]["l"], means["additive"]["vl"]):
        assert found == pytest.approx(0.75, abs=0.03)  # snr / (1 + snr)
    assert max(means["vision"]["l"], means["language"]["v"], *(abs(x) for x in means["noise"].values())) < 0.03
    assert means["word_rate"]["confounds"] == pytest.approx(0.75, abs=0.02) == means["loudness"]["confounds"]
    # Half of the signal of integration is no sum, and only the multimodal model sees it; elsewhere it adds nothing.
    assert means["integration"]["vl"] == pytest.approx(0.375, abs=0.03)
    assert means["integration"]["vlm"] == pytest.approx(0.75, abs=0.04)
    for k in ("vision", "language", "additive", "noise"):
        assert means[k]["vlm"] - means[k]["vl"] < 0.01
    assert means["loudness"]["vlm"] - means["loudness"]["vl"] > 0.5  # unless loudness is a nuisance variable


def test_the_truth_stands_beside_the_sites(planted):
    y = planted.responses
    assert y.attrs["snr"] == 3.0 and y.attrs["ar"] == 0.5 and y.attrs["generator"] == "hidden::all"
    np.testing.assert_allclose(y.explainable, np.where(y.kind == "noise", 0, 0.75))
    np.testing.assert_allclose(y.nonadditive, np.where(y.kind == "integration", 0.375, 0))
    assert [x.name for x in planted.nuisance] == ["word_rate", "loudness"]


def test_a_model_that_looks_for_itself_sees_through_other_noise():
    kinds = {"additive": 20}
    gains = {}
    for shared in (True, False):
        s = study(6000, sites=kinds, snr=3.0, width=60, view_noise=1.0, shared_view=shared)
        both = [s.spaces["vision"], s.spaces["language"]]
        gains[shared] = (explained([*both, s.spaces["multimodal"]], s.responses.values)
                         - explained(both, s.responses.values)).mean()
    assert gains[True] < 0.01 and gains[False] > 0.02


def test_the_seed_decides_and_kinds_are_checked():
    one, same, other = (study(50, sites={"vision": 2}, random_state=k) for k in (0, 0, 1))
    assert np.array_equal(one.responses, same.responses) and not np.array_equal(one.responses, other.responses)
    assert np.array_equal(one.spaces["multimodal"], same.spaces["multimodal"])
    with pytest.raises(ValueError, match="sites: got 'fusion', expected one of 'integration', 'vision'"):
        study(50, sites={"fusion": 2})
