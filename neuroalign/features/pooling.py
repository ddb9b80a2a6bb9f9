"""Pooling: from the tokens of a layer to one row a stimulus, on the device, by masks."""

import torch

from neuroalign.errors import check_option

__all__ = ["POOLINGS", "pool"]

POOLINGS = ("mean", "max", "cls", "last", "flatten")


def pool(tokens: torch.Tensor, mask: torch.Tensor | None, how: str) -> torch.Tensor:
    """Pool the tokens that a mask selects.

    Parameters
    ----------
    tokens : tensor of shape (batch, token, feature)
    mask : tensor of bool, shape (batch, token), or None
        None: all tokens are real.
    how : {"mean", "max", "cls", "last", "flatten"}
        ``cls`` is the first token of the mask, ``last`` its last one; ``flatten`` lays the tokens side by side,
        and needs as many of them in every row.

    Returns
    -------
    tensor of float32, shape (batch, feature), for ``flatten`` (batch, token * feature)
        NaN in a row whose mask selects nothing.

    Examples
    --------
    >>> x = torch.tensor([[[1.0], [3.0], [8.0]]])
    >>> pool(x, torch.tensor([[True, True, False]]), "mean").item()
    2.0
    """
    check_option("pooling", how, POOLINGS)
    tokens = tokens.float()
    if mask is None:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    mask = mask.to(tokens.device)
    if mask.shape != tokens.shape[:2]:
        raise ValueError(
            f"pooling: activations of shape {tuple(tokens.shape)} do not match the stream's mask of shape "
            f"{tuple(mask.shape)} (batch, token). The adapter must give one mask entry a token."
        )
    pooled = _POOL[how](tokens, mask)
    empty = ~mask.any(1)
    return pooled.masked_fill(empty[:, None], torch.nan) if empty.any() else pooled


def _mean(tokens, mask):
    weights = mask.float() / mask.sum(1, keepdim=True).clamp(min=1)
    return torch.bmm(weights[:, None], tokens)[:, 0]


def _max(tokens, mask):
    return tokens.masked_fill(~mask[..., None], -torch.inf).amax(1)


def _first(tokens, mask):
    return tokens[torch.arange(len(tokens), device=tokens.device), mask.int().argmax(1)]


def _last(tokens, mask):
    last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
    return tokens[torch.arange(len(tokens), device=tokens.device), last]


def _flatten(tokens, mask):
    counts = mask.sum(1)
    if (counts != counts[0]).any():
        raise ValueError(
            f"pooling='flatten': the stimuli have {counts.min()} to {counts.max()} tokens, so their rows would "
            "differ in width. Use 'mean', 'max' or 'last'."
        )
    return tokens[mask].reshape(len(tokens), -1)


_POOL = {"mean": _mean, "max": _max, "cls": _first, "last": _last, "flatten": _flatten}
