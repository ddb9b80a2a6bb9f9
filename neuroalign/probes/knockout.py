"""Attention knockout: a model that is kept from reading one span from another, in some of its layers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from neuroalign.data import StimulusSet
from neuroalign.models.adapter import BadStimuli, Inputs, LoadedModel
from neuroalign.models.attention import AttentionSite, Interception
from neuroalign.probes.edges import Edge, Marked, Reader, edge_mask, edge_sites, parse_edges, window_blocks

__all__ = ["Blocks", "EdgeBlocks", "intervene", "knockout", "refuse_forbidden"]


def knockout(model: LoadedModel, stimuli: StimulusSet, edges, *, layers=None, tower: str | None = None) -> LoadedModel:
    """Return a model whose attention is blocked along edges, in a window of layers.

    It is a model like any other: `neuroalign.extract` takes it, batches it, and stores its features under a key of
    their own. The causal mask and padding stay as they are; what a token may no longer read is taken out before the
    softmax, and a token that is left with nothing to read reads nothing. Every forward counts that each of the sites
    was reached.

    Parameters
    ----------
    model : LoadedModel
    stimuli : StimulusSet
        With a column for each span that is a part of a text, or a box in a picture. The model is for these stimuli.
    edges : str or sequence of str
        ``"image->question"`` keeps the question from reading the picture. Spans: streams (``image``, ``text``,
        ``audio``, ``special``, ``all``), ``last`` (the last token; what it reads of itself stays), columns of the
        stimuli that hold a part of each text, ``image[box]`` and ``image[~box]`` with a column of
        (x0, y0, x1, y1) in pixels, and ``encoder``: all that cross-attention reads. Of a Whisper, ``audio`` is the
        frames of the sound alone; those of the silence after it hold what they have read of the sound.
    layers : (int, int) or sequence of int, optional
        Blocks from the first to before the second, or those listed; all of the stack by default.
    tower : str, optional
        Where, if both spans are in several towers; by default in the last of them.

    Returns
    -------
    LoadedModel

    Raises
    ------
    BadStimuli
        A span is empty, spans overlap, or the mask of the model forbids an edge already (in the forward).
    ValueError
        Attention of this model cannot be intervened on, or nothing in it lets the second span read the first.

    Notes
    -----
    After Geva et al. (2023, EMNLP) and Zhang et al. (2025, CVPR, arXiv 2411.18620). Later layers may make up for what
    is missing, so that an effect is a lower bound.

    Examples
    --------
    >>> cut = knockout(model, stimuli, "image->question", layers=(8, 16))  # doctest: +SKIP
    >>> features = na.extract(cut, stimuli)                                # doctest: +SKIP
    """
    parsed = parse_edges(edges)
    return intervene(model, EdgeBlocks(Reader(model, stimuli, parsed), layers, tower),
                     " and ".join(e.name for e in parsed) or "nothing")


class Blocks(Protocol):
    """What is blocked in a forward: the tokens of a batch, and where."""

    identity: str  # of all that changes the numbers

    def prepare(self, rows: Sequence[Mapping]) -> Marked:
        """Prepare a batch."""

    def masks(self, inputs: Marked) -> dict[AttentionSite, dict[str, torch.Tensor]]:
        """Return what is blocked at each site, (batch, query, key), by the name of the edge."""


class EdgeBlocks:
    """Edges between spans, in a window of blocks; see `knockout`."""

    def __init__(self, reader: Reader, layers=None, tower: str | None = None):
        self.reader, self.layers, self.tower = reader, layers, tower
        self.sites: dict[tuple, list[AttentionSite]] = {}

    @property
    def identity(self) -> str:
        """Edges, spans and window."""
        return f"{self.reader.identity}@{self.layers}@{self.tower}"

    def prepare(self, rows):
        """Prepare a batch whose streams hold the spans."""
        return self.reader.prepare(rows)

    def where(self, inputs: Marked, edge: Edge) -> list[AttentionSite]:
        """Return the sites of an edge within the window."""
        key = (edge, tuple(inputs.streams))
        if key not in self.sites:
            sites = edge_sites(self.reader.model, inputs, edge, self.tower)
            blocks = window_blocks(self.layers, sites[0].n_blocks)
            self.sites[key] = [s for s in sites if s.block in blocks]
            if not self.sites[key]:
                there = sorted({s.block for s in sites})
                raise ValueError(f"layers: got {self.layers!r}; the edge {edge.name!r} is in none of these blocks, "
                                 f"only in {there} of {sites[0].stack!r}.")
        return self.sites[key]

    def masks(self, inputs):
        """Return the masks of all edges."""
        found: dict = {}
        for edge in self.reader.edges:
            for site in self.where(inputs, edge):
                found.setdefault(site, {})[edge.name] = edge_mask(inputs, site, edge)
        return found


def intervene(model: LoadedModel, blocks: Blocks, name: str) -> LoadedModel:
    """Return a model that runs with attention blocked; `name` says what, in its id."""
    layers = getattr(blocks, "layers", None)
    window = ""
    if layers is not None:
        within = window_blocks(layers, None)
        window = f" in {within[0]}-{within[-1]}"
    return replace(model, id=f"{model.id} without {name}{window}", adapter=Blocked(model.adapter, blocks),
                   weights=f"{model.weights}+blocked:{blocks.identity}")


class Blocked:
    """The adapter of another, but for attention that is blocked during its forwards."""

    def __init__(self, adapter, blocks: Blocks):
        self._adapter, self._blocks = adapter, blocks

    def __getattr__(self, name):
        if name.startswith("__") or name in ("_adapter", "_blocks"):
            raise AttributeError(name)
        return getattr(self._adapter, name)

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Marked:
        """Prepare a batch, with the spans of what is blocked."""
        return self._blocks.prepare(stimuli)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model with attention blocked, and check that this happened."""
        masks = self._blocks.masks(inputs)
        blocked = {site.path: torch.stack(list(own.values())).any(0) for site, own in masks.items()}
        with Interception(model, list(masks), blocked) as inside:
            raw = self._adapter.forward(model, inputs)
            inside.check(blocked)
        refuse_forbidden(inputs.ids, masks, inside.allowed)
        return raw


def refuse_forbidden(ids: Sequence[str], masks: Mapping, allowed: Mapping[str, torch.Tensor]) -> None:
    """Raise `BadStimuli` where the mask of the model forbids all of an edge already.

    Parameters
    ----------
    ids : sequence of str
        Of the rows.
    masks : mapping of AttentionSite to mapping of str to tensor (batch, query, key)
        Edges by name.
    allowed : mapping of path to tensor (batch, 1, query, key)
        What the mask of the model allowed.
    """
    reads: dict[str, Any] = {}
    for site, own in masks.items():
        open_ = allowed[site.path][:, 0]
        for name, mask in own.items():
            inner = mask[:, : open_.shape[1], : open_.shape[2]].to(open_.device)
            reads[name] = reads.get(name, 0) + (inner & open_).sum((1, 2))
    for name, count in reads.items():
        idle = [i for i, n in zip(ids, count.tolist()) if n == 0]
        if idle:
            raise BadStimuli(
                f"edge {name!r}: the mask of the model (causal: a token reads none that comes later) forbids it "
                "already, so that its effect is zero by construction.", idle, "Name the spans the other way round.")
