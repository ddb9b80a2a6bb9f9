"""Arrays out of .mat, .npz, .npy and text; files of a manifest by pattern."""

import numpy as np
import pytest
from scipy.io import savemat

from neuroalign.data import load_manifest
from neuroalign.recordings.files import match_files, read_array, read_numbers, read_structs


def test_arrays_of_every_format(tmp_path):
    values = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", first=values, second=values + 1)
    savemat(tmp_path / "a.mat", {"first": values})
    np.testing.assert_array_equal(read_array(tmp_path / "a.npy"), values)
    np.testing.assert_array_equal(read_array(tmp_path / "a.npz", "second"), values + 1)
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat"), values)
    with pytest.raises(ValueError, match=r"a\.npz: variable 'secnd' not found, it has 'first', 'second'.*'second'"):
        read_array(tmp_path / "a.npz", "secnd")
    with pytest.raises(ValueError, match="variable None not found"):
        read_array(tmp_path / "a.npz")
    with pytest.raises(ValueError, match=r"expected \.npy, \.npz, \.mat or \.h5"):
        read_array(tmp_path / "a.pkl")


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array([{"a": 1}], dtype=object))
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object))
    for name in ("a.npz", "a.npy"):
        with pytest.raises(ValueError, match="allow_pickle=False"):
            read_array(tmp_path / name, "x")


def test_mat_7_3_has_its_axes_in_matlab_order(tmp_path):
    import h5py

    values = np.arange(6.0).reshape(2, 3)
    with h5py.File(tmp_path / "a.mat", "w", userblock_size=512) as file:
        file["x"] = values.T  # MATLAB writes the axes the other way round
        file["s/field"] = 1.0
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\x00\x02IM"
    with open(tmp_path / "a.mat", "r+b") as file:
        file.write(header)
    np.testing.assert_array_equal(read_array(tmp_path / "a.mat", "x"), values)
    with pytest.raises(ValueError, match="'s' is a struct, cell or text.*save"):
        read_array(tmp_path / "a.mat", "s")
    (tmp_path / "cut.mat").write_bytes(header + b"\0" * 512)
    with pytest.raises(ValueError, match=r"cut\.mat: truncated, or no MATLAB file"):
        read_array(tmp_path / "cut.mat")


def test_hdf5_by_the_path_inside(tmp_path):
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["ses-1/run-1"] = np.eye(2)
    np.testing.assert_array_equal(read_array(tmp_path / "a.h5"), np.eye(2))
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["ses-1/run-2"] = np.zeros(3)
    assert read_array(tmp_path / "a.h5", "ses-1/run-2").shape == (3,)
    with pytest.raises(ValueError, match="variable None not found, it has 'ses-1/run-1', 'ses-1/run-2'"):
        read_array(tmp_path / "a.h5")
    (tmp_path / "cut.h5").write_bytes((tmp_path / "a.h5").read_bytes()[:600])
    with pytest.raises(ValueError, match=r"cut\.h5: truncated, or no HDF5 file"):
        read_array(tmp_path / "cut.h5")


def test_struct_arrays_in_matlab_order(tmp_path):
    people = np.empty((2, 2), dtype=[("name", object), ("age", object), ("x", object)])
    for k, (i, j) in enumerate([(0, 0), (1, 0), (0, 1), (1, 1)]):  # down the columns first
        people[i, j] = (f"p{k}", k, np.eye(2) * k)
    savemat(tmp_path / "a.mat", {"people": people, "plain": np.eye(2)})
    found = read_structs(tmp_path / "a.mat", "people", ["name", "age", "x"])
    assert [(p["name"], p["age"]) for p in found] == [("p0", 0), ("p1", 1), ("p2", 2), ("p3", 3)]
    np.testing.assert_array_equal(found[3]["x"], np.eye(2) * 3)
    with pytest.raises(ValueError, match="field of 'people': got 'nme', expected one of 'name'"):
        read_structs(tmp_path / "a.mat", "people", ["nme"])
    with pytest.raises(ValueError, match="'plain' is an array of"):
        read_structs(tmp_path / "a.mat", "plain", ["name"])


def test_numbers_with_the_expected_columns(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("  1.0e+00\t2\n 3 4\n")
    np.testing.assert_array_equal(read_numbers(path, columns=2), [[1, 2], [3, 4]])
    with pytest.raises(ValueError, match=r"a\.txt: got 2 columns, expected 6"):
        read_numbers(path, columns=6)
    path.write_text("one two\n")
    with pytest.raises(ValueError, match=r"a\.txt: not a table of numbers"):
        read_numbers(path)


def test_files_by_pattern():
    alice = load_manifest("alice_fmri")
    found = match_files(alice, "alice_data_shared/{radius}/{subject}-timecourses.txt", radius="6mm")
    assert len(found) == 28
    assert found[0][0] == {"subject": "s18"}
    assert all("/6mm/" in f.name for _, f in found)
    assert len(match_files(alice, "alice_data_shared/{subject}-rp_*.txt")) == 28
    with pytest.raises(ValueError, match=r"'alice_fmri': no file fits 'alice_data_shared/\{subject\}-pulse.txt'"):
        match_files(alice, "alice_data_shared/{subject}-pulse.txt")
