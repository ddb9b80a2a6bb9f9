"""Tables of events: read, checked, sorted; words with their frame, scene cuts with their sentence."""

from pathlib import Path

import numpy as np
import pandas as pd

from neuroalign.data.stimuli import StimulusSet
from neuroalign.data.videos import frames_at
from neuroalign.errors import list_ids, warn_user
from neuroalign.recordings.stimuli import write_missing_images
from neuroalign.recordings.textgrid import read_textgrid

__all__ = ["check_inside", "language_aligned", "read_events", "vision_aligned"]

NAMES = ("stimulus_id", "stim_file", "trial_type", "value", "text")  # columns that may name what an event shows
FRAME = 0.1  # seconds of film that stand for its frame
CHUNK = 64  # frames held at a time


def read_events(source, *, tier: str | None = None, prefix: str = "event") -> pd.DataFrame:
    """Read events from a table, a BIDS ``events.tsv``, a Praat TextGrid, or timed stimuli.

    Parameters
    ----------
    source : DataFrame, StimulusSet or path
        With a column ``onset`` in seconds (a TextGrid: the intervals that hold text).
    tier : str, optional
        Of a TextGrid.
    prefix : str
        Ids of events that have no name: ``PREFIX#0``, ``PREFIX#1``, ...

    Returns
    -------
    DataFrame
        ``stimulus_id``, ``onset`` (seconds), then the other columns, sorted by onset (by run and onset with a column
        ``run``). ``stimulus_id`` is the column of that name, else ``stim_file``, ``trial_type`` or ``value``; words
        of a TextGrid are numbered. Events that were not sorted carry a warning.

    Raises
    ------
    ValueError
        No onsets, or some that are missing or no numbers.

    Examples
    --------
    >>> read_events(pd.DataFrame({"onset": [0.5, 2.0], "trial_type": ["cat", "dog"]}))["stimulus_id"].tolist()
    ['cat', 'dog']
    """
    table, what = _table(source, tier)
    if "onset" not in table:
        raise ValueError(f"{what}: columns are {list_ids(table.columns)}, expected 'onset' (seconds).")
    onset = pd.to_numeric(table["onset"], errors="coerce")
    bad = ~np.isfinite(onset.to_numpy(float))
    if bad.any():
        raise ValueError(f"{what}: onsets of rows {list_ids(np.flatnonzero(bad))} are missing or no numbers. Give "
                         "them, or drop these events.")
    table = table.assign(onset=onset.astype(float))
    if "duration" in table:
        table["duration"] = pd.to_numeric(table["duration"], errors="coerce").astype(float)
    named = next((c for c in NAMES[:4] if c in table), None)
    ids = [f"{prefix}#{k}" for k in range(len(table))] if named is None else table[named].astype(str).tolist()
    table = table.drop(columns="stimulus_id", errors="ignore")
    table.insert(0, "stimulus_id", ids)
    by = ["run", "onset"] if "run" in table else ["onset"]
    order = table.reset_index(drop=True).sort_values(by, kind="stable").index
    rank = np.argsort(order)
    if (late := rank < np.maximum.accumulate(rank)).any():
        moved = np.array(ids)[late]
        warn_user(f"{what}: the events are not in order of their onsets and were sorted; {len(moved)} stood below "
                  f"later ones: {list_ids(moved)}.", "unsorted-events", moved)
    return table.iloc[order].reset_index(drop=True)


def check_inside(events: pd.DataFrame, start: float, stop: float, before: float, after: float, *,
                 on_outside: str = "error", bad_spans=()) -> tuple[pd.DataFrame, list[str]]:
    """Find the events whose window lies within a recording and outside of its bad spans.

    Parameters
    ----------
    events : DataFrame
        As `read_events` returns.
    start, stop : float
        Seconds at which the recording begins and ends.
    before, after : float
        Seconds that are needed on either side of an onset.
    on_outside : {"error", "drop"}
    bad_spans : sequence of (onset, duration)

    Returns
    -------
    events : DataFrame
        Those that can be used.
    reasons : list of str
        ``id: reason`` of those that cannot.
    """
    onset = events["onset"].to_numpy(float)
    names = events["stimulus_id"].to_numpy(str)
    outside = (onset - before < start - 1e-9) | (onset + after > stop + 1e-9)
    if outside.any() and on_outside == "error":
        scale = " Milliseconds or samples instead of seconds?" if onset.max() > 20 * max(stop, 1.0) else ""
        raise ValueError(f"events: {int(outside.sum())} of {len(onset)} need samples outside of the recording, which "
                         f"lasts from {start:g} to {stop:g} s (windows from {before:g} s before to {after:g} s after "
                         f"onsets from {onset.min():g} to {onset.max():g} s): {list_ids(names[outside])}.{scale} Pass "
                         "on_outside='drop' to leave them out.")
    spoilt = np.zeros(len(onset), bool)
    for begin, length in bad_spans:
        spoilt |= (onset - before < begin + length) & (onset + after > begin)
    spoilt &= ~outside
    reasons = [f"{n}: outside of the recording" for n in names[outside]]
    reasons += [f"{n}: in a bad span" for n in names[spoilt]]
    if outside.any():
        warn_user(f"events: {int(outside.sum())} of {len(onset)} dropped, their windows lie outside of the recording: "
                  f"{list_ids(names[outside])}.", "events-outside", names[outside])
    if spoilt.any():
        warn_user(f"events: {int(spoilt.sum())} of {len(onset)} dropped, their windows touch a bad span: "
                  f"{list_ids(names[spoilt])}.", "events-in-bad-spans", names[spoilt])
    return events[~(outside | spoilt)].reset_index(drop=True), reasons


def language_aligned(words, frames=None, *, film_onset: float = 0.0, image_folder=None,
                     ids: str = "word") -> StimulusSet:
    """One event a word: its text, and the film at its onset.

    Parameters
    ----------
    words : DataFrame, StimulusSet or path
        Timed words: ``text`` and ``onset`` on the clock of the recording.
    frames : path, optional
        The film; each event then has the columns ``video``, ``start`` and ``stop`` (seconds of the film, a tenth of a
        second from the onset of the word).
    film_onset : float
        Second of the recording at which the film began. Where the film was paused, give the words a column
        ``film_time`` instead (seconds of the film), as those of ``TreebankRecording.words`` have.
    image_folder : path, optional
        Write the frame that is shown at each event there (PNG) and name it in the column ``image``, for models of
        pictures; those that are there already are kept. Without it the events have short clips, for models of films.
    ids : str
        Prefix of the ids ``word#0``, ... where the table has none.

    Returns
    -------
    StimulusSet
        ``text``, ``onset``, ``duration``, and what else the table says; the sentence so far is in ``context`` where the
        table has it.

    Notes
    -----
    Subramaniam et al. 2024, ICML (arXiv:2406.14481): language-aligned event structures.
    """
    table = read_events(words, prefix=ids)
    if "text" not in table:
        raise ValueError(f"language_aligned: columns are {list_ids(table.columns)}, expected 'text' among them.")
    return _event_set(table, frames, film_onset, image_folder, "language_aligned")


def vision_aligned(cuts, sentences, frames=None, *, film_onset: float = 0.0, image_folder=None, ids: str = "cut",
                   farthest: float | None = None) -> StimulusSet:
    """One event a scene cut: the film there, and the nearest sentence that began before it.

    Parameters
    ----------
    cuts : DataFrame, path, or sequence of float
        Onsets of the scene cuts, on the clock of the recording.
    sentences : DataFrame, StimulusSet or path
        ``text`` and ``onset`` on the same clock.
    frames, film_onset, image_folder
        As for `language_aligned`.
    ids : str
    farthest : float, optional
        Seconds; cuts whose sentence began longer ago than this are left out.

    Returns
    -------
    StimulusSet
        ``text``, ``onset`` (of the cut), ``sentence_onset``, and ``sentence_id``. Cuts before the first sentence are
        left out, with a warning that names them.
    """
    if not isinstance(cuts, (pd.DataFrame, StimulusSet, str, Path)):
        cuts = pd.DataFrame({"onset": np.asarray(cuts, float)})
    table, said = read_events(cuts, prefix=ids), read_events(sentences, prefix="sentence")
    if "text" not in said:
        raise ValueError(f"vision_aligned: sentences have columns {list_ids(said.columns)}, expected 'text'.")
    before = _last_before(said, table)
    gap = table["onset"].to_numpy() - said["onset"].to_numpy()[np.maximum(before, 0)]
    kept = (before >= 0) & (gap <= (np.inf if farthest is None else farthest))
    if not kept.all():
        lost = table["stimulus_id"].to_numpy(str)[~kept]
        warn_user(f"vision_aligned: {len(lost)} of {len(kept)} cuts have no sentence before them"
                  f"{'' if farthest is None else f' within {farthest:g} s'} and are left out: {list_ids(lost)}.",
                  "no-sentence", lost)
    if not kept.any():
        raise ValueError("vision_aligned: no cut has a sentence before it. Are both on one clock, in seconds?")
    table, rows = table[kept].reset_index(drop=True), said.iloc[before[kept]].reset_index(drop=True)
    table = table.assign(text=rows["text"], sentence_onset=rows["onset"], sentence_id=rows["stimulus_id"])
    return _event_set(table, frames, film_onset, image_folder, "vision_aligned")


def _last_before(said: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """Return the row of the last sentence that began before each cut, in its run; -1 where there is none."""
    if "run" not in said and "run" not in table:
        return np.searchsorted(said["onset"].to_numpy(), table["onset"].to_numpy(), side="right") - 1
    alone = [name for name, t in (("sentences", said), ("cuts", table)) if "run" not in t]
    if alone:
        other = said if alone == ["cuts"] else table
        if other["run"].nunique() > 1:
            raise ValueError(f"vision_aligned: the {alone[0]} have no column 'run', the others are of "
                             f"{other['run'].nunique()} runs, each with its own clock. Give both.")
        return _last_before(said.drop(columns="run", errors="ignore"), table.drop(columns="run", errors="ignore"))
    runs = (said["run"].astype(str).to_numpy(), table["run"].astype(str).to_numpy())
    before = np.full(len(table), -1)
    for run in dict.fromkeys(runs[1].tolist()):
        rows, cuts = np.flatnonzero(runs[0] == run), np.flatnonzero(runs[1] == run)
        last = np.searchsorted(said["onset"].to_numpy()[rows], table["onset"].to_numpy()[cuts], side="right")
        before[cuts] = np.r_[-1, rows][last]
    return before


def _table(source, tier) -> tuple[pd.DataFrame, str]:
    if isinstance(source, StimulusSet):
        return source.table.reset_index(), source.name
    if isinstance(source, pd.DataFrame):
        named = source.index.name == "stimulus_id" and "stimulus_id" not in source
        return source.reset_index(drop=not named), "events"
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"events: no file {str(source)!r}.")
    if path.suffix.lower() == ".textgrid":
        words = read_textgrid(path, tier)
        words = words[words["text"].str.strip() != ""].reset_index(drop=True)
        return pd.DataFrame({"onset": words["start"], "duration": words["end"] - words["start"],
                             "text": words["text"].str.strip()}), path.name
    table = pd.read_csv(path, sep="\t" if path.suffix.lower() == ".tsv" else ",", keep_default_na=False,
                        na_values={"onset": ["", "n/a"], "duration": ["", "n/a"]})
    return table, path.name


def _event_set(table: pd.DataFrame, frames, film_onset: float, image_folder, name: str) -> StimulusSet:
    if frames is not None:
        start = table["film_time"] if "film_time" in table else table["onset"] - film_onset
        if (start < 0).any():
            raise ValueError(f"{name}: {int((start < 0).sum())} events begin before the film (film_onset="
                             f"{film_onset:g} s).")
        table = table.assign(video=str(frames), start=start, stop=start + FRAME)
        if image_folder is not None:
            rate = table["frame_rate"].iloc[0] if "frame_rate" in table else None
            paths = _write_frames(Path(image_folder), Path(frames), start.to_numpy(float), rate)
            table = table.assign(image=paths).drop(columns=["video", "start", "stop", "frame_rate"], errors="ignore")
    table = table.set_index("stimulus_id")
    if table.index.has_duplicates:
        table.index = [f"{name}#{k}" for k in range(len(table))]
    return StimulusSet(table.rename_axis("stimulus_id"), name)


def _write_frames(folder: Path, film: Path, moments: np.ndarray, frame_rate) -> list[str]:
    """Write the frame of each moment, named after its millisecond, and return the paths."""
    names = [f"{film.stem}-{round(t * 1000):09d}ms" for t in moments]
    missing = [k for k in np.argsort(moments, kind="stable") if not (folder / f"{names[k]}.png").is_file()]
    for first in range(0, len(missing), CHUNK):
        rows = missing[first:first + CHUNK]
        write_missing_images(folder, [names[k] for k in rows], frames_at(film, moments[rows], frame_rate))
    return [str(folder / f"{name}.png") for name in names]
