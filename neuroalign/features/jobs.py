"""Jobs: what one model computes on one set of rows, and the loop that fills the store shard by shard."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from tqdm.auto import tqdm

from neuroalign.data import StimulusSet
from neuroalign.errors import list_ids, warn_user
from neuroalign.features.batching import Budget, Item, out_of_memory, run_batches
from neuroalign.features.fitting import fit_projection, keep, make_projector
from neuroalign.features.hooks import Capture
from neuroalign.features.pooling import pool
from neuroalign.features.projection import PCA, Projector
from neuroalign.features.spans import prepare
from neuroalign.features.storage import encode
from neuroalign.features.store import Entry, covered
from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel

__all__ = ["SHARD_ROWS", "Job", "Space", "StimulusJob", "fill"]

SHARD_ROWS = 512


@dataclass(frozen=True)
class Space:
    """One array of an entry: a stream of a layer, or an output of the model (then `source` is None)."""

    layer: str
    stream: str
    depth: float
    source: Layer | None = None

    @property
    def name(self) -> str:
        """``layer:stream``, its name in the entry."""
        return f"{self.layer}:{self.stream}"


@dataclass
class Job:
    """Rows of one model in one entry of the store.

    Attributes
    ----------
    model : LoadedModel
    entry : Entry
    stimuli : StimulusSet
        One row of the arrays a stimulus.
    spaces : list of Space
    budget : Budget
    random_state : int
    skip : bool
        Leave rows of bad stimuli NaN, instead of raising.
    projection : int, PCA or None
        How rows that are wider are projected.
    project : callable
        ``project(space name, values)``, as `fill` makes it of `projection`.
    """

    model: LoadedModel
    entry: Entry
    stimuli: StimulusSet
    spaces: Sequence[Space]
    budget: Budget
    random_state: int = 0
    skip: bool = False
    projection: int | PCA | None = None
    project: Projector = keep
    unit = "stimuli"
    gap = "have NaN rows"  # what is left of those that were skipped
    skipped: set = field(default_factory=set)
    not_finite: set = field(default_factory=set)

    def shards(self) -> list[tuple[int, int]]:
        """Return the row ranges that are finished together."""
        n = len(self.stimuli)
        return [(start, min(start + SHARD_ROWS, n)) for start in range(0, n, SHARD_ROWS)]

    def lengths(self) -> list[int]:
        """Return the lengths, in tokens, of what goes through the model."""
        raise NotImplementedError

    def compute(self, start: int, stop: int, names: Sequence[str],
                only: set | None = None) -> Iterator[tuple[np.ndarray, Mapping[str, np.ndarray]]]:
        """Yield row numbers and their values by space name, until all rows of the shard (at least `only`) came once."""
        raise NotImplementedError

    def read_or_skip(self, prepare, batch: list[Item]):
        """Prepare a batch; a stimulus that cannot be read is named, and left out if the job skips such."""
        while batch:
            try:
                return batch, prepare(batch)
            except Exception as error:
                if out_of_memory(error):
                    raise
                bad = self._find_bad(prepare, batch, error)
                if not self.skip:
                    raise bad from error
                self.skipped.update(bad.ids)
                batch = [i for i in batch if i.content["stimulus_id"] not in bad.ids]
        return [], None

    def _find_bad(self, prepare, batch, error) -> BadStimuli:
        if isinstance(error, BadStimuli):
            return error
        for item in batch:
            try:
                prepare([item])
            except BadStimuli as bad:
                return bad
            except Exception as single:
                return BadStimuli(f"cannot be read ({type(single).__name__}: {single}).",
                                  [item.content["stimulus_id"]],
                                  "Repair the file, or pass on_error='skip' to leave its row NaN.")
        raise error


@dataclass
class StimulusJob(Job):
    """Every stimulus goes through the model by itself, and its tokens are pooled by stream.

    Attributes
    ----------
    pooling : str
    rows : list of dict
        What the model is given of each stimulus.
    bad : set of str
        Ids left out from the start.
    """

    pooling: str = "mean"
    rows: Sequence[Mapping] = ()
    bad: frozenset = frozenset()

    def lengths(self):
        """Return the lengths of the stimuli that can be used."""
        return [self.model.adapter.length(self.model, row) for row in self.rows if row["stimulus_id"] not in self.bad]

    def compute(self, start, stop, names, only=None):
        """Yield pooled rows, batch by batch."""
        wanted = [s for s in self.spaces if s.name in set(names)]
        layers = list(dict.fromkeys(s.source for s in wanted))
        adapter, model = self.model.adapter, self.model
        items = [Item(i, adapter.length(model, self.rows[i]), adapter.towers(model, self.rows[i]), self.rows[i])
                 for i in range(start, stop) if self.stimuli.ids[i] not in self.bad and (only is None or i in only)]
        self.skipped.update(self.stimuli.ids[i] for i in range(start, stop) if self.stimuli.ids[i] in self.bad)
        read = partial(self.read_or_skip, lambda batch: prepare(model, [i.content for i in batch]))
        with Capture(model, layers, partial(self._reduce, wanted)) as capture:
            def forward(_, inputs):
                values, _ = capture.run(inputs, self.random_state)
                return {name: self.project(name, value).cpu().numpy() for name, value in values.items()}

            for batch, values in run_batches(items, read, forward, self.budget):
                yield np.array([i.position for i in batch]), values

    def _reduce(self, wanted, layer: Layer, tokens: torch.Tensor, inputs: Inputs) -> dict[str, torch.Tensor]:
        return {s.name: pool(tokens, inputs.mask(layer, s.stream), self.pooling) for s in wanted if s.source == layer}


def fill(job: Job, *, storage_dtype: str = "float32", progress: bool = True,
         only: tuple[int, int] | None = None) -> None:
    """Compute what the entry of a job lacks, shard by shard, and nothing else.

    A shard that another process works on is left to it, and taken up if that process dies.

    Parameters
    ----------
    only : (i, n), optional
        Take every n-th shard, from the i-th on.
    """
    names = [s.name for s in job.spaces]
    _repair(job.entry, names)
    _refuse_skipped(job)
    shards = job.shards() if only is None else job.shards()[only[0]::only[1]]
    ledger = job.entry.ledger()
    left = [s for s in shards if _missing(ledger, names, *s)]
    total = sum(b - a for a, b in shards)
    done = total - sum(b - a for a, b in left)
    if left and isinstance(job.projection, PCA):
        fit_projection(job, names, progress=progress)
    job.project = make_projector(job.projection, job.random_state, job.entry)
    with tqdm(total=total, initial=done, unit=f" {job.unit}", desc=job.model.id, disable=not (progress and left),
              dynamic_ncols=True) as bar:
        for wait in (False, True):
            for shard in list(left):
                with job.entry.lock(f"{shard[0]:09d}-{shard[1]:09d}", wait=wait) as mine:
                    if not mine:
                        continue
                    # another process may have finished it since
                    missing = _missing(job.entry.ledger(*shard), _missing(ledger, names, *shard), *shard)
                    if missing:
                        _fill_shard(job, shard, missing, storage_dtype, bar)
                    else:
                        bar.update(shard[1] - shard[0])
                    left.remove(shard)
    _report(job)


def _fill_shard(job: Job, shard: tuple[int, int], names: Sequence[str], storage_dtype: str, bar) -> None:
    start, stop = shard
    job.skipped.clear()
    job.not_finite.clear()
    spaces = {s.name: s for s in job.spaces}
    windows: dict[str, np.memmap] = {}
    written = np.zeros(stop - start, bool)
    for rows, values in job.compute(start, stop, names):
        for name in names:
            array = values[name]
            if name not in windows:
                space = spaces[name]
                job.entry.add_space(space.layer, space.stream, n_features=array.shape[1], dtype=storage_dtype,
                                    depth=None if np.isnan(space.depth) else space.depth)
                windows[name] = job.entry.window(name, start, stop)
            _check_values(job, name, array, windows[name], rows)
            windows[name][rows - start] = encode(array, storage_dtype)
            job.not_finite.update(rows[~np.isfinite(array).all(axis=1)].tolist())
        written[rows - start] = True
        bar.update(len(rows))
    if not windows:
        raise BadStimuli("none of them can be used, so there is nothing to extract.",
                         job.stimuli.ids[start:stop], "Repair them, or leave them out.")
    # Not flushed to the disk: that waits, and what a loss of power takes the checksums find.
    for window in windows.values():
        window[~written] = encode(np.full(window[~written].shape, np.nan, np.float32), storage_dtype)
    job.entry.finish(start, stop, names, skipped=sorted(job.skipped), device=str(job.model.device),
                     not_finite=[job.stimuli.ids[i] for i in sorted(job.not_finite)])


def _check_values(job, name, array, window, rows) -> None:
    if array.shape[1] != window.shape[1]:
        raise ValueError(
            f"model {job.model.id!r}, space {name!r}: rows of {array.shape[1]} features after rows of "
            f"{window.shape[1]}, at stimuli {list_ids(np.asarray(job.stimuli.ids)[rows])}. All rows of a space "
            "must be of one width; pooling='mean' makes them so."
        )
    if window.dtype == np.float16:
        large = np.abs(array) > np.finfo(np.float16).max
        if large.any():
            raise ValueError(
                f"model {job.model.id!r}, space {name!r}: values up to {np.abs(array).max():.3g} do not fit float16. "
                "Use storage_dtype='float32'."
            )


def _missing(ledger: Mapping, names: Sequence[str], start: int, stop: int) -> list[str]:
    inside = {n: [(max(a, start) - start, min(b, stop) - start) for a, b in ledger.get(n, {})
                  if a < stop and b > start] for n in names}
    return [n for n in names if covered(inside[n], stop - start) < 1]


def _repair(entry: Entry, names: Sequence[str]) -> None:
    """Take damaged shards out of the ledger, with a warning."""
    spaces, problems = entry.spaces, {}
    for name in names:
        bad = entry.damaged(name) if name in spaces else {}
        if bad:
            entry.forget(name, bad)
            problems[str(entry.file(name))] = next(iter(bad.values()))
    if problems:
        warn_user(
            f"store: {len(problems)} arrays of {entry.folder} were damaged and are computed again; the first: "
            f"{next(iter(problems.values()))}.", "store-rebuilt", problems)


def _refuse_skipped(job: Job) -> None:
    """Raise where an earlier run with on_error='skip' left rows NaN and this one is not to."""
    skipped = sorted({i for shard in job.entry.shards() for i in shard.get("skipped", ())})
    if skipped and not job.skip:
        raise BadStimuli("could not be used in an earlier run, which left their rows NaN.", skipped,
                         "Repair them, leave them out, or pass on_error='skip'.")


def _report(job: Job) -> None:
    """Warn of rows that were skipped, now or in an earlier run, and of rows that are not finite."""
    shards = job.entry.shards()
    problems = {"skipped": f"were skipped and {job.gap}", "not_finite": "have values that are not finite"}
    for key, what in problems.items():
        ids = list(dict.fromkeys(i for shard in shards for i in shard.get(key, ())))
        if ids:
            unit = "stimuli" if key == "skipped" else job.unit
            warn_user(f"model {job.model.id!r}: {len(ids)} {unit} {what}: {list_ids(ids)}.",
                      f"{unit}-{key.replace('_', '-')}", ids)
