"""Attention from inside: where a model reads one token from another, and what is blocked, seen or kept there."""

import inspect
import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad, scaled_dot_product_attention

from neuroalign.models.adapter import LoadedModel
from neuroalign.models.blocks import has_module

__all__ = ["INTERVENABLE", "AttentionSite", "Interception", "attention_sites"]

NAME = "neuroalign"  # of the attention function here, as transformers knows it
OWN = ("self_attn", "attention.self", "attention.attention", "layer.0.SelfAttention", "attention", "attn")
ACROSS = ("encoder_attn", "crossattention.self", "crossattention.attention", "cross_attn")
READS = {  # family -> tower -> the tower that its cross-attention reads
    "whisper": {"decoder": "audio"},
    "blip_captioner": {"decoder": "image"},
    "query_bridge": {"qformer": "image"},
    "instruct_blip": {"qformer": "image"},
    "cross_attention_mllm": {"cross": "image"},
    "bridge_tower": {"cross_image": "cross_text", "cross_text": "cross_image"},
}
TILED = {"decoder_mllm": "image", "qwen_vl": "image", "cross_attention_mllm": "image"}  # rows are tiles, not pictures
INTERVENABLE = ("causal_lm", "text_encoder", "vision_transformer", "dual_encoder", "decoder_mllm", "qwen_vl",
                "single_stream", "two_towers_and_fusion", "grid_visual_bert", "git", *READS)  # fmt: skip
UNREAD = ("softcap", "s_aux")  # arguments of attention functions that would change the weights, and are not read here


@dataclass(frozen=True)
class AttentionSite:
    """An attention module that can be intervened on.

    Attributes
    ----------
    path : str
        Module path.
    stack : str
        Path of the list of blocks that it belongs to.
    block, n_blocks : int
        Which of the blocks of the stack, and how many there are.
    tower : str
        Whose tokens are the queries.
    reads : str
        The tower whose tokens are the keys; another than `tower` in cross-attention.
    through : {"interface", "mask"}
        How it is reached: the attention function that transformers calls there, or the mask that the module is given.
    """

    path: str
    stack: str
    block: int
    n_blocks: int
    tower: str
    reads: str
    through: str


def attention_sites(model: LoadedModel) -> list[AttentionSite]:
    """Return the attention modules of a model that can be intervened on, in order of computation.

    Those that its adapter names (``attention(model)``), if it has such a method, else those found in its blocks.
    Modules that compute attention by means of their own, without a mask that could be changed (the vision tower of
    BridgeTower, LXMERT, the windows of Swin, models of other packages), and vision towers that see a picture in tiles,
    are not there.

    Raises
    ------
    ValueError
        There is none; names the families that have some.
    """
    if hasattr(model.adapter, "attention"):
        return model.adapter.attention(model)
    layers = [x for x in model.adapter.layers(model, ("block",))
              if x.tap == "output" and x.masked and x.tower != TILED.get(model.adapter.family)]
    stacks: dict[str, list] = {}
    for layer in layers:
        stacks.setdefault(layer.path.rpartition(".")[0], []).append(layer)
    reads = READS.get(model.adapter.family, {})
    sites = []
    for layer in layers:
        stack, blocks = layer.path.rpartition(".")[0], stacks[layer.path.rpartition(".")[0]]
        for names, tower in ((OWN, layer.tower), (ACROSS, reads.get(layer.tower))):
            found = _find(model.module, layer.path, names) if tower else None
            if found:
                sites.append(AttentionSite(found[0], stack, blocks.index(layer), len(blocks), layer.tower, tower,
                                           found[1]))
    if model.adapter.family not in INTERVENABLE or not sites:
        raise ValueError(
            f"model {model.id!r} ({model.adapter.family}): its attention cannot be intervened on. Families whose can: "
            f"{', '.join(INTERVENABLE)}."
        )
    return sites


@dataclass
class Interception:
    """What is done at attention sites during forwards, as a context.

    Attributes
    ----------
    model : LoadedModel
    sites : sequence of AttentionSite
    blocked : mapping of path to tensor of bool, shape (batch, query, key)
        Which tokens do not read which, on top of the mask of the model; may be changed between forwards. A query that
        is left without anything to read reads nothing: its attention gives zeros, not the mean of all values.
    see : callable, optional
        ``see(site, weights, allowed)`` is given the weights (batch, head, query, key) of each call, and what the mask
        of the model allowed, bool (batch, 1, query, key).
    keep : bool
        Keep keys and values of each call in `kept`, path -> (keys, values).
    start : int
        The queries begin at this position, and the keys and values before it are those kept.
    """

    model: LoadedModel
    sites: list[AttentionSite]
    blocked: Mapping[str, torch.Tensor] = field(default_factory=dict)
    see: Callable[[AttentionSite, torch.Tensor, torch.Tensor], None] | None = None
    keep: bool = False
    start: int = 0
    kept: dict[str, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)
    allowed: dict[str, torch.Tensor] = field(default_factory=dict)

    def __enter__(self):
        self._stack = ExitStack()
        modules = {site: self.model.module.get_submodule(site.path) for site in self.sites}
        if any(id(module) in ACTIVE for module in modules.values()):
            raise ValueError(f"model {self.model.id!r}: its attention is intervened on already, and interventions do "
                             "not nest. Block several edges at once: knockout(model, stimuli, [EDGE, EDGE]).")
        for site, module in modules.items():
            if site.through == "interface":
                ACTIVE[id(module)] = (self, site)
                self._stack.callback(ACTIVE.pop, id(module))
            else:
                for handle in _hook(self, site, module):
                    self._stack.callback(handle.remove)
        for config in _configs_above(self.model.module, [s.path for s in self.sites if s.through == "interface"]):
            self._stack.callback(setattr, config, "_attn_implementation_internal", config._attn_implementation)
            config._attn_implementation_internal = _registered()
        self.begin()
        return self

    def __exit__(self, *exception):
        self._stack.close()

    def begin(self) -> None:
        """Count calls anew (`calls`), and what the mask of the model allowed where it was changed (`allowed`)."""
        self.calls, self.allowed = {}, {}

    def check(self, paths) -> None:
        """Raise a `RuntimeError` where a site was not called since `begin`: what was to be done there was not."""
        missed = [path for path in paths if not self.calls.get(path)]
        if missed:
            raise RuntimeError(
                f"model {self.model.id!r} ({self.model.adapter.family}): attention was not reached at {missed[0]!r}, "
                f"so nothing was blocked there ({len(missed)} sites). Families that can be intervened on: "
                f"{', '.join(INTERVENABLE)}."
            )

    def merge(self, site: AttentionSite, mask: torch.Tensor | None, like: torch.Tensor, shape) -> tuple:
        """Count a call, and add what is blocked to the mask of the model.

        Returns
        -------
        mask : tensor (batch, 1 or head, query, key) or None
            To be added to the scores.
        silent : tensor of bool (batch, query) or None
            Queries that nothing is left to read for.
        allowed : tensor of bool (batch, 1, query, key)
            What the mask of the model allowed.
        """
        self.calls[site.path] = self.calls.get(site.path, 0) + 1
        blocked = self.blocked.get(site.path)
        if blocked is None and self.see is None:
            return mask, None, None
        allowed = _allowed(mask, shape, like.device)
        if blocked is None:
            return mask, None, allowed
        blocked = _fit(blocked[:, self.start:].to(like.device), shape)[:, None]
        self.allowed[site.path] = allowed
        least = torch.finfo(like.dtype).min
        added = torch.zeros(1, 1, 1, 1, dtype=like.dtype, device=like.device) if mask is None else mask
        if added.dtype == torch.bool:
            added = torch.zeros(added.shape, dtype=like.dtype, device=like.device).masked_fill(~added, least)
        silent = allowed.any(-1) & ~(allowed & ~blocked).any(-1)
        added = added.expand(shape[0], added.shape[1], *shape[1:])
        return added.masked_fill(blocked, least), silent[:, 0], allowed


def attend(module, query, key, value, attention_mask, scaling=None, dropout=0.0, position_bias=None, **kwargs):
    """Compute attention, as a function that transformers calls: what is intercepted here, plain elsewhere."""
    odd = [name for name in UNREAD if kwargs.get(name) is not None]
    if odd:
        raise ValueError(f"{type(module).__name__}: its attention takes {odd[0]!r}, which interventions do not read.")
    interception, site = ACTIVE.get(id(module), (None, None))
    if interception is not None:
        if interception.start:
            before = [x[:, :, : interception.start] for x in interception.kept[site.path]]
            if site.tower == site.reads:
                key, value = (torch.cat([old, new], 2) for old, new in zip(before, (key, value)))
        elif interception.keep:
            interception.kept[site.path] = (key, value)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    mask, silent, allowed = None if attention_mask is None else attention_mask[..., : key.shape[2]], None, None
    if interception is not None:
        mask, silent, allowed = interception.merge(site, mask, query, (len(query), query.shape[2], key.shape[2]))
    if position_bias is not None:
        mask = position_bias if mask is None else mask + position_bias
    if interception is not None and interception.see is not None:
        scores = query @ key.transpose(2, 3) * (1 / math.sqrt(query.shape[-1]) if scaling is None else scaling)
        interception.see(site, (scores if mask is None else scores + mask).softmax(-1), allowed)
    out = scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    if silent is not None:
        out = out.masked_fill(silent[:, None, :, None], 0)
    return out.transpose(1, 2).contiguous(), None


ACTIVE: dict[int, tuple[Interception, AttentionSite]] = {}  # by id of the attention module


def _find(module, block: str, names) -> tuple[str, str] | None:
    """Return the path of the first of some modules of a block that can be reached, and how."""
    for name in names:
        path = f"{block}.{name}"
        if has_module(module, path):
            found = module.get_submodule(path)
            forward = inspect.unwrap(type(found).forward)
            if "ALL_ATTENTION_FUNCTIONS" in forward.__code__.co_names:
                return path, "interface"
            takes = inspect.signature(forward).parameters
            bert = hasattr(found, "query") and isinstance(getattr(found, "dropout", None), torch.nn.Dropout)
            if bert and "attention_mask" in takes:
                return path, "mask"
    return None


def _configs_above(module, paths) -> list:
    """Return the configurations of the modules at some paths, and of all that hold these, each once."""
    above = {path[:i] for path in paths for i in [0, *[k for k, c in enumerate(path) if c == "."], len(path)]}
    configs = [getattr(module.get_submodule(path), "config", None) for path in above]
    return list({id(c): c for c in configs if getattr(c, "_attn_implementation", None)}.values())


def _registered() -> str:
    """Register `attend` with transformers, with masks that say explicitly what may be read; return its name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, eager_mask)
    return NAME


def _hook(interception: Interception, site: AttentionSite, module) -> list:
    """Hook a module that takes a mask: change it, silence queries without anything to read, see the weights."""
    signature = inspect.signature(inspect.unwrap(type(module).forward))
    across = site.tower != site.reads and "encoder_attention_mask" in signature.parameters
    name, state = "encoder_attention_mask" if across else "attention_mask", {}

    def before(module, args, kwargs):
        bound = signature.bind(module, *args, **kwargs)
        given: Any = bound.arguments
        states = given["hidden_states"]
        keys = given["encoder_hidden_states"] if across else states
        shape = (len(states), states.shape[1], keys.shape[1])
        mask, state["silent"], state["allowed"] = interception.merge(site, given.get(name), states, shape)
        given[name] = mask
        return bound.args[1:], bound.kwargs

    def after(module, args, kwargs, output):
        if state["silent"] is None:
            return output
        context = output[0] if isinstance(output, tuple) else output
        context = context.masked_fill(state["silent"][..., None], 0)
        return (context, *output[1:]) if isinstance(output, tuple) else context

    def weights(_, args):
        if interception.see is not None:
            interception.see(site, args[0], state["allowed"])

    return [module.register_forward_pre_hook(before, with_kwargs=True),
            module.register_forward_hook(after, with_kwargs=True),
            module.dropout.register_forward_pre_hook(weights)]


def _allowed(mask: torch.Tensor | None, shape, device) -> torch.Tensor:
    """Return which tokens may read which, (batch, 1, query, key)."""
    batch, queries, keys = shape
    if mask is None:
        return torch.ones(batch, 1, queries, keys, dtype=torch.bool, device=device)
    allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    return allowed[:, :1, -queries:, :keys].expand(batch, 1, queries, keys)


def _fit(blocked: torch.Tensor, shape) -> torch.Tensor:
    """Fill up with what is not blocked where a tower sees more tokens than its streams name (padding to a size)."""
    missing = [full - have for full, have in zip(shape[1:], blocked.shape[1:])]
    return pad(blocked, (0, missing[1], 0, missing[0])) if any(missing) else blocked
