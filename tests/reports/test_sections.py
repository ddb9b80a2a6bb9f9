"""Which figures plain Scores get, and a folder of Scores."""

import numpy as np
import pytest

from neuroalign.data import scores as scores_
from neuroalign.reports import default_pictures, default_sections, load_report_folder, report, show


def kinds(scores):
    return [p.figure.alt.split(" of ")[0].split(".")[0] for p in default_pictures(scores)]


def test_figures_follow_the_shape(comparison, encoding):
    assert kinds(comparison()) == ["Lines", "Heat map"]
    assert kinds(encoding) == ["Bars"]
    one_layer = comparison().isel(space=[0, 2])
    assert kinds(one_layer) == ["Bars"]


def test_sites_with_coordinates_get_a_map(encoding):
    placed = encoding.assign_coords({c: ("neuroid", [10.0, -30.0]) for c in "xyz"})
    assert kinds(placed) == ["Bars", "Glass brain with 2 sites"]


def test_spaces_against_spaces_get_a_matrix():
    names = ["m:a:all", "m:b:all"]
    scores = scores_.make({"score": (("metric", "space", "space_b"), np.ones((1, 2, 2)))},
                          {"metric": ["cka.debiased"], "space": names, "space_b": names})
    assert kinds(scores) == ["Heat map"]


def test_text_counts_models_and_twins(comparison):
    text = default_sections(comparison())[0].text
    assert text.startswith("6 feature spaces of 2 models and 1 random network, 2 targets.")


def test_a_folder_of_scores_becomes_sections(comparison, encoding, tmp_path):
    scores_.save(comparison(), tmp_path / "b_rsa.nc")
    scores_.save(encoding, tmp_path / "a.nc")
    sections = load_report_folder(tmp_path)
    assert [s.title for s in sections] == ["a", "b rsa"]
    assert report(sections, tmp_path / "report.html").is_file()


def test_a_bad_folder_is_explained(comparison, tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder"):
        load_report_folder(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no Scores \(\*.nc\)"):
        load_report_folder(tmp_path)
    scores_.save(comparison(), tmp_path / "good.nc")
    comparison()[["p"]].to_netcdf(tmp_path / "other.nc", engine="h5netcdf")
    (tmp_path / "torn.nc").write_bytes(b"\x89HDF")
    with pytest.raises(ValueError, match="'other.nc', 'torn.nc'.*do not hold Scores"):
        load_report_folder(tmp_path)


def test_show_says_the_main_numbers(comparison):
    view = show(comparison())
    said = repr(view)
    assert "6 spaces, 2 targets" in said and "p < 0.05: 2, q < 0.05: 0" in said and "constant-target" in said
    assert "models: 8 scores, median 0.225, highest 0.400 (text · b.1, EVC)" in said
    assert "random twins: 4 scores, median 0.525, highest 0.600 (net@random · b.1, EVC)" in said
    html = view._repr_html_()
    assert html.count("<img") == 2 and "Spearman" in html and "<script" not in html
