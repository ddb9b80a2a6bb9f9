"""`load_stimuli`, `load_responses`, `load_rdms`, `load_confounds`, `load_electrodes`: by name or by path."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import xarray as xr

from neuroalign.data.manifests import Manifest, list_manifests, load_manifest
from neuroalign.data.stimuli import StimulusSet
from neuroalign.errors import check_option, list_ids, suggest
from neuroalign.recordings.rdms import RDMS
from neuroalign.recordings.responses import CONFOUNDS, ELECTRODES, RESPONSES
from neuroalign.recordings.stimuli import STIMULI
from neuroalign.recordings.tables import is_array, is_table, read_rdms, read_responses

__all__ = ["load_confounds", "load_electrodes", "load_rdms", "load_responses", "load_stimuli"]

READERS = {"stimuli": STIMULI, "responses": RESPONSES, "rdms": RDMS, "confounds": CONFOUNDS,
           "electrodes": ELECTRODES}


def load_stimuli(name, **options) -> StimulusSet:
    """Load the stimuli of a data set, of a table, or of a folder of images.

    Parameters
    ----------
    name : str or Path
        Name or manifest of a data set; a ``.csv`` or ``.tsv`` with a ``stimulus_id`` column
        (`StimulusSet.from_table`); or a folder of images (`StimulusSet.from_folder`).
    **options
        What the data set lets choose, for example ``viewing="subject2_trial0"`` of ``brain_treebank``.

    Returns
    -------
    StimulusSet

    Examples
    --------
    >>> words = load_stimuli("simlex999")  # doctest: +SKIP
    >>> len(words)  # doctest: +SKIP
    1028
    """
    if isinstance(name, StimulusSet):
        return name
    if isinstance(name, Manifest):
        return _read("stimuli", name, options)
    path = Path(name).expanduser()
    is_name = isinstance(name, str) and name in list_manifests()  # a folder of that name is meant by ./NAME
    make = (StimulusSet.from_table if path.suffix.lower() in (".csv", ".tsv")
            else StimulusSet.from_folder if path.is_dir() and not is_name else None)
    if make is not None:
        _refuse(options, name)
        return make(path)
    if len(path.parts) > 1 and not path.exists():
        raise FileNotFoundError(f"stimuli: no file or folder {str(name)!r}.")
    return _read("stimuli", name, options)


def load_responses(name, **options) -> xr.DataArray:
    """Load the responses of a data set, or of a table.

    Parameters
    ----------
    name : str or Path
        Name or manifest of a data set; or a ``.csv``, ``.tsv`` (columns ``stimulus_id`` or ``time``, every other
        one a neuroid), ``.nc``, or an array in ``.npy``, ``.npz``, ``.mat``.
    **options
        What the data set lets choose, for example ``radius="6mm"`` of ``alice_fmri``. For an array: ``stimulus_ids``
        or ``tr``, and ``variable``, ``neuroid_ids``, ``kind``.

    Returns
    -------
    DataArray (sample dim, neuroid[, time_bin])
        Left-out subjects and their reasons stand in ``attrs["dropped"]``; ``attrs["regressors"]`` names the coords
        of `time` that describe the stimulus (for ``encode(nuisance=...)``).
    """
    if is_table(name):
        if not is_array(name):
            _refuse(options, name)
        return read_responses(name, **options)
    return _read("responses", name, options)


def load_rdms(name, part: str | None = None, **options) -> xr.DataArray:
    """Load the dissimilarities of a data set, or of a table.

    Parameters
    ----------
    name : str or Path
        Name or manifest of a data set; or a ``.csv``, ``.tsv`` or ``.nc`` (columns ``stimulus_a``, ``stimulus_b`` and
        one a target, or ``dissimilarity`` with ``region`` and ``subject``; or a square matrix with ids); or square
        matrices or triangles in ``.npy``, ``.npz``, ``.mat``.
    part : str, optional
        Which part, where there are several: ``"brain"`` (the default) or ``"models"`` of ``objects92``.
    **options
        For an array: ``stimulus_ids``, ``targets``, ``variable``.

    Returns
    -------
    DataArray (target, pair)
        With coords ``subject`` (empty for a group or a pooled measurement) and ``region`` on `target`. Ratings
        come as dissimilarities, the formula in ``attrs["dissimilarity"]``; pairs that nobody judged are not there.
    """
    if part is not None:
        options["part"] = part
    if is_table(name):
        if not is_array(name) or part is not None:
            _refuse(options, name)
        return read_rdms(name, **options)
    return _read("rdms", name, options)


def load_confounds(name, **options) -> xr.DataArray:
    """Load the confounds of a data set (for instance head motion), for `clean`.

    Returns
    -------
    DataArray (time, confound, subject)
    """
    return _read("confounds", name, options)


def load_electrodes(name, **options) -> pd.DataFrame:
    """Load electrode coordinates.

    Returns
    -------
    DataFrame
        Columns ``neuroid_id``, ``subject``, ``label``, ``hemisphere``, ``x``, ``y``, ``z`` (MNI152, mm), ...
    """
    return _read("electrodes", name, options)


def _refuse(options: dict, name) -> None:
    if options:
        raise ValueError(f"{Path(name).name}: got the options {list_ids(options)}, but a table or folder has none.")


def _read(kind: str, name, chosen: dict):
    manifest = load_manifest(name)
    section = manifest.section(kind)
    reader = READERS[kind][check_option(f"{manifest.name}: reader of {kind}", section.reader, READERS[kind])]
    options = section.options
    choices = options.pop("choices", {})
    if isinstance(options.get("parts"), dict):
        choices = {**choices, "part": list(options["parts"])}
    picked = {key: allowed[0] for key, allowed in choices.items()}
    for key, value in chosen.items():
        if key not in choices:
            can = "nothing to choose" if not choices else f"the options {', '.join(map(repr, choices))}"
            raise ValueError(f"data set {manifest.name!r}: {kind} have no option {key!r}, they have {can}."
                             f"{suggest(key, choices)}")
        picked[key] = check_option(f"{manifest.name}: {key}", value, choices[key])
    _check_signature(manifest.name, kind, reader, {**options, **picked})
    return reader(manifest, **options, **picked)


def _check_signature(name: str, kind: str, reader: Callable, options: dict) -> None:
    try:
        inspect.signature(reader).bind(None, **options)
    except TypeError as error:
        raise ValueError(f"manifest {name!r}, section {kind!r}, reader {reader.__name__!r}: {error}.") from None
