"""Tiny checkpoints with the names and the layout that authors publish, and their forwards by formula in float64."""

import argparse
import gzip
from pathlib import Path

import torch

WIDTH, DEPTH, PATCH, SIDE, HIDDEN = 128, 3, 8, 4, 160
CONTEXT, EMBED = 96, 24
MERGES = ["t h", "th e</w>", "a n", "i n", "o n</w>", "w o", "r d", "q u", "b r", "f o", "e r</w>", "l o"]
VOCABULARY = 514 + len(MERGES)
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "man", "the", "quick", "brown", "fox", "he", "does", "##n",
         "##t", "look", "back", "at", "old", "town", "two", "word", "##s", "doesn", "doesnt"]  # fmt: skip
FUSION = 2  # of four layers


def tensor(generator: torch.Generator, *shape: int, scale: float = 0.12, around: float = 0.0) -> torch.Tensor:
    """Return random numbers."""
    return around + scale * torch.randn(shape, generator=generator)


def linear(g: torch.Generator, name: str, inner: int, outer: int) -> dict:
    """Return weight and bias of a linear map."""
    return {f"{name}.weight": tensor(g, outer, inner), f"{name}.bias": tensor(g, outer)}


def norm(g: torch.Generator, name: str, width: int = WIDTH) -> dict:
    """Return weight and bias of a layer normalisation."""
    return {f"{name}.weight": tensor(g, width, around=1.0), f"{name}.bias": tensor(g, width)}


def vit_state(g: torch.Generator, p: str, width: int = WIDTH) -> dict:
    """Return the weights of a vision transformer of timm."""
    state = {f"{p}cls_token": tensor(g, 1, 1, width), f"{p}pos_embed": tensor(g, 1, 1 + SIDE**2, width),
             f"{p}patch_embed.proj.weight": tensor(g, width, 3, PATCH, PATCH),
             f"{p}patch_embed.proj.bias": tensor(g, width)}  # fmt: skip
    for i in range(DEPTH):
        b = f"{p}blocks.{i}."
        state |= norm(g, f"{b}norm1", width) | linear(g, f"{b}attn.qkv", width, 3 * width)
        state |= linear(g, f"{b}attn.proj", width, width) | norm(g, f"{b}norm2", width)
        state |= linear(g, f"{b}mlp.fc1", width, HIDDEN) | linear(g, f"{b}mlp.fc2", HIDDEN, width)
    return state | norm(g, f"{p}norm", width)


def slip_state(kind: str, width: int = WIDTH) -> dict:
    """Return the weights of SLIP, CLIP or SimCLR (``slip``, ``clip``, ``simclr``), as saved under several devices."""
    g = torch.Generator().manual_seed(3)
    state = vit_state(g, "visual.", width)
    if kind != "simclr":
        state |= {"positional_embedding": tensor(g, CONTEXT, WIDTH), "logit_scale": torch.tensor(2.6),
                  "token_embedding.weight": tensor(g, VOCABULARY, WIDTH),
                  "image_projection": tensor(g, width, EMBED), "text_projection": tensor(g, WIDTH, EMBED)}  # fmt: skip
        for i in range(DEPTH):
            b = f"transformer.resblocks.{i}."
            state |= {f"{b}attn.in_proj_weight": tensor(g, 3 * WIDTH, WIDTH),
                      f"{b}attn.in_proj_bias": tensor(g, 3 * WIDTH)}  # fmt: skip
            state |= linear(g, f"{b}attn.out_proj", WIDTH, WIDTH) | norm(g, f"{b}ln_1") | norm(g, f"{b}ln_2")
            state |= linear(g, f"{b}mlp.c_fc", WIDTH, 4 * WIDTH) | linear(g, f"{b}mlp.c_proj", 4 * WIDTH, WIDTH)
        state |= norm(g, "ln_final")
    if kind != "clip":
        for i, outer in ((1, 16), (2, 16), (3, 8)):
            state |= linear(g, f"image_mlp.layer{i}", width if i == 1 else 16, outer)
        for i in (1, 2):
            state |= norm(g, f"image_mlp.bn{i}", 16)
            state |= {f"image_mlp.bn{i}.running_mean": torch.zeros(16), f"image_mlp.bn{i}.running_var": torch.ones(16),
                      f"image_mlp.bn{i}.num_batches_tracked": torch.tensor(7)}  # fmt: skip
    return {f"module.{key}": value for key, value in state.items()}


def save_slip(folder: Path, kind: str, **more) -> Path:
    """Save a checkpoint of the SLIP repository, with what its training script puts beside the weights."""
    import numpy as np

    path = folder / f"{kind}_base_25ep.pt"
    settings = argparse.Namespace(model=f"{kind.upper()}_VITB16", betas=(0.9, 0.98), gpu=None)
    rest = {"epoch": 25, "best_acc1": 42.8, "args": settings, "scaler": {"scale": 65536.0},
            "optimizer": {"param_groups": [{"lr": np.float64(1e-5)}]}}  # fmt: skip
    torch.save({"state_dict": slip_state(kind), **rest, **more}, path)
    save_merges(folder)
    return path


def save_merges(folder: Path, merges=MERGES) -> None:
    """Save the file of merges; the real one is longer than the vocabulary needs."""
    with gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(["#version: 0.2", *merges, "z z", "y y", ""]))


def normed(state: dict, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    """Return the layer normalisation of the last dim."""
    centred = x - x.mean(-1, keepdim=True)
    scaled = centred / ((centred**2).mean(-1, keepdim=True) + eps).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def affine(state: dict, name: str, x: torch.Tensor) -> torch.Tensor:
    """Return a linear map of the last dim."""
    return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]


def gelu(x: torch.Tensor) -> torch.Tensor:
    """Return x times the normal distribution function of x."""
    return x * 0.5 * (1 + torch.erf(x / 2**0.5))


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, allowed: torch.Tensor) -> torch.Tensor:
    """Return attention by its formula, head by head; `allowed` (query, key) says what is seen."""
    out = []
    for qh, kh, vh in zip(q.chunk(heads, -1), k.chunk(heads, -1), v.chunk(heads, -1)):
        scores = qh @ kh.transpose(-1, -2) / qh.shape[-1] ** 0.5
        out.append(scores.masked_fill(~allowed, -torch.inf).softmax(-1) @ vh)
    return torch.cat(out, -1)


def vit_forward(state: dict, p: str, pixels: torch.Tensor, heads: int) -> list[torch.Tensor]:
    """Return the input of the first block, the output of each block, and the normalised last one."""
    w = state[f"{p}patch_embed.proj.weight"]
    n, _, height, width = pixels.shape
    patches = pixels.reshape(n, 3, height // PATCH, PATCH, width // PATCH, PATCH).permute(0, 2, 4, 1, 3, 5)
    x = patches.reshape(n, -1, 3 * PATCH**2) @ w.reshape(len(w), -1).T + state[f"{p}patch_embed.proj.bias"]
    x = torch.cat([state[f"{p}cls_token"].expand(n, 1, -1), x], 1) + state[f"{p}pos_embed"]
    everything, states = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool), [x]
    for i in range(DEPTH):
        b = f"{p}blocks.{i}."
        q, k, v = affine(state, f"{b}attn.qkv", normed(state, f"{b}norm1", x, 1e-6)).chunk(3, -1)
        x = x + affine(state, f"{b}attn.proj", attend(q, k, v, heads, everything))
        inner = gelu(affine(state, f"{b}mlp.fc1", normed(state, f"{b}norm2", x, 1e-6)))
        x = x + affine(state, f"{b}mlp.fc2", inner)
        states.append(x)
    return [*states, normed(state, f"{p}norm", x, 1e-6)]


def clip_text_forward(state: dict, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return the same for the text transformer of CLIP, for one text (token,)."""
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][: len(ids)]
    past, states = torch.ones(len(ids), len(ids)).tril().bool(), [x]
    for i in range(DEPTH):
        b = f"transformer.resblocks.{i}."
        joint = normed(state, f"{b}ln_1", x, 1e-5) @ state[f"{b}attn.in_proj_weight"].T + state[f"{b}attn.in_proj_bias"]
        x = x + affine(state, f"{b}attn.out_proj", attend(*joint.chunk(3, -1), 2, past))
        inner = affine(state, f"{b}mlp.c_fc", normed(state, f"{b}ln_2", x, 1e-5))
        x = x + affine(state, f"{b}mlp.c_proj", inner * torch.sigmoid(1.702 * inner))
        states.append(x)
    return [*states, normed(state, "ln_final", x, 1e-5)]


def doubled(state: dict) -> dict:
    """Return weights in float64, without the prefix of training on several devices."""
    return {k.removeprefix("module."): v.double() for k, v in state.items()}


def bert_layer(g: torch.Generator, name: str, crossing: bool) -> dict:
    """Return the weights of a layer of the text encoder of ALBEF."""
    state = linear(g, f"{name}.intermediate.dense", WIDTH, HIDDEN) | linear(g, f"{name}.output.dense", HIDDEN, WIDTH)
    state |= norm(g, f"{name}.output.LayerNorm")
    for kind in ("attention", "crossattention")[: 1 + crossing]:
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            state |= linear(g, f"{name}.{kind}.{part}", WIDTH, WIDTH)
        state |= norm(g, f"{name}.{kind}.output.LayerNorm")
    return state


def albef_state(retrieval: bool = False) -> dict:
    """Return the weights of ALBEF, momentum copies and queues too; fine-tuned for retrieval, without ``bert.``."""
    g = torch.Generator().manual_seed(5)
    text = {"embeddings.position_ids": torch.arange(96)[None],
            "embeddings.word_embeddings.weight": tensor(g, len(WORDS), WIDTH),
            "embeddings.position_embeddings.weight": tensor(g, 96, WIDTH),
            "embeddings.token_type_embeddings.weight": tensor(g, 2, WIDTH)}  # fmt: skip
    text |= norm(g, "embeddings.LayerNorm")
    for i in range(4):
        text |= bert_layer(g, f"encoder.layer.{i}", i >= FUSION)
    bert = "text_encoder." if retrieval else "text_encoder.bert."
    state = vit_state(g, "visual_encoder.") | {bert + key: value for key, value in text.items()}
    state |= linear(g, "vision_proj", WIDTH, EMBED) | linear(g, "text_proj", WIDTH, EMBED)
    copies = {key.replace(".", "_m.", 1): value + 1 for key, value in state.items()}
    state |= copies | linear(g, "itm_head", WIDTH, 2)
    state |= {"temp": torch.tensor(0.07), "image_queue": tensor(g, EMBED, 8), "text_queue": tensor(g, EMBED, 8),
              "queue_ptr": torch.zeros(1, dtype=torch.long)}  # fmt: skip
    if retrieval:
        return state | {"idx_queue": torch.full((1, 8), -100)}
    head = linear(g, "text_encoder.cls.predictions.transform.dense", WIDTH, WIDTH)
    head |= {"text_encoder.cls.predictions.bias": tensor(g, len(WORDS))}
    return state | head | {key.replace(".", "_m.", 1): value for key, value in head.items()}


def save_albef(folder: Path, retrieval: bool = False, **more) -> Path:
    """Save a checkpoint of the ALBEF repository, and the vocabulary beside it."""
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    path = folder / ("mscoco.pth" if retrieval else "ALBEF.pth")
    torch.save({"model": albef_state(retrieval), "epoch": 29, "config": {"image_res": 256}, **more}, path)
    return path


def bert_forward(state: dict, p: str, x: torch.Tensor, layers, picture=None) -> list[torch.Tensor]:
    """Return the output of each layer of the text encoder of ALBEF, for one text (token, feature)."""
    states = []
    for i in layers:
        b = f"{p}encoder.layer.{i}."
        for kind in ("attention", "crossattention") if picture is not None else ("attention",):
            seen = picture if kind == "crossattention" else x
            q = affine(state, f"{b}{kind}.self.query", x)
            k, v = (affine(state, f"{b}{kind}.self.{part}", seen) for part in ("key", "value"))
            read = attend(q, k, v, 2, torch.ones(len(x), len(seen), dtype=torch.bool))
            added = x + affine(state, f"{b}{kind}.output.dense", read)
            x = normed(state, f"{b}{kind}.output.LayerNorm", added, 1e-12)
        inner = affine(state, f"{b}output.dense", gelu(affine(state, f"{b}intermediate.dense", x)))
        x = normed(state, f"{b}output.LayerNorm", x + inner, 1e-12)
        states.append(x)
    return states


def bert_embedding(state: dict, p: str, ids: torch.Tensor) -> torch.Tensor:
    """Return the embedding of one text."""
    e = f"{p}embeddings."
    words, places = state[f"{e}word_embeddings.weight"][ids], state[f"{e}position_embeddings.weight"][: len(ids)]
    return normed(state, f"{e}LayerNorm", words + places + state[f"{e}token_type_embeddings.weight"][0], 1e-12)


COCA_VISION, QUERIES = 192, 5


def coca_block(g: torch.Generator, b: str, width: int, crossing: bool = False) -> dict:
    """Return the weights of a block of open_clip."""
    state = {f"{b}.attn.in_proj_weight": tensor(g, 3 * width, width), f"{b}.attn.in_proj_bias": tensor(g, 3 * width)}
    state |= linear(g, f"{b}.attn.out_proj", width, width) | norm(g, f"{b}.ln_1", width) | norm(g, f"{b}.ln_2", width)
    state |= linear(g, f"{b}.mlp.c_fc", width, 4 * width) | linear(g, f"{b}.mlp.c_proj", 4 * width, width)
    return state | (norm(g, f"{b}.ln_1_kv", width) if crossing else {})


def coca_state() -> dict:
    """Return the weights of CoCa of open_clip."""
    g, w = torch.Generator().manual_seed(11), COCA_VISION
    state = {"visual.conv1.weight": tensor(g, w, 3, PATCH, PATCH), "visual.class_embedding": tensor(g, w),
             "visual.positional_embedding": tensor(g, SIDE**2 + 1, w), "visual.proj": tensor(g, WIDTH, WIDTH),
             "visual.attn_pool.query": tensor(g, QUERIES, WIDTH), "logit_scale": torch.tensor(4.6),
             "visual.attn_pool.attn.q_proj_weight": tensor(g, WIDTH, WIDTH),
             "visual.attn_pool.attn.k_proj_weight": tensor(g, WIDTH, w),
             "visual.attn_pool.attn.v_proj_weight": tensor(g, WIDTH, w),
             "visual.attn_pool.attn.in_proj_bias": tensor(g, 3 * WIDTH),
             "text.token_embedding.weight": tensor(g, VOCABULARY, WIDTH), "text.cls_emb": tensor(g, WIDTH),
             "text.positional_embedding": tensor(g, CONTEXT + 1, WIDTH),
             "text.text_projection": tensor(g, WIDTH, WIDTH),
             "text_decoder.text_projection": tensor(g, WIDTH, VOCABULARY)}  # fmt: skip
    state |= norm(g, "visual.ln_pre", w) | norm(g, "visual.ln_post") | norm(g, "text.ln_final")
    state |= linear(g, "visual.attn_pool.attn.out_proj", WIDTH, WIDTH) | norm(g, "text_decoder.ln_final")
    state |= norm(g, "visual.attn_pool.ln_q") | norm(g, "visual.attn_pool.ln_k", w)
    for i in range(DEPTH):
        state |= coca_block(g, f"visual.transformer.resblocks.{i}", w)
        state |= coca_block(g, f"text.transformer.resblocks.{i}", WIDTH)
        state |= coca_block(g, f"text_decoder.resblocks.{i}", WIDTH)
        state |= coca_block(g, f"text_decoder.cross_attn.{i}", WIDTH, crossing=True)
    return state


def coca_step(state: dict, b: str, x: torch.Tensor, allowed: torch.Tensor, picture=None) -> torch.Tensor:
    """Return the residual stream after a block of open_clip, for one sequence (token, feature)."""
    query = normed(state, f"{b}.ln_1", x, 1e-5)
    seen = query if picture is None else normed(state, f"{b}.ln_1_kv", picture, 1e-5)
    w, c = state[f"{b}.attn.in_proj_weight"].chunk(3), state[f"{b}.attn.in_proj_bias"].chunk(3)
    q, k, v = (part @ w[i].T + c[i] for i, part in enumerate((query, seen, seen)))
    x = x + affine(state, f"{b}.attn.out_proj", attend(q, k, v, x.shape[-1] // 64, allowed))
    inner = gelu(affine(state, f"{b}.mlp.c_fc", normed(state, f"{b}.ln_2", x, 1e-5)))
    return x + affine(state, f"{b}.mlp.c_proj", inner)


def coca_visual(state: dict, pixels: torch.Tensor) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Return the residual streams of one picture (3, height, width), and what the queries read from it."""
    w = state["visual.conv1.weight"]
    patches = pixels.reshape(3, SIDE, PATCH, SIDE, PATCH).permute(1, 3, 0, 2, 4).reshape(SIDE**2, -1)
    x = torch.cat([state["visual.class_embedding"][None], patches @ w.reshape(len(w), -1).T])
    states = [normed(state, "visual.ln_pre", x + state["visual.positional_embedding"], 1e-5)]
    for i in range(DEPTH):
        everything = torch.ones(len(x), len(x), dtype=torch.bool)
        states.append(coca_step(state, f"visual.transformer.resblocks.{i}", states[-1], everything))
    p = "visual.attn_pool."
    seen = normed(state, f"{p}ln_k", states[-1], 1e-5)
    biases = state[f"{p}attn.in_proj_bias"].chunk(3)
    q = normed(state, f"{p}ln_q", state[f"{p}query"], 1e-5) @ state[f"{p}attn.q_proj_weight"].T + biases[0]
    k, v = (seen @ state[f"{p}attn.{n}_proj_weight"].T + b for n, b in zip("kv", biases[1:]))
    read = attend(q, k, v, 8, torch.ones(QUERIES, len(x), dtype=torch.bool))
    return states, normed(state, "visual.ln_post", affine(state, f"{p}attn.out_proj", read), 1e-5)


def coca_text(state: dict, ids: torch.Tensor) -> list[torch.Tensor]:
    """Return the residual streams of one filled text (token,), with its [CLS]."""
    x = torch.cat([state["text.token_embedding.weight"][ids], state["text.cls_emb"][None]])
    states = [x + state["text.positional_embedding"]]
    kept = torch.tensor([True, *(ids != 0).tolist()])  # one place late, as in open_clip
    allowed = torch.ones(len(x), len(x)).tril().bool() & kept
    for i in range(DEPTH):
        states.append(coca_step(state, f"text.transformer.resblocks.{i}", states[-1], allowed))
    return states


def coca_captioner(state: dict, text: torch.Tensor, picture: torch.Tensor) -> list[torch.Tensor]:
    """Return the residual stream after each half of each block of the captioner."""
    states, past = [text], torch.ones(len(text), len(text)).tril().bool()
    for i in range(DEPTH):
        states.append(coca_step(state, f"text_decoder.resblocks.{i}", states[-1], past))
        everything = torch.ones(len(text), len(picture), dtype=torch.bool)
        states.append(coca_step(state, f"text_decoder.cross_attn.{i}", states[-1], everything, picture))
    return states
