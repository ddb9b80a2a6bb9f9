"""Controls for edges: random reads, as many and as strong as those of an edge, in the same layers."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neuroalign.data import StimulusSet
from neuroalign.errors import warn_user
from neuroalign.features.batching import Item, run_batches
from neuroalign.features.hooks import pinned
from neuroalign.features.planning import make_budget
from neuroalign.models.adapter import LoadedModel
from neuroalign.models.attention import AttentionSite, Interception
from neuroalign.probes.edges import Edge, Reader, edge_mask
from neuroalign.probes.knockout import EdgeBlocks
from neuroalign.stats import child_rng

__all__ = ["Matched", "PairBlocks", "match_pairs", "matched_edges"]

NEAR = 3  # candidates on either side of the wanted mass that one is drawn from
CLOSE = (0.8, 1.25)  # ratio of masses that is no cause for a warning


@dataclass(frozen=True)
class Matched:
    """Random reads in the place of those of an edge.

    Attributes
    ----------
    blocks : PairBlocks
        For `neuroalign.probes.knockout.intervene`.
    mass_ratio : float
        Attention mass of the random reads over that of the edge, mean over stimuli.
    """

    blocks: "PairBlocks"
    mass_ratio: float


class PairBlocks:
    """Single reads of each stimulus, by the places of its tokens without padding."""

    def __init__(self, reader: Reader, sites: Sequence[AttentionSite], pairs: Mapping[str, np.ndarray], identity: str):
        self.reader, self.sites, self.pairs, self.identity = reader, list(sites), pairs, identity

    def prepare(self, rows):
        """Prepare a batch."""
        return self.reader.prepare(rows)

    def masks(self, inputs):
        """Return the reads of each row at each site."""
        return {site: {"random reads": self._mask(inputs, site)} for site in self.sites}

    def _mask(self, inputs, site) -> torch.Tensor:
        queries, keys = (inputs.streams[t]["all"] for t in (site.tower, site.reads))
        mask = torch.zeros(*queries.shape, keys.shape[1], dtype=torch.bool, device=queries.device)
        for row, stimulus in enumerate(inputs.ids):
            here, there = queries[row].nonzero()[:, 0], keys[row].nonzero()[:, 0]
            reader, read = torch.from_numpy(self.pairs[stimulus]).to(queries.device).unbind(1)
            mask[row, here[reader], there[read]] = True
        return mask


def matched_edges(model: LoadedModel, stimuli: StimulusSet, edge: Edge, *, layers=None, tower: str | None = None,
                  n: int = 5, batch_size: int | None = None, random_state: int = 0) -> list[Matched]:
    """Draw random reads that match an edge in number, layers and attention mass, for each stimulus.

    One forward measures the attention that each token pays to each other, mean over heads, summed over the layers of
    the window. The reads of the edge are replaced one by one by reads off the edge that the mask of the model allows
    and that carry about as much; what a token reads of itself is left alone.

    Parameters
    ----------
    model, stimuli
    edge : Edge
    layers, tower
        As in `neuroalign.probes.knockout`.
    n : int
        How many sets of reads.
    batch_size, random_state

    Raises
    ------
    ValueError
        The edge is all that is read there, so that nothing is left to draw from.
    """
    blocks = EdgeBlocks(Reader(model, stimuli, [edge]), layers, tower)
    found: dict[str, list[np.ndarray]] = {}
    ratios: list[list[float]] = []
    short, sites = [], []
    for inputs, place, seen in _measured(model, blocks, edge, batch_size, random_state):
        sites = place
        for row, stimulus in enumerate(inputs.ids):
            mass, own, free = (x[row] for x in seen)
            rng = child_rng(random_state, f"random reads {edge.name} {layers} {stimulus}")
            draws = [match_pairs(mass, own, free, rng) for _ in range(n)]
            if len(draws[0]) == 0:
                raise ValueError(f"edge {edge.name!r}: it holds all that is read in these layers (stimulus "
                                 f"{stimulus!r}), so there are no other reads to compare it with. Pass n_controls=0, "
                                 "or a smaller edge.")
            if len(draws[0]) < own.sum():
                short.append(stimulus)
            found[stimulus] = draws
            ratios.append([mass[tuple(d.T)].sum() / max(mass[own].sum(), 1e-12) for d in draws])
    ratio = np.mean(ratios, 0)
    if short:
        warn_user(f"edge {edge.name!r}: for {len(short)} of {len(stimuli)} stimuli fewer reads are left off the edge "
                  "than on it, and all were taken: the control blocks less.", "few-control-reads", short)
    elif not CLOSE[0] < ratio.mean() < CLOSE[1]:
        warn_user(f"edge {edge.name!r}: random reads that carry as much attention are not there; those drawn carry "
                  f"{ratio.mean():.2f} times as much.", "unmatched-attention", stimuli.ids)
    reader = Reader(model, stimuli, [])
    return [Matched(PairBlocks(reader, sites, {i: d[k] for i, d in found.items()},
                               f"random {k} of {blocks.identity} seed {random_state}"), float(ratio[k]))
            for k in range(n)]


def match_pairs(mass: np.ndarray, edge: np.ndarray, free: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw, without replacement, a free pair of about the same mass for each pair of an edge.

    Parameters
    ----------
    mass : array of shape (query, key)
    edge, free : bool array of shape (query, key)
        The pairs to be matched, and those to draw from.
    rng : Generator

    Returns
    -------
    int array of shape (n_pairs, 2)
        All of the free ones where there are fewer.

    Examples
    --------
    >>> mass = np.array([[0.1, 0.9, 0.12, 0.5]])
    >>> match_pairs(mass, mass == 0.1, mass > 0.11, np.random.default_rng(0)).shape
    (1, 2)
    """
    candidates = np.argwhere(free)
    order = np.argsort(mass[free], kind="stable")
    values, left = mass[free][order].tolist(), candidates[order].tolist()
    drawn = []
    for wanted in rng.permutation(mass[edge]):
        if not left:
            break
        at = bisect_left(values, wanted) + int(rng.integers(-NEAR, NEAR))
        at = min(max(at, 0), len(left) - 1)
        values.pop(at)
        drawn.append(left.pop(at))
    return np.array(drawn, int).reshape(-1, 2)


def _measured(model, blocks: EdgeBlocks, edge: Edge, batch_size, random_state):
    """Yield inputs, sites, and for each row the attention mass, the edge and what is free, without padding."""
    adapter = model.adapter
    items = [Item(i, adapter.length(model, row), adapter.towers(model, row), row)
             for i, row in enumerate(blocks.reader.rows())]

    def forward(_, inputs):
        sites, total, allowed = blocks.where(inputs, edge), {}, {}

        def see(site, weights, may):
            total["mass"] = total.get("mass", 0) + weights.mean(1)
            allowed["may"] = allowed.get("may", False) | may[:, 0]

        with Interception(model, sites, see=see) as inside, pinned(model.device, random_state):
            adapter.forward(model, inputs)
            inside.check(s.path for s in sites)
        own = edge_mask(inputs, sites[0], edge)
        queries, keys = (inputs.streams[t]["all"] for t in (sites[0].tower, sites[0].reads))
        size = own.shape[1:]
        may = allowed["may"][:, :size[0], :size[1]] & queries[:, :, None] & keys[:, None]
        free = may & ~own
        if sites[0].tower == sites[0].reads:
            free &= ~torch.eye(size[0], dtype=torch.bool, device=own.device)
        cut = [[x[q][:, k].cpu().numpy() for x, q, k in zip(part, queries, keys)]
               for part in (total["mass"][:, :size[0], :size[1]], own & may, free)]
        return inputs, sites, cut

    def read(batch):
        return batch, blocks.prepare([i.content for i in batch])

    for _, result in run_batches(items, read, forward, make_budget(model, batch_size)):
        yield result
