"""Edges between named spans: what is blocked, which tokens that is, and where in a model it can be."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isqrt

import numpy as np
import torch
from PIL import Image

from neuroalign.data import MODALITIES, StimulusSet
from neuroalign.data.stimuli import CLIP_COLUMNS
from neuroalign.errors import list_ids, suggest
from neuroalign.features.spans import LAST, find_spans, prepare
from neuroalign.models.adapter import BadStimuli, Inputs, LoadedModel, check_loaded
from neuroalign.models.attention import AttentionSite, attention_sites
from neuroalign.models.vocabulary import SPEAK

__all__ = ["ENCODER", "Edge", "Marked", "Reader", "edge_mask", "edge_sites", "parse_edges", "window_blocks"]

ENCODER = "encoder"  # all that cross-attention reads, padding too
STREAMS = (*MODALITIES, "special", "all")
SPAN = re.compile(r"(\w+)(?:\[(~?)(\w+)\])?")


@dataclass(frozen=True)
class Edge:
    """What `target` reads of `source`.

    Attributes
    ----------
    source, target : str
        Spans: a stream (``image``), a column of the stimuli with a part of each text (``question``), ``last``,
        ``encoder``, ``image[box]`` or ``image[~box]``, where the column ``box`` holds (x0, y0, x1, y1) in pixels of
        each picture.
    """

    source: str
    target: str

    @property
    def name(self) -> str:
        """``source->target``."""
        return f"{self.source}->{self.target}"


@dataclass
class Marked(Inputs):
    """Inputs whose streams hold the spans of edges, and whose rows have ids."""

    ids: tuple[str, ...] = ()


def parse_edges(edges) -> list[Edge]:
    """Return edges from ``"a->b"``, or a sequence of these.

    Examples
    --------
    >>> [e.name for e in parse_edges(["image -> question", "question->last"])]
    ['image->question', 'question->last']
    """
    texts = [edges] if isinstance(edges, (str, Edge)) else list(edges)
    found = []
    for text in texts:
        parts = [text.source, text.target] if isinstance(text, Edge) else [p.strip() for p in str(text).split("->")]
        if len(parts) != 2 or not all(SPAN.fullmatch(p) for p in parts):
            raise ValueError(f"edges: got {text!r}, expected 'SPAN->SPAN' such as 'image->question', 'question->last' "
                             "or 'image[box]->question': the second span reads the first.")
        found.append(Edge(*parts))
    twice = sorted({e.name for e in found if found.count(e) > 1})
    if twice:
        raise ValueError(f"edges: {list_ids(twice)} given more than once.")
    return found


def window_blocks(layers, n_blocks: int | None) -> tuple[int, ...]:
    """Return the blocks of a window: all of them (None), those from the first to before the second, or those listed.

    `n_blocks` None: how many there are is not known yet.

    Examples
    --------
    >>> window_blocks((1, 3), 6), window_blocks([0, 4, 5], 6)
    ((1, 2), (0, 4, 5))
    """
    if layers is None:
        return tuple(range(n_blocks))
    pair = isinstance(layers, tuple) and len(layers) == 2
    blocks = tuple(range(*layers)) if pair else tuple(int(i) for i in layers) if np.iterable(layers) else ()
    if not blocks or min(blocks) < 0 or (n_blocks is not None and max(blocks) >= n_blocks):
        end = "on" if n_blocks is None else f"to {n_blocks - 1}"
        raise ValueError(f"layers: got {layers!r}, expected blocks from 0 {end}: a pair (first, stop), a list, or None "
                         "for all.")
    return blocks


class Reader:
    """What a model is given of stimuli, with the spans of edges marked.

    Parameters
    ----------
    model : LoadedModel
    stimuli : StimulusSet
    edges : sequence of Edge
    """

    def __init__(self, model: LoadedModel, stimuli: StimulusSet, edges: Sequence[Edge]):
        check_loaded(model)
        self.model, self.stimuli, self.edges = model, stimuli, list(edges)
        names = list(dict.fromkeys(n for e in edges for n in (e.source, e.target)))
        self.boxed = [n for n in names if "[" in n]
        plain = [n for n in names if "[" not in n and n not in (*STREAMS, LAST, ENCODER)]
        columns = [*plain, *(SPAN.fullmatch(n)[3] for n in self.boxed)]
        known = [c for c in stimuli.table.columns if c not in MODALITIES]
        for column in columns:
            if column not in known:
                choice = [*STREAMS, LAST, ENCODER, *known]
                raise ValueError(f"edges: no span {column!r}; the streams and columns are {', '.join(choice)}."
                                 f"{suggest(column, choice)} A column that holds a part of each text, or a box, is a "
                                 "span.")
        self.spans = find_spans(stimuli, plain) if plain else {i: {} for i in stimuli.ids}
        for name in self.boxed:
            base, _, column = SPAN.fullmatch(name).groups()
            if base != "image":
                raise ValueError(f"edges: {name!r}: boxes are of pictures, expected 'image[{column}]'.")
        self.boxes = {i: {n: stimuli.table.loc[i, SPAN.fullmatch(n)[3]] for n in self.boxed} for i in stimuli.ids}

    @property
    def identity(self) -> str:
        """A sha256 over the edges and what they mean for the stimuli."""
        content = [[e.name for e in self.edges], self.spans, self.boxes]
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def rows(self) -> list[dict]:
        """Return what the model is given of each stimulus."""
        table, model = self.stimuli.table, self.model
        columns = [c for c in (*MODALITIES, *CLIP_COLUMNS) if c in table and (c in CLIP_COLUMNS or c in model.reads)]
        rows = [{"stimulus_id": i} | {k: v for k, v in row.items() if k in CLIP_COLUMNS or (isinstance(v, str) and v)}
                for i, row in zip(self.stimuli.ids, table[columns].to_dict("records"))]
        model.adapter.check(model, rows)
        return rows

    def prepare(self, rows: Sequence[Mapping]) -> Marked:
        """Prepare a batch whose streams hold the spans."""
        given = [{**row, "spans": {**row.get("spans", {}), **self.spans[row["stimulus_id"]]}} for row in rows]
        inputs = prepare(self.model, given)
        streams = {tower: dict(masks) for tower, masks in inputs.streams.items()}
        end = len(self.model.processors["text"].suffix) if self.model.adapter.family in SPEAK else 0
        for masks in streams.values():
            if LAST in masks and end:  # an answer follows the text, not the token that ends it
                masks[LAST] = masks[LAST].roll(-end, 1)
        for name in self.boxed:
            for masks in streams.values():
                if "image" in masks:
                    masks[name] = torch.stack([
                        _boxed(self.model, row, self.boxes[row["stimulus_id"]][name], image, "~" in name)
                        for row, image in zip(rows, masks["image"])])
        ids = tuple(row["stimulus_id"] for row in rows)
        return Marked(inputs.tensors, streams, inputs.offsets, ids)


def edge_sites(model: LoadedModel, inputs: Inputs, edge: Edge, tower: str | None = None) -> list[AttentionSite]:
    """Return the sites where an edge can be: those of the last stack of blocks (or of a tower) that have both spans.

    Raises
    ------
    ValueError
        There is none, so that nothing can flow along the edge: says what reads what.
    """
    able = [s for s in attention_sites(model) if s.tower in inputs.streams and s.reads in inputs.streams]
    fit = [s for s in able if edge.target in inputs.streams[s.tower] and (
        s.tower != s.reads if edge.source == ENCODER else edge.source in inputs.streams[s.reads])]
    fit = [s for s in fit if tower is None or s.tower == tower]
    if not fit:
        reads = dict.fromkeys(f"{s.tower} reads {s.reads} ({', '.join(inputs.streams[s.reads])})" for s in able)
        where = f"in tower {tower!r} " if tower else ""
        raise ValueError(f"edges: {edge.name!r}: nothing {where}of model {model.id!r} ({model.adapter.family}) lets "
                         f"{edge.target!r} read {edge.source!r}. Its attention: {'; '.join(reads)}.")
    return [s for s in fit if s.stack == fit[-1].stack]


def edge_mask(inputs: Marked, site: AttentionSite, edge: Edge) -> torch.Tensor:
    """Return what an edge is at a site: bool (batch, query, key).

    The last token is no part of what it reads: of ``text->last``, the source is the text before it.

    Raises
    ------
    BadStimuli
        A span is empty, or the spans overlap.
    """
    target, keys = inputs.streams[site.tower][edge.target], inputs.streams[site.reads]
    source = torch.ones_like(keys["all"]) if edge.source == ENCODER else keys[edge.source]
    if site.tower == site.reads:
        if edge.target == LAST:
            source = source & ~target
        both = source & target
        _refuse(inputs.ids, both.any(1), f"edge {edge.name!r}: its spans overlap (both hold {int(both.sum(1).max())} "
                "of the same tokens).", "Name spans that have no token in common.")
    for name, span in ((edge.source, source), (edge.target, target)):
        _refuse(inputs.ids, ~span.any(1), f"edge {edge.name!r}: the span {name!r} is empty, it holds no token.",
                "Leave them out, or name another span.")
    return target[:, :, None] & source[:, None, :]


def _refuse(ids, wrong: torch.Tensor, problem: str, remedy: str) -> None:
    if wrong.any():
        raise BadStimuli(problem, [i for i, bad in zip(ids, wrong.tolist()) if bad], remedy)


def _boxed(model: LoadedModel, row: Mapping, box, image: torch.Tensor, outside: bool) -> torch.Tensor:
    """Return which tokens of a picture a box touches (or does not), within the tokens of a row."""
    try:
        touched = _touched(model, row, box, int(image.sum()))
    except ValueError as error:
        raise BadStimuli(f"image box: {error}.", [row["stimulus_id"]],
                         "Give (x0, y0, x1, y1) in pixels of the picture, x to the right and y down.") from None
    mask = torch.zeros_like(image)
    mask[image.nonzero()[:, 0]] = torch.from_numpy(touched != outside).to(image.device)
    return mask


def _touched(model: LoadedModel, row: Mapping, box, count: int) -> np.ndarray:
    """Push a white box on black through the image side of the model, and see which tokens it reaches."""
    side = model.processors["image"]
    size = side.open([row])[0].size
    try:
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError):
        raise ValueError(f"got {box!r}") from None
    if not (0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]):
        raise ValueError(f"({x0:g}, {y0:g}, {x1:g}, {y1:g}) in a picture of {size[0]} x {size[1]} pixels")
    canvases = []
    for fill in (None, (round(x0), round(y0), max(round(x1), round(x0) + 1), max(round(y1), round(y0) + 1)),
                 (0, 0, *size)):
        canvas = Image.new("RGB", size)
        if fill:
            canvas.paste((255, 255, 255), fill)
        canvases.append(side.features([canvas])["pixel_values"].float())
    black, boxed, white = canvases
    inside = (boxed - black).abs() > 0.5 * (white - black).abs().clamp(min=1e-6)
    if inside.ndim == 2:  # patches in one line, those of a token together (Qwen-VL)
        return inside.any(1).reshape(count, -1).any(1).numpy()
    while inside.ndim > 3 and len(inside) == 1:
        inside = inside[0]
    if inside.ndim != 3:
        raise ValueError(f"the model sees the picture in {len(inside)} tiles, whose tokens have no one place")
    height, width = inside.shape[1:]
    rows = isqrt(count * height // width)
    if rows == 0 or count % rows or height % rows or width % (count // rows):
        raise ValueError(f"the {count} tokens of the picture are no grid over its {height} x {width} pixels")
    grid = inside.any(0).reshape(rows, height // rows, count // rows, -1)
    return grid.any(3).any(1).numpy().flatten()
