"""The cortical surface: values at their vertices, masks, sampled volumes, units of the colour bar."""

import nibabel
import numpy as np
import pytest
from nilearn import datasets
from nilearn.maskers import SurfaceMasker
from nilearn.surface import SurfaceImage

from neuroalign.plots import surface
from neuroalign.plots.surface import N_VERTICES, on_fsaverage
from neuroalign.recordings import from_nilearn, paint


@pytest.fixture(scope="module")
def mesh():
    return datasets.load_fsaverage("fsaverage5")


@pytest.fixture
def gradient(mesh):
    """Millimetres behind the front of the brain: known at every vertex."""
    return {side: -mesh["pial"].parts[side].coordinates[:, 1].astype(float) + 80 for side in ("left", "right")}


@pytest.fixture
def slope(mesh):
    """A volume whose voxels hold 100 - y (mm) within a box around the brain, 0 outside."""
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -100, -130, -80
    y = affine[1, 3] + 4 * np.arange(60)
    volume = np.broadcast_to(100 - y[None, :, None], (50, 60, 50)).copy()
    return nibabel.Nifti1Image(volume.astype(np.float32), affine)


def test_values_and_mask_reach_the_figure(gradient, pixels, overlaps):
    gradient["left"][:100] = np.nan
    q = {side: np.where(v > 60, 0.01, 0.3) for side, v in gradient.items()}
    figure = surface(gradient, q=q, label="distance (mm)", title="A title")
    kept = {side: gradient[side] > 60 for side in gradient}  # NaN is not above 60
    assert len(figure.data) == kept["left"].sum() + kept["right"].sum()
    left = figure.data[figure.data.hemisphere == "left"]
    np.testing.assert_array_equal(left.vertex, np.flatnonzero(kept["left"]))
    np.testing.assert_allclose(left.value, gradient["left"][kept["left"]])
    flat = [a for a in figure.axes if a.get_title(loc="center").endswith("flat")]
    assert len(flat) == 2 and len(flat[0].collections[0].get_facecolor()) > 15_000
    bar = figure.axes[-1]
    assert bar.get_xlabel() == "distance (mm)"
    assert bar.get_xlim()[0] == 0 and bar.get_xlim()[1] == pytest.approx(np.nanmax(gradient["right"]), rel=0.2)
    assert "q ≥ 0.05" in figure.caption and "vertices drawn" in figure.alt
    assert overlaps(figure) == []
    pixels(figure)


def test_flat_triangles_have_the_colour_of_their_corners(mesh):
    from matplotlib import colormaps
    from matplotlib.colors import Normalize

    from neuroalign.plots.style import new_figure
    from neuroalign.plots.surface import _flat

    values = np.full(N_VERTICES, np.nan)
    corners = mesh["flat"].parts["left"].faces[5]
    values[corners] = [1.0, 2.0, 3.0]
    axis = new_figure(2, 2).subplots()
    _flat(axis, mesh["flat"].parts["left"], np.linspace(-1, 1, N_VERTICES), values, colormaps["viridis"],
          Normalize(0, 4))
    colours = axis.collections[0].get_facecolor()
    np.testing.assert_allclose(colours[5], colormaps["viridis"](0.5), atol=0.01)
    grey = np.delete(colours, 5, 0)
    assert (np.ptp(grey[:, :3], axis=1) < 1e-6).all()  # all others are grey


def test_a_volume_is_sampled_where_the_cortex_lies(slope, mesh):
    found = on_fsaverage(slope)
    for side in ("left", "right"):
        middle = (mesh["pial"].parts[side].coordinates + mesh["white_matter"].parts[side].coordinates)[:, 1] / 2
        np.testing.assert_allclose(found[side], 100 - middle, atol=0.5)  # mm, a linear slope is interpolated exactly


def test_voxels_without_a_value_do_not_dilute_those_beside_them(slope, mesh):
    values = slope.get_fdata().copy()
    values[:, :32] = 0  # nothing behind y = -2 mm
    found = on_fsaverage(nibabel.Nifti1Image(values, slope.affine))["left"]
    middle = (mesh["pial"].parts["left"].coordinates + mesh["white_matter"].parts["left"].coordinates)[:, 1] / 2
    known = np.isfinite(found)
    assert known[middle > 2].all() and not known[middle < -6].any()
    np.testing.assert_allclose(found[known], 100 - middle[known], atol=3)  # a mean with zeros would be 50 off


def test_a_surface_image_is_taken_as_it_is(mesh, gradient):
    image = SurfaceImage(mesh=mesh["inflated"], data=gradient)
    np.testing.assert_allclose(on_fsaverage(image)["right"], gradient["right"])


def test_scores_of_vertices_are_painted_back_where_they_were_read(mesh, gradient):
    mask = {side: np.arange(N_VERTICES) % 3 == 0 for side in gradient}
    masker = SurfaceMasker(SurfaceImage(mesh=mesh["pial"], data=mask), standardize=None)
    bold = SurfaceImage(mesh=mesh["pial"], data={side: np.stack([v, v + 1], 1).astype(np.float32)
                                                 for side, v in gradient.items()})
    responses = from_nilearn(bold, masker, tr=1.0)
    found = on_fsaverage(paint(responses.isel(time=0), responses))
    for side in gradient:
        np.testing.assert_allclose(found[side][mask[side]], gradient[side][mask[side]], rtol=1e-6)
        assert np.isnan(found[side][~mask[side]]).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_one_hemisphere_is_drawn_alone(mesh, gradient, side, pixels, overlaps):
    q = {side: np.where(gradient[side] > 60, 0.01, 0.3)}
    figure = surface({side: gradient[side]}, q=q, title="One side")
    assert set(figure.data.hemisphere) == {side} and len(figure.data) == (gradient[side] > 60).sum()
    titles = [t.get_text() for a in figure.axes for t in a.texts] + [a.get_title(loc="center") for a in figure.axes]
    assert [t for t in titles if t] == [*(f"{side}, {v}" for v in (("lateral", "medial") if side == "left" else
                                                                   ("medial", "lateral"))), f"{side}, flat"]
    assert f"{side} hemisphere" in figure.caption and f"of {N_VERTICES:,} vertices" in figure.alt
    assert overlaps(figure) == []
    pixels(figure)
    image = SurfaceImage(mesh={side: mesh["inflated"].parts[side]}, data={side: gradient[side]})
    np.testing.assert_allclose(on_fsaverage(image)[side], gradient[side])
    surface(image, q={k: v / v.max() for k, v in gradient.items()}, flat=False)  # q may have more
    other = {"left": "right", "right": "left"}[side]
    with pytest.raises(ValueError, match=f"q: no hemisphere '{side}', which the image has"):
        surface(image, q={other: gradient[other]})


def test_negative_values_get_symmetric_colours(gradient):
    figure = surface({side: v - 90 for side, v in gradient.items()}, flat=False)
    low, high = figure.axes[-1].get_xlim()
    assert low == pytest.approx(-high)


def test_bad_images_are_explained(slope, gradient):
    with pytest.raises(ValueError, match=r"left has shape \(100,\), expected \(10242,\), the vertices of fsaverage5"):
        surface({"left": np.zeros(100), "right": np.zeros(100)})
    with pytest.raises(TypeError, match="got ndarray, expected a SurfaceImage on fsaverage5, a NIfTI image"):
        surface(np.zeros(5))
    with pytest.raises(TypeError, match="got dict with the keys 'lh', expected .* 'left', 'right' or both"):
        surface({"lh": gradient["left"]})
    with pytest.raises(ValueError, match="no vertex has a value"):
        surface({side: v * np.nan for side, v in gradient.items()})
    four = nibabel.Nifti1Image(np.ones((3, 3, 3, 2)), np.eye(4))
    with pytest.raises(ValueError, match=r"volume of shape \(3, 3, 3, 2\), expected one value a voxel"):
        surface(four)
