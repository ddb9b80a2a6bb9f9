"""Which figures plain Scores get, and a folder of Scores."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.data import make_features, make_responses
from neuroalign.data import scores as scores_
from neuroalign.reports import default_pictures, default_sections, load_report_folder, report, show
from neuroalign.reports.facts import site_counts
from neuroalign.reports.methods import methods
from neuroalign.reports.sections import as_sections


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


def test_sections_of_one_title_are_told_apart(comparison, encoding):
    taken_out = encoding.assign_attrs(residualize='"both"')
    sections = as_sections([encoding, comparison(), taken_out])
    assert [s.title[-3:] for s in sections] == ["(1)", "n ρ", "(2)"]
    assert sections[2].text.endswith("The nuisance was taken out of the features and responses.")
    assert "nuisance" not in sections[0].text


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


@pytest.fixture(scope="module")
def sites():
    """Scores of two groups of models at twelve sites, and the tests between them, of two conditions."""
    score = np.stack([np.linspace(0.1, 0.5, 12), np.linspace(0.1, 0.7, 12)])[None]
    dims = ("metric", "space", "neuroid")
    coords = {"metric": ["r.pooled"], "neuroid": [f"e{k}" for k in range(12)],
              "x": ("neuroid", np.linspace(-50, 50, 12)),
              "y": ("neuroid", np.zeros(12)), "z": ("neuroid", np.zeros(12)),
              "subject": ("neuroid", ["a"] * 6 + ["b"] * 6)}
    scores = scores_.make({"score": (dims, score)}, coords | {"space": ["uni", "multi"]}, {"analysis": "encode"})

    def test(p):
        gain = (score[:, 1] - score[:, 0])[:, None]
        values = np.array(p)[None, None]
        return scores_.make({"score": (dims, gain), "p": (dims, values), "q": (dims, values)},
                            coords | {"space": ["multi > uni"], "default_winner": (("space", "neuroid"), [[""] * 12])},
                            {"analysis": "site_tests", "comparisons": {"multi > uni": ["multi", "uni"]}, "fdr": "by",
                             "folds": {"n_folds": 5, "name": "kfold"}, "widening": 1.5, "smallest_p": 0.001,
                             "interval": "1,000 resamples of stimuli"})

    return scores, test([0.9] * 6 + [0.001] * 6), test([0.9] * 8 + [0.001] * 4)


def test_site_tests_are_drawn_with_what_was_tested(sites):
    scores, tests, _ = sites
    drawn = [p.figure for s in as_sections([tests, scores]) for p in s.figures]
    assert [f.alt.split(" ")[0] for f in drawn] == ["Scatter", "Glass", "Bars"]
    assert (drawn[0].data["winner"] == "y").sum() == 6
    assert drawn[1].axes[-1].get_xlabel() == "difference, Pearson r (pooled over folds)"
    assert [p.figure.alt.split(" ")[0] for s in as_sections(tests) for p in s.figures] == ["Glass"]
    assert ", differences: 12 scores" in repr(show(tests)) and ", models: 24 scores" in repr(show(scores))


def test_conditions_of_site_tests_are_counted_together(sites):
    scores, *tests = sites
    (caption, all_), (_, by_subject) = site_counts([scores, *tests])
    assert "2 conditions" in caption
    assert all_.iloc[0][["sites", "weak", "strict"]].tolist() == [12, 6, 4]
    assert by_subject[["subject", "weak", "strict"]].values.tolist() == [["a", 0, 0], ["b", 6, 4]]
    assert all_["mean difference"].item() == pytest.approx(np.linspace(0, 0.2, 12).mean())


def test_a_partition_is_drawn_as_bars_and_circles():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(60)]
    spaces = {m: make_features(rng.standard_normal((60, 3)), ids, model=m) for m in ("vision", "language")}
    y = spaces["vision"].values @ rng.standard_normal((3, 8)) + rng.standard_normal((60, 8))
    parts = na.partition_variance(spaces, make_responses(y, ids, [f"v{k}" for k in range(8)]), method="ridge",
                                  n_bootstraps=0, n_splits=3)
    bars, circles = (p.figure for p in default_pictures(parts))
    assert bars.alt.startswith("Bars of unique") and circles.alt.startswith("Circles")
    whole = parts["score"].sel(space="language + vision").mean().item()
    assert circles.axes[0].get_title(loc="left") == f"mean of 8   R² {whole:.3f}"
    assert "2 bands of features, 8 measured units" in default_sections(parts)[0].text


def test_a_partition_with_time_bins_is_drawn_as_curves_of_its_parts():
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(60)]
    spaces = {m: make_features(rng.standard_normal((60, 2)), ids, model=m) for m in ("vision", "language")}
    responses = make_responses(rng.standard_normal((60, 2, 3)), ids, ["v1", "v2"], time_bins=np.arange(3) * 0.1)
    parts = na.partition_variance(spaces, responses, method="ridge", n_bootstraps=0, n_splits=3)
    (curves,) = (p.figure for p in default_pictures(parts))
    assert set(curves.data["space"]) == {"vision, unique", "language, unique", "language & vision, shared"}


def test_a_difference_is_named_by_its_two_sides(encoding):
    names = ["lm:l.1:word", "lm@random:l.1:word"]
    scores = scores_.make(
        {"score": (("metric", "space", "neuroid"), [[[0.41, 0.49], [0.2, 0.3]]])},
        {"metric": ["r.pooled"], "space": names, "neuroid": ["LATL", "LIPL"]}, scores_.attrs_of(encoding))
    delta = scores_.diff(scores, *names)
    section = default_sections(delta)[0]
    assert section.title.startswith("Difference: ")
    assert section.text.startswith("The scores of `lm:l.1:word` less those of `lm@random:l.1:word`, 2 measured units.")
    assert "differences: 2 scores" in repr(show(delta)) and "lm · l.1 · word − lm@random · l.1 · word" in repr(
        show(delta))
    (bars,) = (p.figure for p in default_pictures(delta))
    assert bars.axes[0].get_ylabel() == "difference, Pearson r (pooled over folds)"
    assert "lm · l.1 · word" in bars.legends[0].get_texts()[0].get_text()
    said = methods(delta)
    assert said.startswith("Difference: the score of `lm:l.1:word` less the score of `lm@random:l.1:word`. Responses")
    assert "Nothing was tested" in said and "no interval" in said
    assert not any(word in said for word in ("Untrained", "ceiling is", "ceilings have", "Null:", "q controls"))


def test_delays_become_a_curve():
    score = np.array([0.1, 0.5, 0.2])[None, :, None]
    scores = scores_.make({"score": (("metric", "space", "neuroid"), score)},
                          {"metric": ["r.pooled"], "space": [f"env::all@{d}s" for d in (0.2, 0.0, 0.1)],
                           "neuroid": ["c1"], "delay": ("space", [0.2, 0.0, 0.1]), "model": ("space", ["env"] * 3),
                           "layer": ("space", [""] * 3), "stream": ("space", ["all"] * 3)})
    (picture,) = default_pictures(scores)
    axis = picture.figure.axes[0]
    curve = next(line for line in axis.lines if len(line.get_xdata()) == 3)
    np.testing.assert_allclose(curve.get_xydata(), [[0.0, 0.5], [0.1, 0.2], [0.2, 0.1]])
    assert axis.get_xlabel() == "delay of the response (s)"


def test_means_over_subjects_are_called_so():
    score = np.zeros((1, 1, 2))
    scores = scores_.make({"score": (("metric", "space", "target"), score)},
                          {"metric": ["r.pooled"], "space": ["m:l:all"], "target": ["V1", "IT"]},
                          {"analysis": "group_scores"})
    assert default_sections(scores)[0].title == "Means over subjects: Pearson r (pooled over folds)"


def test_every_figure_offers_its_numbers(comparison, sites, tmp_path):
    scores, tests, _ = sites
    page = report([comparison(), scores, tests], tmp_path / "r.html").read_text()
    assert page.count(">PNG</a>") == page.count(">data (CSV)</a>") == 5
    assert "Sites where a comparison holds (one condition)" in page


def test_probes_become_curves_of_all_their_metrics(tmp_path):
    rng = np.random.default_rng(0)
    ids = [f"s{k}" for k in range(24)]
    sides = {stream: [make_features(rng.standard_normal((24, 6)) + (stream == "image"), ids, model="clip",
                                    layer=f"b.{k}", stream=stream, depth=k / 2) for k in range(3)]
             for stream in ("image", "text")}
    gap = na.probes.modality_gap(sides["image"], sides["text"], n_permutations=20, n_bootstraps=0)
    pictures = default_pictures(gap)
    assert len(pictures) == -(-gap.sizes["metric"] // 6)
    drawn = [a for p in pictures for a in p.figure.axes if a.get_visible()]
    assert len(drawn) == gap.sizes["metric"]
    html = report(gap, tmp_path / "r.html").read_text()
    assert "Modality gap" in html and "matched by stimulus id: 24" in html
