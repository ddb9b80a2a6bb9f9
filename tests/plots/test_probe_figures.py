"""Figures of the modality gap and of implicit alignment: what is drawn is what was measured, and random is said."""

import numpy as np
import pytest

import neuroalign as na
from neuroalign.data import make_features
from neuroalign.plots.untrained import WORDS, is_untrained

QUICK = {"n_bootstraps": 20, "device": "cpu"}


def sides(model="m", layers=1, n=30, d=6, seed=0):
    rng, ids = np.random.default_rng(seed), [f"s{i}" for i in range(n)]
    latent = rng.standard_normal((n, d))
    return tuple([make_features(latent * k + rng.standard_normal((n, d)) + shift, ids, model=model, layer=f"b.{k}",
                                stream=stream, depth=k / max(layers - 1, 1)) for k in range(layers)]
                 for stream, shift in (("image", 1), ("text", -1)))


def tokens(model="m", n=12, d=6):
    rng, spaces = np.random.default_rng(0), []
    for k in range(3):
        for stream in ("image", "text"):
            parents = np.repeat([f"s{i}" for i in range(n)], 2)
            ids = [f"{p}#{j}" for j, p in enumerate(parents)]
            spaces.append(make_features(rng.standard_normal((2 * n, d)) + 0.3, ids, model=model, layer=f"b.{k}",
                                        stream=stream, depth=k / 2, coords={"parent": parents}))
    return spaces


def words(figure):
    return [t.get_text() for t in figure.findobj(lambda a: hasattr(a, "get_text")) if t.get_text()]


@pytest.mark.parametrize("axes", ["centroids", "pca"])
def test_the_plane_holds_the_clouds_and_their_centroids(pixels, overlaps, axes):
    (image,), (text,) = sides()
    figure = na.plot.gap_plane(image, text, axes=axes, title="A gap")
    axis = figure.axes[0]
    clouds = [np.transpose(line.get_data()) for line in axis.lines if line.get_linestyle() == "None"][:2]
    unit = [v.values / np.linalg.norm(v.values, axis=1, keepdims=True) for v in (image, text)]
    assert [len(c) for c in clouds] == [30, 30]
    between = np.linalg.norm(clouds[0].mean(0) - clouds[1].mean(0))
    distance = np.linalg.norm(unit[0].mean(0) - unit[1].mean(0))
    if axes == "centroids":  # no distance is lost between the centroids
        assert between == pytest.approx(distance, abs=1e-6)
        assert clouds[0][:, 1].mean() == pytest.approx(clouds[1][:, 1].mean(), abs=1e-6)
    else:
        joined = np.concatenate(unit)
        left, singular, _ = np.linalg.svd(joined - joined.mean(0), full_matrices=False)
        shown = figure.data[["x", "y"]].to_numpy()
        np.testing.assert_allclose(np.abs(shown), np.abs(left[:, :2] * singular[:2]), atol=1e-5)
    assert any(f"distance of centroids {distance:.3f}" in w for w in words(figure))
    assert len(figure.data) == 60 and f"{distance:.2f} apart" in figure.alt
    assert not overlaps(figure)
    pixels(figure)


def test_curves_hold_the_scores_of_each_layer_and_model(pixels, overlaps):
    image, text = (one + other for one, other in zip(sides("m", 4), sides("k", 4, seed=1)))
    scores = na.probes.modality_gap(image, text, n_permutations=49, **QUICK)
    figure = na.plot.gap_curves(scores, ["gap.distance", "separability", "cosine.pairs"], title="Two models")
    for axis, metric in zip(figure.axes, ("gap.distance", "separability", "cosine.pairs")):
        curves = [line for line in axis.lines if len(line.get_xdata()) == 4 and line.get_linestyle() == "-"
                  and line.get_color() in ("#0072B2", "#D55E00")]
        for model, line in zip("mk", curves):
            own = scores.sel(metric=metric, space=[s for s in scores.space.values if s.startswith(model)])
            np.testing.assert_allclose(line.get_ydata(), own.score)
            np.testing.assert_allclose(line.get_xdata(), own.depth)
    assert set(figure.data.metric) == {"gap.distance", "separability", "cosine.pairs"}
    assert not overlaps(figure)
    pixels(figure)


def test_a_sweep_is_drawn_against_its_shift_and_training_against_its_epoch(overlaps):
    (image,), (text,) = sides()
    swept = na.plot.gap_curves(na.probes.shift_sweep(image, text, (0, 0.5, 1), device="cpu"))
    assert swept.axes[3].get_xlabel() == "shift towards each other" and not overlaps(swept)
    x = np.random.default_rng(0).standard_normal((64, 5))
    history = na.probes.train_contrastive([x, x], epochs=2, every=1, held_out=0, batch_size=32, device="cpu").history
    trained = na.plot.gap_curves(history, ["loss"])
    assert trained.axes[0].get_xlabel() == "epoch" and not overlaps(trained)
    with pytest.raises(ValueError, match="against: got 'shift', expected one of 'epoch'"):
        na.plot.probe_curves(history, against="shift")


def test_alignment_is_drawn_between_and_within(pixels, overlaps):
    scores = na.probes.implicit_alignment(tokens("m") + tokens("k"), mode=("avg", "max"), n_permutations=49, **QUICK)
    figure = na.plot.alignment_curves(scores, "max", title="Tokens")
    assert [a.get_title(loc="left") for a in figure.axes] == ["m", "k"]
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    for line, stream in zip(lines, ("image~text", "image~image", "text~text")):
        own = scores.sel(metric="similarity.max").isel(
            space=(scores.model.values == "m") & (scores.stream.values == stream))
        np.testing.assert_allclose(line.get_ydata(), own.score)
    assert not overlaps(figure)
    pixels(figure)
    with pytest.raises(ValueError, match=r"mode: got 'avgg'.*'avg'"):
        na.plot.alignment_curves(scores, "avgg")
    geometry = na.plot.probe_curves(na.probes.token_geometry(tokens("m"), steps=(1,), **QUICK))
    assert not overlaps(geometry) and len(geometry.axes) == 4
    with pytest.raises(ValueError, match="Draw probe_curves"):
        na.plot.alignment_curves(na.probes.token_geometry(tokens("m"), **QUICK))


def test_random_weights_are_said_on_every_figure(overlaps):
    (image,), (text,) = sides("clip@random.3")
    gap = na.probes.modality_gap(image, text, n_permutations=0, **QUICK)
    aligned = na.probes.implicit_alignment(tokens("clip@random"), mode="avg", n_permutations=0, **QUICK)
    for figure in (na.plot.gap_plane(image, text), na.plot.gap_plane(image, text, title="A title"),
                   na.plot.gap_curves(gap, ["gap.distance"]), na.plot.alignment_curves(aligned, title="A title")):
        assert any(WORDS in w for w in words(figure)) and figure.caption.startswith("Untrained: machinery only")
        assert not overlaps(figure)
    trained = na.plot.gap_curves(na.probes.modality_gap(*sides("clip"), n_permutations=0, **QUICK), ["alignment"])
    assert not any(WORDS in w for w in words(trained))
    assert any(WORDS in w for w in words(na.plot.gap_plane(*(s[0] for s in sides("clip")), untrained=True)))


def test_names_and_attrs_say_what_is_random():
    assert is_untrained("llava@text@random") and is_untrained(["m@random:b.1:image~text", "n@random.2"])
    assert not is_untrained(["m@random", "m"]) and not is_untrained("randomised") and not is_untrained([])
    scores = na.probes.modality_gap(*sides("m"), n_permutations=0, **QUICK)
    assert not is_untrained(scores) and is_untrained(scores.assign_attrs(untrained="true"))


def test_titles_of_panels_end_within_the_figure():
    figure = na.plot.probe_curves(na.probes.token_geometry(tokens("m"), steps=(1, 2), **QUICK))
    figure.canvas.draw()
    titles = [a.get_title(loc="left") and a._left_title.get_window_extent().x1 for a in figure.axes]
    assert len(titles) == 6 and max(x for x in titles if x) <= figure.bbox.x1
