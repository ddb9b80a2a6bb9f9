"""A user's own tables of responses and dissimilarities."""

import numpy as np
import pytest

from neuroalign.recordings import load_rdms, load_responses


def write(path, text):
    path.write_text(text)
    return path


def test_responses_to_stimuli(tmp_path):
    found = load_responses(write(tmp_path / "r.csv", "stimulus_id,v1,v2\n007,1,2\nnull,3,\n"))
    assert found.dims == ("stimulus", "neuroid")
    assert found.stimulus_id.values.tolist() == ["007", "null"]
    np.testing.assert_array_equal(found, [[1, 2], [3, np.nan]])


def test_repeated_stimuli_make_presentations(tmp_path):
    found = load_responses(write(tmp_path / "r.tsv", "stimulus_id\trun\tv1\na\t0\t1\nb\t0\t2\na\t1\t3\n"))
    assert found.dims == ("presentation", "neuroid")
    assert found.run.values.tolist() == [0, 0, 1]
    assert found.neuroid_id.values.tolist() == ["v1"]


def test_time_series(tmp_path):
    found = load_responses(write(tmp_path / "r.csv", "time,v1\n0,1\n1.5,2\n"))
    assert found.dims == ("time", "neuroid")
    assert found.time.values.tolist() == [0, 1.5]


@pytest.mark.parametrize("text, words", [
    ("id,v1\na,1\n", "expected 'stimulus_id' or 'time'"),
    ("stimulus_id,run\na,1\n", "no column of responses"),
    ("stimulus_id,v1,note\na,1,fine\n", "columns 'note' are not numbers"),
])
def test_bad_response_tables(tmp_path, text, words):
    with pytest.raises(ValueError, match=rf"r\.csv: .*{words}"):
        load_responses(write(tmp_path / "r.csv", text))


def test_missing_files():
    for load in (load_responses, load_rdms):
        with pytest.raises(FileNotFoundError, match=r"no file 'gone\.csv'"):
            load("gone.csv")


def test_pairs_with_a_column_a_target(tmp_path):
    found = load_rdms(write(tmp_path / "d.csv", "stimulus_a,stimulus_b,IT,V1\nx,y,1,4\nx,z,2,nan\n"))
    assert found.target.values.tolist() == ["IT", "V1"]
    np.testing.assert_array_equal(found, [[1, 2], [4, np.nan]])
    assert found.stimulus_b.values.tolist() == ["y", "z"]


def test_one_row_a_pair_and_owner(tmp_path):
    rows = ["region,subject,stimulus_a,stimulus_b,dissimilarity", "IT,s1,x,y,1", "IT,s2,x,y,2", "V1,s1,x,y,3",
            "V1,s1,x,z,4"]
    found = load_rdms(write(tmp_path / "d.csv", "\n".join(rows)))
    assert found.target.values.tolist() == ["IT:s1", "IT:s2", "V1:s1"]
    assert found.region.values.tolist() == ["IT", "IT", "V1"]
    assert found.subject.values.tolist() == ["s1", "s2", "s1"]
    np.testing.assert_array_equal(found, [[1, np.nan], [2, np.nan], [3, 4]])
    with pytest.raises(ValueError, match="1 rows repeat a pair of the same owner"):
        load_rdms(write(tmp_path / "d.csv", "\n".join([*rows, rows[-1]])))


def test_a_square_matrix_with_ids(tmp_path):
    found = load_rdms(write(tmp_path / "IT.csv", ",x,y,z\nx,0,1,2\ny,1,0,3\nz,2,3,0\n"))
    assert found.target.values.tolist() == ["IT"]
    np.testing.assert_array_equal(found, [[1, 2, 3]])
    assert found.stimulus_a.values.tolist() == ["x", "x", "y"]
    with pytest.raises(ValueError, match="header repeats the ids"):
        load_rdms(write(tmp_path / "IT.csv", ",x,z,y\nx,0,1,2\ny,1,0,3\nz,2,3,0\n"))
    with pytest.raises(ValueError, match=r"IT\.csv: not symmetric"):
        load_rdms(write(tmp_path / "IT.csv", ",x,y\nx,0,1\ny,2,0\n"))


def test_options_belong_to_data_sets(tmp_path):
    path = write(tmp_path / "r.csv", "stimulus_id,v1\na,1\n")
    with pytest.raises(ValueError, match=r"r\.csv: got the options 'radius'"):
        load_responses(path, radius="6mm")
    with pytest.raises(ValueError, match="got the options 'part'"):
        load_rdms(path, part="models")
