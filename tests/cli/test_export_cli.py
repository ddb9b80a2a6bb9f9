"""``neuroalign export`` and ``report`` on what the other commands write."""

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from neuroalign.cli.main import app
from neuroalign.data import scores as scores_


@pytest.fixture
def stored(tmp_path):
    dims = ("metric", "space", "neuroid")
    scores = scores_.make({"score": (dims, np.array([[[0.25, 0.5]]]))},
                          {"metric": ["r.pooled"], "space": ["m:l:all"], "neuroid": ["a", "b"],
                           "subject": ("neuroid", ["s1", "s2"])}, {"analysis": "encode"})
    return scores_.save(scores, tmp_path / "scores.nc")


def test_a_table_is_written_and_named(stored, tmp_path):
    done = CliRunner().invoke(app, ["export", str(stored), str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    assert done.output.strip() == str(tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["score"].tolist() == [0.25, 0.5]


def test_a_derivative_names_its_subjects(stored, tmp_path):
    done = CliRunner().invoke(app, ["export", str(stored), str(tmp_path / "d"), "--to", "bids", "--kind", "fmri"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "d" / "sub-s2" / "func" / "sub-s2_desc-encoding_scores.tsv").is_file()


def test_what_is_missing_is_said(stored, tmp_path):
    done = CliRunner().invoke(app, ["export", str(stored), str(tmp_path / "d"), "--to", "bids"])
    assert done.exit_code == 1 and "kind: the neuroids do not say what was recorded" in str(done.exception)
