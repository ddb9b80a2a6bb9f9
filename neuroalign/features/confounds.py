"""Confounds: what an event is apart from any model, as feature spaces like any other.

Each returns a DataArray ``(stimulus, feature)`` of the model ``confound``, with the onsets of its events, so that it
goes wherever features go: into `encode` as a band or nuisance, and through `events_to_samples`. Those of sounds and
films (`sound.py`, `frames.py`) are means over events, or time series at the samples of a recording.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import StimulusSet, make_features
from neuroalign.errors import list_ids, suggest, warn_user
from neuroalign.features.frames import frame_difference, linear_luminance, motion_energy, scene_cuts
from neuroalign.features.moments import event_coords
from neuroalign.features.sound import envelope, mel_spectrogram, pitch, read_sound, sound_on, speech_on

__all__ = ["contrast", "envelope", "frame_difference", "head_motion", "identity", "log_frequency", "luminance",
           "mel_spectrogram", "motion_energy", "pitch", "read_sound", "scene_cuts", "sound_on", "speech_on",
           "word_length", "word_position", "word_rate"]


def word_rate(events: StimulusSet | xr.DataArray) -> xr.DataArray:
    """Return one for every event: convolved, it is the rate of events.

    Parameters
    ----------
    events : StimulusSet or DataArray
        Words, or features of words.

    Returns
    -------
    DataArray of shape (n_events, 1)
        Space ``confound:word_rate:word``.

    Examples
    --------
    >>> word_rate(StimulusSet.from_texts(["two words"]).words()).values.ravel().tolist()
    [1.0, 1.0]
    """
    ids, coords = event_coords(events)
    return _space(np.ones(len(ids)), ids, "word_rate", "word", coords)


def word_length(stimuli: StimulusSet) -> xr.DataArray:
    """Count the letters and digits of each word; space ``confound:word_length:word``.

    Examples
    --------
    >>> word_length(StimulusSet.from_texts(["isn't it?"]).words()).values.ravel().tolist()
    [4.0, 2.0]
    """
    ids, coords = event_coords(stimuli)
    return _space([sum(c.isalnum() for c in t) for t in _texts(stimuli)], ids, "word_length", "word", coords)


def word_position(stimuli: StimulusSet) -> xr.DataArray:
    """Return the place of each word in its passage, from 0 on; space ``confound:word_position:word``.

    Examples
    --------
    >>> word_position(StimulusSet.from_texts(["a b c", "d"]).words()).values.ravel().tolist()
    [0.0, 1.0, 2.0, 0.0]
    """
    if "parent" not in stimuli.table.columns:
        raise ValueError(f"word_position: the set {stimuli.name!r} has no 'parent' column, so its rows are no words "
                         "of passages. Use stimuli.words().")
    ids, coords = event_coords(stimuli)
    return _space(stimuli.table.groupby("parent", sort=False).cumcount(), ids, "word_position", "word", coords)


def log_frequency(stimuli: StimulusSet, counts: Mapping[str, float], *, floor: float | None = None) -> xr.DataArray:
    """Look up the log10 of how often each word occurs; space ``confound:log_frequency:word``.

    Parameters
    ----------
    stimuli : StimulusSet
    counts : mapping of str to float
        Count, or rate, of each word in lower case, without punctuation around it.
    floor : float, optional
        What a word that is not in the table counts as. Default: the smallest count in the table. Such words are
        named in a warning.

    Examples
    --------
    >>> words = StimulusSet.from_texts(["The fox."]).words()
    >>> log_frequency(words, {"the": 1000, "fox": 10}).values.ravel().tolist()
    [3.0, 1.0]
    """
    table = pd.Series(dict(counts), dtype=float)
    if table.empty or not (table > 0).all():
        raise ValueError(f"log_frequency: counts must be above zero, got {len(table)} words, of which "
                         f"{int((~(table > 0)).sum())} are not: {list_ids(table.index[~(table > 0)])}.")
    ids, coords = event_coords(stimuli)
    words = [_bare(t) for t in _texts(stimuli)]
    found = table.reindex(words).to_numpy()
    unknown = np.isnan(found)
    if unknown.any():
        floor = float(table.min()) if floor is None else floor
        lacking = pd.unique(np.asarray(words, object)[unknown])
        warn_user(f"log_frequency: {int(unknown.sum())} words are not in the table and count as {floor:g}: "
                  f"{list_ids(lacking)}.", "unknown-words", np.asarray(ids)[unknown])
        found = np.where(unknown, floor, found)
    return _space(np.log10(found), ids, "log_frequency", "word", coords)


def identity(stimuli: StimulusSet, column: str) -> xr.DataArray:
    """Return one column a value of a metadata column, one where a stimulus has it.

    Space ``confound:identity.COLUMN:all``; the coord ``category`` of the feature dim names the values.

    Examples
    --------
    >>> s = StimulusSet(pd.DataFrame({"text": ["a", "b"], "talker": ["x", "y"]}, index=["s0", "s1"]))
    >>> identity(s, "talker").values.tolist()
    [[1.0, 0.0], [0.0, 1.0]]
    """
    if column not in stimuli.table.columns:
        raise ValueError(f"identity: the set {stimuli.name!r} has no column {column!r}, only "
                         f"{', '.join(map(str, stimuli.table.columns))}.{suggest(column, stimuli.table.columns)}")
    ids, coords = event_coords(stimuli)
    codes, values = pd.factorize(stimuli.table[column].astype(str), sort=True)
    array = _space(np.eye(len(values))[codes], ids, f"identity.{column}", "all", coords)
    return array.assign_coords(category=("feature", np.asarray(values, dtype=str)))


def luminance(stimuli: StimulusSet) -> xr.DataArray:
    """Return the mean relative luminance of each image, 0 (black) to 1 (white); space ``confound:luminance:image``.

    sRGB values are linearised, and weighted as ITU-R BT.709 weights red, green and blue.
    """
    ids, coords = event_coords(stimuli)
    return _space([pixels.mean() for pixels in _luminances(stimuli)], ids, "luminance", "image", coords)


def contrast(stimuli: StimulusSet) -> xr.DataArray:
    """Return the RMS contrast of each image, the standard deviation of its luminance; space
    ``confound:contrast:image``.
    """
    ids, coords = event_coords(stimuli)
    return _space([pixels.std() for pixels in _luminances(stimuli)], ids, "contrast", "image", coords)


def head_motion(parameters, times, *, derivatives: bool = True, squares: bool = True) -> xr.DataArray:
    """Return motion parameters, and optionally their differences and squares (Friston et al. 1996: 24 columns).

    Parameters
    ----------
    parameters : array of shape (n_samples, n_parameters)
        Three translations and three rotations of one run.
    times : array of shape (n_samples,)
        Seconds of the samples.

    Returns
    -------
    DataArray of shape (n_samples, n_parameters * 2 ** (derivatives + squares))
        Dim ``time``, space ``confound:head_motion:all``.

    Examples
    --------
    >>> head_motion(np.ones((5, 6)), np.arange(5.0)).shape
    (5, 24)
    """
    values = np.asarray(parameters, dtype=np.float64)
    if values.ndim != 2 or len(values) != len(times):
        raise ValueError(f"head_motion: got parameters of shape {values.shape} for {len(times)} times, expected one "
                         "row a time.")
    if derivatives:
        values = np.c_[values, np.diff(values, axis=0, prepend=values[:1])]
    if squares:
        values = np.c_[values, values**2]
    return make_features(values.astype(np.float32), np.asarray(times, float), dim="time", model="confound",
                         layer="head_motion")


def _space(values, ids, layer: str, stream: str, coords: Mapping) -> xr.DataArray:
    values = np.asarray(values, dtype=np.float32)
    values = values[:, None] if values.ndim == 1 else values
    return make_features(values, ids, model="confound", layer=layer, stream=stream, coords=coords)


def _texts(stimuli: StimulusSet) -> list[str]:
    if "text" not in stimuli.table.columns:
        raise ValueError(f"stimuli {stimuli.name!r}: no 'text' column, only {', '.join(stimuli.modalities)}.")
    return [str(t) for t in stimuli.table["text"]]


def _bare(word: str) -> str:
    """Return a word in lower case without the punctuation around it."""
    kept = [i for i, c in enumerate(word) if c.isalnum()]
    return word[kept[0]:kept[-1] + 1].lower() if kept else word.strip().lower()


def _luminances(stimuli: StimulusSet):
    from neuroalign.models.images import open_image

    if "image" not in stimuli.table.columns:
        raise ValueError(f"stimuli {stimuli.name!r}: no 'image' column, only {', '.join(stimuli.modalities)}.")
    stimuli.check_files()
    for stimulus, path in stimuli.table["image"].items():
        try:
            encoded = np.asarray(open_image(path), dtype=np.float64) / 255
        except ValueError as error:
            raise ValueError(f"stimulus {stimulus!r}: {error}") from None
        yield linear_luminance(encoded)
