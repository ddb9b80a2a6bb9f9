"""RDM squares: order, ranks, gaps."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import squareform
from scipy.stats import rankdata

from neuroalign.data import make_rdms
from neuroalign.plots import rdm_panel

IDS = [f"o{k}" for k in range(6)]


@pytest.fixture
def rdms():
    values = np.random.default_rng(0).uniform(0, 2, (2, 15))
    return make_rdms(values, stimulus_ids=IDS, targets=["IT", "net block 3"])


def test_squares_hold_the_dissimilarities(rdms, pixels):
    figure = rdm_panel(rdms, rank=False)
    for axis, values in zip(figure.axes, rdms.values):
        expected = squareform(values)
        np.fill_diagonal(expected, np.nan)
        np.testing.assert_allclose(axis.images[0].get_array().filled(np.nan), expected)
    pixels(figure)


def test_ranks_run_from_0_to_100_within_each_matrix(rdms):
    drawn = rdm_panel(rdms).axes[1].images[0].get_array().filled(np.nan)
    expected = 100 * (rankdata(rdms.values[1]) - 1) / 14
    np.testing.assert_allclose(drawn[np.triu_indices(6, 1)], expected)


def test_rows_are_sorted_and_named_by_category(rdms):
    table = pd.DataFrame({"category": list("babaab")}, index=IDS)
    figure = rdm_panel(rdms, table, rank=False)
    order = [0, 2, 5, 1, 3, 4]  # categories in the order of their first appearance, stimuli in theirs
    expected = squareform(rdms.values[0])[np.ix_(order, order)]
    drawn = figure.axes[0].images[0].get_array().filled(0)
    np.testing.assert_allclose(drawn, expected)
    assert [t.get_text() for t in figure.axes[0].texts] == ["b", "a"]


def test_pairs_that_were_not_measured_stay_empty():
    rdms = make_rdms([[0.1, 0.7]], pairs=(["x", "x"], ["y", "z"]), targets=["ratings"])
    drawn = rdm_panel(rdms, rank=False).axes[0].images[0].get_array()
    assert drawn.mask[1, 2] and drawn[0, 2] == pytest.approx(0.7)


def test_bad_requests_are_explained(rdms):
    with pytest.raises(ValueError, match="targets: no 'V1' in these RDMs; found 'IT', 'net block 3'"):
        rdm_panel(rdms, targets=["V1"])
    with pytest.raises(ValueError, match=r"stimuli: no rows for 'o5'"):
        rdm_panel(rdms, pd.DataFrame({"category": list("aabbb")}, index=IDS[:5]))
    many = make_rdms(np.zeros((30, 15)), stimulus_ids=IDS)
    with pytest.raises(ValueError, match="30 RDMs, expected at most 24"):
        rdm_panel(many)
