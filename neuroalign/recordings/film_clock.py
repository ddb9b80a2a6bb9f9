"""Film time: a piecewise map between the clock of a film and that of a recording, made from triggers."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neuroalign.errors import list_ids, warn_user

__all__ = ["FilmClock"]

BREAK = 0.5  # seconds by which the two clocks may part between two triggers before it is a pause or a jump
OFF = 0.01  # relative difference of the rates from which the sampling rate must be wrong
DRIFT = 1e-3  # relative difference that is worth a warning
REACH = 60.0  # seconds that are extrapolated before the first and after the last trigger


@dataclass(frozen=True, repr=False)
class FilmClock:
    """Map seconds of a film to seconds of a recording and back.

    Between triggers the map is linear. Where film and recording part by more than half a second (the film was paused,
    or someone jumped), the map breaks into pieces.

    Parameters
    ----------
    film, recording : array of shape (n_triggers,)
        Seconds of each trigger on both clocks; the recording's increase.
    piece : array of int, shape (n_triggers,)
        Which piece a trigger belongs to.

    Examples
    --------
    >>> clock = FilmClock.from_triggers([0, 1, 2, 3], [10, 11, 52, 53])     # paused for 40 s
    >>> clock.to_recording([0.5, 2.5]).tolist(), clock.to_film([10.5, 52.5]).tolist()
    ([10.5, 52.5], [0.5, 2.5])
    """

    film: np.ndarray
    recording: np.ndarray
    piece: np.ndarray

    def __repr__(self) -> str:
        return (f"<FilmClock: {len(self.film)} triggers in {self.piece[-1] + 1} pieces, film {self.film.min():.1f} to "
                f"{self.film.max():.1f} s>")

    @classmethod
    def from_triggers(cls, film, recording) -> "FilmClock":
        """Make a clock of triggers that are known on both clocks (seconds).

        Raises
        ------
        ValueError
            Fewer than two triggers, unordered ones, or rates so different that the sampling rate must be wrong.
        """
        film, recording = np.asarray(film, float), np.asarray(recording, float)
        if film.shape != recording.shape or film.ndim != 1 or len(film) < 2:
            raise ValueError(f"triggers: got {film.shape} on the film and {recording.shape} on the recording, expected "
                             "the same number, at least two.")
        bad = ~(np.isfinite(film) & np.isfinite(recording))
        if bad.any():
            raise ValueError(f"triggers: not finite at {list_ids(np.flatnonzero(bad))}. Drop them.")
        back = np.flatnonzero(np.diff(recording) <= 0) + 1
        if len(back):
            raise ValueError(f"triggers: the recording does not go forward at {list_ids(back)}. Sort the triggers.")
        steps = np.diff(film), np.diff(recording)
        parted = np.abs(steps[1] - steps[0]) > BREAK
        rate = float(np.median(steps[1] / np.where(steps[0] == 0, np.nan, steps[0])))
        if not abs(rate - 1) < OFF:
            raise ValueError(f"triggers: the recording runs {rate:.4g} times as fast as the film. Is its sampling rate "
                             f"right? {rate:.4g} times the one that was assumed would fit.")
        clock = cls(film, recording, np.concatenate([[0], np.cumsum(parted)]))
        drifting = clock.report().query("abs(drift_ppm) > @DRIFT * 1e6 and n_triggers > 2", local_dict={"DRIFT": DRIFT})
        if len(drifting):
            warn_user(f"triggers: in {len(drifting)} of {clock.piece[-1] + 1} pieces the clocks drift by up to "
                      f"{drifting['drift_ppm'].abs().max() / 1e6:.2%}; the map follows.", "clock-drift", drifting.index)
        return clock

    def to_recording(self, seconds) -> np.ndarray:
        """Return the seconds of the recording at which seconds of the film were shown (the first time).

        NaN where that is not known: between the two triggers around a pause or jump, and more than a minute before
        the first or after the last trigger.
        """
        return self._map(seconds, self.film, self.recording)

    def to_film(self, seconds) -> np.ndarray:
        """Return the seconds of the film that were shown at seconds of the recording; NaN where that is not known."""
        return self._map(seconds, self.recording, self.film)

    def report(self) -> pd.DataFrame:
        """Say for each piece how the two clocks go together.

        Returns
        -------
        DataFrame
            One row a piece: ``film_start``, ``film_stop``, ``recording_start``, ``recording_stop``, ``n_triggers``,
            ``drift_ppm`` (rate of the recording against the film, millionths), ``jitter_ms`` (largest deviation from
            a straight line), ``pause`` (seconds that the recording ran on since the piece before, beyond the film).
        """
        rows = []
        for k in range(self.piece[-1] + 1):
            film, recording = self.film[self.piece == k], self.recording[self.piece == k]
            slope, jitter = np.nan, np.nan
            if len(film) > 1 and np.ptp(film) > 0:
                fit = np.polyfit(film - film[0], recording - recording[0], 1)
                slope = fit[0]
                jitter = np.abs(recording - recording[0] - np.polyval(fit, film - film[0])).max() * 1000
            pause = recording[0] - rows[-1]["recording_stop"] - (film[0] - rows[-1]["film_stop"]) if rows else 0.0
            rows.append({"film_start": film[0], "film_stop": film[-1], "recording_start": recording[0],
                         "recording_stop": recording[-1], "n_triggers": len(film), "drift_ppm": (slope - 1) * 1e6,
                         "jitter_ms": jitter, "pause": pause})
        return pd.DataFrame(rows).rename_axis("piece")

    def _map(self, seconds, source, target) -> np.ndarray:
        seconds = np.asarray(seconds, float)
        out = np.full(seconds.shape, np.nan)
        for k in range(self.piece[-1] + 1):
            own = self.piece == k
            mapped = _extended(seconds, source[own], target[own])
            early, late = REACH * (k == 0), REACH * (k == self.piece[-1])  # between pieces nothing is known
            inside = (seconds >= source[own][0] - early) & (seconds <= source[own][-1] + late)
            out = np.where(np.isnan(out) & inside, mapped, out)
        return out


def _extended(seconds, source, target) -> np.ndarray:
    """Interpolate, and go on at a rate of one beyond both ends."""
    inside = np.interp(seconds, source, target)
    inside = np.where(seconds < source[0], target[0] + (seconds - source[0]), inside)
    return np.where(seconds > source[-1], target[-1] + (seconds - source[-1]), inside)
