"""A user's own tables of responses and dissimilarities."""

import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

import neuroalign as na
from neuroalign.recordings import load_rdms, load_responses, read_ratings_table, read_triplets


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
    assert found.run.values.tolist() == [0, 0, 1] and found.run.dtype.kind == "i"
    named = load_responses(write(tmp_path / "n.csv", "time,run,v1\n0,film1,1\n2,film1,2\n0,film2,3\n"))
    assert named.run.values.tolist() == ["film1", "film1", "film2"]
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


def test_columns_that_stand_twice_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"r\.csv: columns 'v1' stand there more than once"):
        load_responses(write(tmp_path / "r.csv", "stimulus_id,v1,v1\na,1,2\n"))


def test_responses_of_saved_arrays(tmp_path):
    values = np.arange(6.0).reshape(3, 2)
    np.save(tmp_path / "r.npy", values)
    savemat(tmp_path / "r.mat", {"betas": values, "other": 1})
    found = load_responses(tmp_path / "r.npy", stimulus_ids=["a", "b", "a"])
    assert found.dims == ("presentation", "neuroid") and found.neuroid_id.values.tolist() == ["v0", "v1"]
    found = load_responses(tmp_path / "r.mat", variable="betas", tr=1.5, neuroid_ids=["V1", "V2"], kind="meg")
    assert found.time.values.tolist() == [0, 1.5, 3] and found.attrs["kind"] == "meg"
    np.testing.assert_array_equal(found, values)
    with pytest.raises(ValueError, match=r"r\.npy: an array does not say what its rows are"):
        load_responses(tmp_path / "r.npy")
    with pytest.raises(ValueError, match=r"variable None not found, it has 'betas', 'other'"):
        load_responses(tmp_path / "r.mat", tr=1.0)


def test_rdms_of_saved_arrays(tmp_path):
    squares = np.array([[[0, 1, 2], [1, 0, 3], [2, 3, 0]], [[0, 4, 5], [4, 0, 6], [5, 6, 0.0]]])
    np.save(tmp_path / "two.npy", squares)
    found = load_rdms(tmp_path / "two.npy", stimulus_ids=["x", "y", "z"], targets=["IT", "V1"])
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 5, 6]])
    assert found.stimulus_b.values.tolist() == ["y", "z", "z"]
    np.save(tmp_path / "row.npy", [1.0, 2, 3])
    found = load_rdms(tmp_path / "row.npy")
    assert found.target.values.tolist() == ["row"] and found.stimulus_a.values.tolist()[0] == "stimulus_00"
    savemat(tmp_path / "m.mat", {"rdm": squares[0]})
    np.testing.assert_array_equal(load_rdms(tmp_path / "m.mat"), [[1, 2, 3]])
    np.save(tmp_path / "odd.npy", np.zeros(4))
    with pytest.raises(ValueError, match="expected square matrices or upper triangles"):
        load_rdms(tmp_path / "odd.npy")
    np.save(tmp_path / "skew.npy", np.triu(np.ones((3, 3)), 1))
    with pytest.raises(ValueError, match=r"skew\.npy: not symmetric"):
        load_rdms(tmp_path / "skew.npy")


def test_triplets_of_tables_and_arrays_score(tmp_path):
    features = na.data.make_features([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]], list("xyz"), model="toy")
    table = read_triplets(write(tmp_path / "t.csv", "a,b,c,odd\nx,y,z,z\nx,y,z,x\n"))
    np.save(tmp_path / "t.npy", [[0, 1, 2], [1, 2, 0]])
    numbered = read_triplets(tmp_path / "t.npy", stimulus_ids=list("xyz"))
    plain = read_triplets(write(tmp_path / "t.txt", "0 1 2\n1 2 0\n"), stimulus_ids=list("xyz"))
    for trials in (table, numbered, plain):
        assert na.alignment.odd_one_out(features, trials, n_permutations=0).score.item() == 0.5
    with pytest.raises(ValueError, match="numbers up to 2, but 2 stimulus ids"):
        read_triplets(tmp_path / "t.npy", stimulus_ids=["x", "y"])
    with pytest.raises(ValueError, match=r"t\.csv: no columns 'odd'"):
        read_triplets(write(tmp_path / "t.csv", "a,b,c\nx,y,z\n"))
    np.save(tmp_path / "f.npy", [[0.5, 1, 2]])
    with pytest.raises(ValueError, match="expected three columns of whole numbers"):
        read_triplets(tmp_path / "f.npy")


def test_ratings_keep_their_ids_and_gaps(tmp_path):
    found = read_ratings_table(write(tmp_path / "r.csv", "stimulus_a,stimulus_b,rating,subject\n007,null,80,p1\n"
                                                         "007,x,,p1\n"))
    assert found["stimulus_a"].tolist() == ["007", "007"] and found["stimulus_b"].tolist() == ["null", "x"]
    assert found["rating"].tolist()[0] == 80 and pd.isna(found["rating"][1])
    with pytest.raises(ValueError, match="no columns 'rating'"):
        read_ratings_table(write(tmp_path / "r.csv", "stimulus_a,stimulus_b\nx,y\n"))
