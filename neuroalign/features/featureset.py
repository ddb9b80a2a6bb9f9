"""FeatureSet: what `extract` returns, a mapping from space ids to labelled, lazily opened arrays."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import make_features, space_id
from neuroalign.errors import suggest
from neuroalign.features.storage import decoded_lazily
from neuroalign.features.store import Entry

__all__ = ["FeatureSet", "Stored"]


@dataclass(frozen=True)
class Stored:
    """Where the array of one space lies, and its coords of the stimulus dim."""

    entry: Entry
    name: str
    model: str
    layer: str
    stream: str
    depth: float
    n_features: int
    ids: tuple[str, ...]
    coords: Mapping[str, np.ndarray]

    @property
    def n_rows(self) -> int:
        """Stimuli, words, tokens or moments."""
        return len(self.ids)

    @property
    def space_id(self) -> str:
        """``model:layer:stream``."""
        return space_id(self.model, self.layer, self.stream)

    def open(self) -> xr.DataArray:
        """Return the labelled array over a read-only memory map; bfloat16 is decoded to float32 as it is read."""
        stored = self.entry.open(self.name)
        values = decoded_lazily(stored) if self.entry.spaces[self.name]["dtype"] == "bfloat16" else stored
        array = make_features(values, self.ids, model=self.model, layer=self.layer,
                              stream=self.stream, depth=self.depth, coords=self.coords)
        offsets = self.entry.record["about"].get("offsets")
        more = {} if offsets is None else {"offsets": np.asarray(offsets)}
        return array.assign_attrs(store=str(self.entry.file(self.name)), **more)


class FeatureSet(Mapping):
    """Feature spaces, by space id; each is opened as a memory map when it is asked for, and never copied.

    It is what `neuroalign.encode` and `neuroalign.compare` take.

    Parameters
    ----------
    stored : sequence of Stored

    Attributes
    ----------
    spaces : DataFrame
        space_id, model, layer, stream, depth, n_rows, n_features; one row a space, in order.
    """

    def __init__(self, stored: Sequence[Stored]):
        self._stored = {s.space_id: s for s in stored}

    @classmethod
    def from_entry(cls, entry: Entry, spaces: Sequence | None = None,
                   coords: Mapping[str, np.ndarray] | None = None) -> "FeatureSet":
        """Return the complete spaces of an entry of the store.

        Parameters
        ----------
        entry : Entry
        spaces : sequence of str, optional
            Names ``layer:stream`` in the order wanted; default: all.
        coords : mapping, optional
            Metadata of the rows.
        """
        record, complete = entry.record, set(entry.complete())
        infos, ids = record["spaces"], tuple(record["rows"])
        wanted = infos if spaces is None else spaces
        return cls([
            Stored(entry, name, record["model"], infos[name]["layer"], infos[name]["stream"],
                   np.nan if infos[name]["depth"] is None else infos[name]["depth"], infos[name]["n_features"], ids,
                   dict(coords or {}))
            for name in wanted if name in complete])

    def __getitem__(self, key: str) -> xr.DataArray:
        if key not in self._stored:
            raise KeyError(f"features: no space {key!r} among {len(self)}.{suggest(key, self._stored)}")
        return self._stored[key].open()

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def __or__(self, other: "FeatureSet") -> "FeatureSet":
        return FeatureSet([*self._stored.values(), *other._stored.values()])

    @property
    def spaces(self) -> pd.DataFrame:
        """One row a space: space_id, model, layer, stream, depth, n_rows, n_features."""
        columns = ["space_id", "model", "layer", "stream", "depth", "n_rows", "n_features"]
        return pd.DataFrame([[getattr(s, c) for c in columns] for s in self._stored.values()], columns=columns)

    @property
    def files(self) -> dict[str, str]:
        """Space id to the ``.npy`` file that holds it; `numpy.load` reads it."""
        return {k: str(s.entry.file(s.name)) for k, s in self._stored.items()}

    def select(self, *, models: str | Sequence[str] | None = None, layers: str | Sequence[str] | None = None,
               streams: str | Sequence[str] | None = None) -> "FeatureSet":
        """Return the spaces whose model, layer and stream match; each is a name, a pattern (``*``), or several.

        Raises
        ------
        KeyError
            If nothing matches.
        """
        kept = list(self._stored.values())
        for field, wanted in (("model", models), ("layer", layers), ("stream", streams)):
            if wanted is None:
                continue
            patterns = [wanted] if isinstance(wanted, str) else list(wanted)
            known = list(dict.fromkeys(getattr(s, field) for s in self._stored.values()))
            for pattern in patterns:
                if not any(_matches(n, pattern) for n in known):
                    raise KeyError(f"features: no {field} {pattern!r}, there are {len(known)}: "
                                   f"{', '.join(known[:4])}{' ...' if len(known) > 4 else ''}."
                                   f"{suggest(pattern, known)}")
            kept = [s for s in kept if any(_matches(getattr(s, field), p) for p in patterns)]
        return FeatureSet(kept)

    def __repr__(self) -> str:
        lines = [self._headline()]
        lines += [f"  {s.space_id}  ({len(s.ids)}, {s.n_features})" for s in self._stored.values()]
        if len(lines) > 13:
            lines = lines[:7] + [f"  ... {len(self) - 12} more"] + lines[-6:]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        table = self.spaces.round({"depth": 3})
        table["n_rows"] = [len(s.ids) for s in self._stored.values()]
        headline = self._headline().replace("<", "").replace(">", "")
        return f"<p><b>{headline}</b></p>{table.to_html(index=False, escape=True, max_rows=12)}"

    def _headline(self) -> str:
        rows = sorted({len(s.ids) for s in self._stored.values()})
        models = list(dict.fromkeys(s.model for s in self._stored.values()))
        size = sum(s.entry.file(s.name).stat().st_size for s in self._stored.values()) / 1e6
        return (f"<FeatureSet: {len(self)} spaces of {len(models)} model{'s' * (len(models) != 1)}, "
                f"{' or '.join(map(str, rows))} stimuli, {size:.1f} MB on disk>")


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)
