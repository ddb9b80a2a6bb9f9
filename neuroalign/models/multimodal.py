"""What all multimodal families share: which towers a stimulus runs through, sequences of mixed tokens, streams."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from neuroalign.models.adapter import BadStimuli, Inputs, LoadedModel
from neuroalign.models.base import Family
from neuroalign.models.images import has_image
from neuroalign.models.text import has_text
from neuroalign.models.waves import has_file

__all__ = ["Multimodal", "Piece", "images_alone", "join_pieces", "prefixed_masks", "regroup"]

HAS = {
    "image": has_image,
    "text": has_text,
    "audio": lambda stimulus: has_file(stimulus, "audio"),
    "video": lambda stimulus: has_file(stimulus, "video"),
}


class Multimodal(Family):
    """A family whose stimuli have several modalities.

    Attributes
    ----------
    routes : mapping of tuple of str to tuple of str
        Modalities of a stimulus (in the order of `modalities`) -> towers that it runs through. What is not
        there cannot be run.
    """

    modalities: tuple[str, ...] = ("image", "text")
    routes: Mapping[tuple[str, ...], tuple[str, ...]] = {}

    def present(self, stimulus: Mapping) -> tuple[str, ...]:
        """Return the modalities that a stimulus has and the model reads."""
        return tuple(m for m in self.modalities if HAS[m](stimulus))

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the towers that a stimulus runs through."""
        return self.routes[self.present(stimulus)]

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for stimuli that lack a modality, naming the runs that would work."""
        wrong: dict[tuple[str, ...], list[str]] = {}
        for stimulus in stimuli:
            if self.present(stimulus) not in self.routes:
                wrong.setdefault(self.present(stimulus), []).append(stimulus["stimulus_id"])
        if wrong:
            has, ids = next(iter(wrong.items()))
            runs = "; ".join(" with ".join(route) for route in self.routes)
            raise BadStimuli(
                f"{' and '.join(has) or 'nothing that it reads'} alone, which this model ({self.family}) cannot be "
                f"given.", ids, f"Runs that work: {runs}. Add what is missing, or leave them out.",
            )
        for modality in self.modalities:
            rows = [s for s in stimuli if HAS[modality](s)]
            if rows and modality in model.processors:
                model.processors[modality].check(rows)
        _refuse_placeholders(model, stimuli)

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return about how many tokens the stimulus has beside those of its picture, which are alike."""
        return 1 + (model.processors["text"].length(stimulus) if has_text(stimulus) else 0)

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Turn stimuli into a batch; those of a batch run through the same towers."""
        self.check(model, stimuli)
        towers = {self.towers(model, s) for s in stimuli}
        if len(towers) > 1:
            raise ValueError(
                f"prepare: the stimuli of one batch run through different towers {sorted(towers)}; batch those with "
                "the same `towers` together."
            )
        return self.assemble(model, stimuli)

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Make the batch of stimuli that were checked."""
        raise NotImplementedError


def _refuse_placeholders(model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
    """Raise `BadStimuli` for texts with a token that stands for a picture: the model would look for one more."""
    config, tokenizer = getattr(model.module, "config", None), getattr(model.processors.get("text"), "tokenizer", None)
    ids = [getattr(config, f"{modality}_token_id", None) for modality in ("image", "video", "audio") if tokenizer]
    for mark in (tokenizer.convert_ids_to_tokens(i) for i in ids if i is not None):
        wrong = [s["stimulus_id"] for s in stimuli if mark and has_text(s) and mark in s["text"]]
        if wrong:
            raise BadStimuli(f"the text holds {mark!r}, which stands for a picture, sound or film in the sequence of "
                             "the model.", wrong, "Take it out of the text; the picture is put before the text by "
                             "itself.")


@dataclass(frozen=True)
class Piece:
    """A run of tokens of one stream.

    Attributes
    ----------
    stream : {"image", "text", "audio", "video", "special"}
    ids : sequence of int
    offsets : sequence of (start, end)
        Characters of each token, for text.
    """

    stream: str
    ids: Sequence[int]
    offsets: Sequence[tuple[int, int]] = field(default=())


def join_pieces(rows: Sequence[Sequence[Piece]], pad_id: int, device: torch.device, streams: Sequence[str]):
    """Lay the pieces of each stimulus one after the other and pad on the right.

    Returns
    -------
    tensors : dict
        ``input_ids`` and ``attention_mask``, (batch, token).
    masks : dict
        Each of `streams` and ``all``: bool, (batch, token).
    offsets : list of list of (start, end)

    Examples
    --------
    >>> rows = [[Piece("special", [1]), Piece("image", [9, 9]), Piece("text", [5], [(0, 3)])], [Piece("text", [4])]]
    >>> tensors, masks, offsets = join_pieces(rows, 0, torch.device("cpu"), ("image", "text", "special"))
    >>> tensors["input_ids"].tolist(), masks["image"].tolist()
    ([[1, 9, 9, 5], [4, 0, 0, 0]], [[False, True, True, False], [False, False, False, False]])
    """
    width = max(sum(len(piece.ids) for piece in row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    masks = {name: torch.zeros(ids.shape, dtype=torch.bool) for name in (*streams, "all")}
    offsets = []
    for i, row in enumerate(rows):
        start, spans = 0, []
        for piece in row:
            stop = start + len(piece.ids)
            ids[i, start:stop] = torch.as_tensor(piece.ids, dtype=torch.long)
            masks[piece.stream][i, start:stop] = True
            masks["all"][i, start:stop] = True
            spans += list(piece.offsets) or [(0, 0)] * len(piece.ids)
            start = stop
        offsets.append(spans)
    tensors = {"input_ids": ids.to(device), "attention_mask": masks["all"].long().to(device)}
    return tensors, {name: mask.to(device) for name, mask in masks.items()}, offsets


def prefixed_masks(n: int, special: int, tokens: int, device: torch.device, stream="image") -> dict[str, torch.Tensor]:
    """Return the streams of a tower whose first tokens are special, each (n, special + tokens).

    Examples
    --------
    >>> {k: v[0].tolist() for k, v in prefixed_masks(1, 1, 2, torch.device("cpu")).items()}
    {'image': [False, True, True], 'special': [True, False, False], 'all': [True, True, True]}
    """
    everything = torch.ones(n, special + tokens, dtype=torch.bool, device=device)
    own = everything.clone()
    own[:, :special] = False
    masks = {stream: own, "special": ~own, "all": everything}
    return masks if special else {stream: own, "all": everything}


def regroup(tokens: torch.Tensor, counts: Sequence[int]) -> torch.Tensor:
    """Turn tokens in one line, or of the parts of pictures, into rows of stimuli, padded with zeros.

    Parameters
    ----------
    tokens : tensor of shape (sum of parts, token, feature) or (sum of tokens, feature)
    counts : sequence of int
        How many parts, or tokens, each stimulus has.

    Examples
    --------
    >>> regroup(torch.arange(6.0).reshape(3, 2), [1, 2])[:, :, 0].tolist()
    [[0.0, 0.0], [2.0, 4.0]]
    """
    pieces = tokens.split(list(counts))
    return torch.nn.utils.rnn.pad_sequence([p.flatten(0, -2) for p in pieces], batch_first=True)


def images_alone(model: LoadedModel, stimuli: Sequence[Mapping]) -> list[dict]:
    """Process the picture of each stimulus by itself, so that its neighbours do not decide its shape."""
    side = model.processors["image"]
    return [side.features([image]) for image in side.open(stimuli)]
