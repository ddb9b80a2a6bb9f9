"""Values on the cortical surface."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize

from neuroalign.errors import check_option, list_ids
from neuroalign.plots.style import Figure, new_figure, styled

__all__ = ["on_fsaverage", "surface"]

HEMISPHERES = ("left", "right")
VIEWS = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))
N_VERTICES = 10242  # of a hemisphere of fsaverage5
# Dark blue drowns in the sulci, so the map begins where it stands out from grey.
_WARM = LinearSegmentedColormap.from_list("warm", mpl.colormaps["inferno"](np.linspace(0.22, 0.97, 256)))


@styled
def surface(image, *, q=None, alpha: float = 0.05, flat: bool = True, label: str = "value", vmin: float | None = None,
            vmax: float | None = None, title: str | None = None) -> Figure:
    """Draw values on the inflated cortex of fsaverage5, from both sides, and on its flat map.

    Parameters
    ----------
    image : SurfaceImage, Nifti1Image, path, or mapping of "left", "right" or both to array of shape (10242,)
        On fsaverage5, or a volume in MNI space, which is sampled between the white and the pial surface. Scores are
        painted into one by the masker that read the recording. NaN and, in volumes, 0 are not drawn. Of a surface with
        one hemisphere, this is drawn alone.
    q : as `image`, optional
        Vertices with q of `alpha` or more are not drawn.
    alpha : float
    flat : bool
        Add the flat maps below.
    label : str
        Name of the colour bar, with the unit if there is one.
    vmin, vmax : float, optional
        Ends of the colours; by default 0 and the largest value, or symmetric about 0 where values are negative too.
    title : str, optional

    Returns
    -------
    Figure

    Raises
    ------
    ValueError
        If there is nothing to draw, or surfaces have another number of vertices than fsaverage5.

    Notes
    -----
    The meshes and the sulcal depth below the values come with nilearn. fsaverage5 lies in MNI305 space, some
    millimetres off the MNI152 space of most volumes; values of volumes near a sulcus may stand on its other bank.
    """
    values = on_fsaverage(image, "image")
    if q is not None:
        masks = on_fsaverage(q, "q", interpolation="nearest_most_frequent")
        lost = [side for side in values if side not in masks]
        if lost:
            raise ValueError(f"q: no hemisphere {lost[0]!r}, which the image has. Give q of the same hemispheres.")
        values = {side: np.where(masks[side] < alpha, one, np.nan) for side, one in values.items()}
    drawn = np.concatenate(list(values.values()))
    n_drawn = int(np.isfinite(drawn).sum())
    if not n_drawn and q is None:
        raise ValueError("surface: no vertex has a value. Is the image empty, or outside the cortex?")
    cmap, norm = _colours(drawn, vmin, vmax)
    figure = new_figure(4.6 * len(values), (5.3 if flat else 2.75) + (0.3 if title else 0), layout=None)
    _panels(figure, values, cmap, norm, flat, title)
    _bar(figure, cmap, norm, label, flat)
    if title:
        figure.suptitle(title, x=0.02, y=0.985, ha="left", va="top")
    volume = _is_volume(image)
    figure.data = pd.concat([pd.DataFrame({"hemisphere": side, "vertex": np.arange(N_VERTICES), "value": values[side]})
                             for side in values], ignore_index=True).dropna()
    alone = f", {next(iter(values))} hemisphere" if len(values) == 1 else ""
    figure.caption = (f"{label} on the inflated cortex of fsaverage5{alone}" + (", and on its flat map" if flat else "")
                      + "; grey: sulci (dark) and gyri without a value" + (f" or with q ≥ {alpha:g}" if q is not None
                                                                            else "") + "."
                      + (" Sampled from a volume; MNI152 and fsaverage differ by some millimetres." if volume else ""))
    figure.alt = (f"Cortical surface, {label}: {n_drawn:,} of {drawn.size:,} vertices drawn"
                  + (f", from {np.nanmin(drawn):.2f} to {np.nanmax(drawn):.2f}." if n_drawn else "."))
    return figure


def on_fsaverage(image, name: str = "image", *, interpolation: str = "linear") -> dict[str, np.ndarray]:
    """Return the values of an image at the vertices of fsaverage5: {"left": (10242,), "right": (10242,)}, or of one.

    Parameters
    ----------
    image : as for `surface`
    name : str
        Name of the argument, for messages.
    interpolation : {"linear", "nearest_most_frequent"}
        How a volume is sampled.
    """
    check_option("interpolation", interpolation, ("linear", "nearest_most_frequent"))
    if _is_volume(image):
        return _sample(image, interpolation)
    parts = image if isinstance(image, Mapping) else getattr(getattr(image, "data", None), "parts", None)
    if not parts or not set(parts) <= set(HEMISPHERES):
        keys = f" with the keys {list_ids(parts)}" if isinstance(image, Mapping) else ""
        raise TypeError(f"{name}: got {type(image).__name__}{keys}, expected a SurfaceImage on fsaverage5, a NIfTI "
                        "image, its path, or a mapping with the keys 'left', 'right' or both.")
    values = {side: np.array(np.squeeze(parts[side]), dtype=float) for side in HEMISPHERES if side in parts}
    for side, one in values.items():
        if one.shape != (N_VERTICES,):
            raise ValueError(f"{name}: {side} has shape {one.shape}, expected ({N_VERTICES},), the vertices of "
                             "fsaverage5. Bring it there first, for instance through a volume.")
    return values


def _is_volume(image) -> bool:
    return isinstance(image, (str, Path)) or (hasattr(image, "affine") and hasattr(image, "get_fdata"))


def _sample(image, interpolation) -> dict[str, np.ndarray]:
    import nibabel
    from nilearn import datasets  # three seconds of import
    from nilearn.surface import SurfaceImage

    image = nibabel.load(image) if isinstance(image, (str, Path)) else image
    values = np.squeeze(image.get_fdata())
    if values.ndim != 3:
        raise ValueError(f"image: got a volume of shape {image.shape}, expected one value a voxel (three dimensions).")
    known = np.isfinite(values) & (values != 0)
    mesh = datasets.load_fsaverage("fsaverage5")

    def sample(volume):
        found = SurfaceImage.from_volume(mesh["pial"], nibabel.Nifti1Image(volume.astype(np.float32), image.affine),
                                         mesh["white_matter"], interpolation=interpolation)
        return {side: np.asarray(found.data.parts[side], float).squeeze() for side in HEMISPHERES}

    # A mean over the voxels that hold a value: what lies outside the mask does not dilute those beside it.
    total, share = sample(np.where(known, values, 0)), sample(known)
    share = {side: np.where(share[side] >= 0.5, share[side], np.nan) for side in HEMISPHERES}
    return {side: total[side] / (share[side] if interpolation == "linear" else 1.0) for side in HEMISPHERES}


def _colours(values, vmin, vmax):
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if vmin is None and low < -0.1 * max(high, 0):
        most = max(-low, high) if vmax is None else vmax
        return mpl.colormaps["RdBu_r"], Normalize(-most, most)
    low, high = (0.0 if vmin is None else vmin), (high if vmax is None else vmax)
    return (mpl.colormaps["RdBu_r"] if low < 0 else _WARM), Normalize(low, high if high > low else low + 1)


def _panels(figure, values, cmap, norm, flat, title) -> None:
    from nilearn import datasets

    fsaverage = datasets.load_fsaverage("fsaverage5")
    sulci = datasets.load_fsaverage_data(mesh="fsaverage5", mesh_type="inflated", data_type="sulcal")
    top = 0.9 if title else 0.97
    height = (top - 0.14) / 2 if flat else top - 0.24
    views, wide = [v for v in VIEWS if v[0] in values], 2 / len(values)  # of the figure, which one side makes narrow
    for k, (side, view) in enumerate(views):
        axis = figure.add_axes((wide * (0.235 * k + 0.015) + 0.015, top - height, wide * 0.235, height),
                               projection="3d")
        _mesh(axis, fsaverage["inflated"], sulci, values, side, view, cmap, norm, zoom=1.5)
        axis.text2D(0.5, 0.99, f"{side}, {view}", transform=axis.transAxes, ha="center", va="top", fontsize=8.5)
    for k, side in enumerate(values if flat else ()):
        axis = figure.add_axes((wide * (0.47 * k + 0.015) + 0.015, top - 2 * height - 0.02, wide * 0.47, height - 0.05))
        _flat(axis, fsaverage["flat"].parts[side], sulci.data.parts[side], values[side], cmap, norm)
        axis.set_title(f"{side}, flat", loc="center", fontsize=8.5, fontweight="normal", pad=4)


def _mesh(axis, mesh, sulci, values, side, view, cmap, norm, zoom) -> None:
    from nilearn import plotting
    from nilearn.surface import SurfaceImage

    values = dict.fromkeys(HEMISPHERES, np.full(N_VERTICES, np.nan)) | values  # the mesh has both sides
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nilearn warns of panels without a value
        plotting.plot_surf_stat_map(
            surf_mesh=mesh, stat_map=SurfaceImage(mesh=mesh, data=values), hemi=side, view=view, axes=axis,
            bg_map=SurfaceImage(mesh=mesh, data=sulci.data.parts), bg_on_data=False, colorbar=False,
            cmap=cmap, vmin=norm.vmin, vmax=norm.vmax, figure=axis.figure)
    axis.set_box_aspect(None, zoom=zoom)
    axis.patch.set_alpha(0)
    axis.set_title("")
    for kind in axis.collections:
        kind.set_rasterized(True)  # twenty thousand triangles would make a PDF of many megabytes


def _flat(axis, mesh, sulci, values, cmap, norm) -> None:
    """Colour the triangles of a flat map: their mean value, or grey where a corner has none."""
    corners = np.asarray(mesh.faces)
    depth = np.asarray(sulci, float).squeeze()
    grey = mpl.colormaps["gray_r"](Normalize(*np.percentile(depth, [1, 99]))(depth[corners].mean(1)) * 0.5 + 0.2)
    mean = values[corners].mean(1)
    color = np.where(np.isfinite(mean)[:, None], cmap(norm(np.nan_to_num(mean))), grey)
    places = np.asarray(mesh.coordinates)[corners][:, :, :2]
    axis.add_collection(PolyCollection(places, facecolors=color, edgecolors="face", linewidths=0.2, rasterized=True))
    axis.autoscale_view()
    axis.set_aspect("equal")
    axis.set_axis_off()


def _bar(figure, cmap, norm, label, flat) -> None:
    axis = figure.add_axes((0.37, 0.09 if flat else 0.17, 0.26, 0.018 if flat else 0.035))
    bar = figure.colorbar(ScalarMappable(norm, cmap), cax=axis, orientation="horizontal")
    bar.outline.set_visible(False)
    bar.ax.locator_params(nbins=5)
    bar.ax.tick_params(length=2, labelsize=8)
    bar.set_label(label, fontsize=8.5, labelpad=1)
