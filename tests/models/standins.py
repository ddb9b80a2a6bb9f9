"""Small modules with the interfaces of open_clip's CoCa, of ImageBind and of ULIP's PointBERT."""

import sys
import types

import numpy as np
import torch
from PIL import Image
from torch import nn

WIDTH, CONTEXT = 16, 12


class Mixer(nn.Module):
    """A block that mixes the tokens of a stimulus, so that a wrong axis would mix stimuli."""

    def __init__(self, sequence: int = 1):
        super().__init__()
        self.norm, self.mlp, self.sequence = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH), sequence

    def forward(self, x, attn_mask=None):
        return x + self.mlp(self.norm(x)) + x.mean(self.sequence, keepdim=True)


class Stack(nn.Module):
    """Blocks under the name that each author gives them."""

    def __init__(self, name: str, sequence: int = 1):
        super().__init__()
        self.name = name
        self.add_module(name, nn.ModuleList(Mixer(sequence) for _ in range(3)))

    def forward(self, x, pos=0.0):
        for block in getattr(self, self.name):
            x = block(x + pos)
        return x


class Pooler(nn.Module):
    """The attentional pooler of CoCa: a few queries read the patches."""

    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(5, WIDTH))

    def forward(self, x):
        return (self.query @ x.transpose(1, 2)).softmax(-1) @ x


class CocaVisual(nn.Module):
    """The image tower of CoCa: (pooled, tokens)."""

    def __init__(self):
        super().__init__()
        self.conv1, self.transformer, self.attn_pool = nn.Conv2d(3, WIDTH, 8, 8), Stack("resblocks"), Pooler()

    def forward(self, x):
        tokens = self.attn_pool(self.transformer(self.conv1(x).flatten(2).transpose(1, 2)))
        return tokens[:, 0], tokens[:, 1:]


class CocaText(nn.Module):
    """The text tower of CoCa: a [CLS] after the filled text."""

    def __init__(self):
        super().__init__()
        self.token_embedding, self.cls_emb = nn.Embedding(64, WIDTH), nn.Parameter(torch.randn(WIDTH))
        self.transformer = Stack("resblocks")

    def forward(self, text):
        x = self.token_embedding(text)
        x = self.transformer(torch.cat([x, self.cls_emb.expand(len(x), 1, -1)], 1))
        return x[:, -1], x[:, :-1]


class Coca(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual, self.text = CocaVisual(), CocaText()


class Preprocessor(nn.Module):
    """What makes tokens of pixels, or of a spectrogram, and names what the trunk takes."""

    def __init__(self, channels: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, WIDTH, 8, 8)

    def forward(self, **given):
        (x,) = given.values()
        return {"trunk": {"tokens": self.stem(x).flatten(2).transpose(1, 2)}, "head": {}}


class Trunk(nn.Module):
    """The trunk of ImageBind: its blocks see (token, batch, feature)."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(Mixer(0) for _ in range(3)))

    def forward(self, tokens, attn_mask=None):
        tokens = tokens.transpose(0, 1)
        for block in self.blocks:
            tokens = block(tokens, attn_mask=attn_mask)
        return tokens.transpose(0, 1)


class First(nn.Module):
    def forward(self, x):
        return x[:, 0]


class ImageBind(nn.Module):
    """ImageBind: {modality: tensor} -> {modality: embedding}; inputs of five dims hold several clips."""

    def __init__(self):
        super().__init__()
        kinds = {"vision": 3, "audio": 1}
        self.modality_preprocessors = nn.ModuleDict({k: Preprocessor(n) for k, n in kinds.items()})
        self.modality_trunks = nn.ModuleDict({k: Trunk() for k in kinds})
        self.modality_heads = nn.ModuleDict({k: nn.Sequential(First(), nn.Linear(WIDTH, 6)) for k in kinds})

    def forward(self, inputs):
        outputs = {}
        for key, x in inputs.items():
            clips = x.shape[:2] if x.ndim >= 5 else None
            if clips:
                x = x.reshape(-1, *x.shape[2:])
            ready = self.modality_preprocessors[key](**{key: x})
            x = self.modality_heads[key](self.modality_trunks[key](**ready["trunk"]), **ready["head"])
            outputs[key] = x.reshape(*clips, -1).mean(1) if clips else x
        return outputs


class PointTransformer(nn.Module):
    """PointBERT of ULIP: groups of points, a [CLS], blocks that are given the places anew."""

    def __init__(self, config, **kwargs):
        super().__init__()
        assert kwargs["args"].evaluate_3d
        self.reduce_dim, self.pos_embed = nn.Linear(6, WIDTH), nn.Linear(3, WIDTH)
        self.cls_token, self.cls_pos = (nn.Parameter(torch.randn(1, 1, WIDTH)) for _ in range(2))
        self.blocks, self.norm = Stack("blocks"), nn.LayerNorm(WIDTH)

    def forward(self, pts):
        groups = pts.reshape(len(pts), 10, -1, 6).amax(2)
        x = torch.cat([self.cls_token.expand(len(pts), -1, -1), self.reduce_dim(groups)], 1)
        pos = torch.cat([self.cls_pos.expand(len(pts), -1, -1), self.pos_embed(groups[..., :3])], 1)
        x = self.norm(self.blocks(x, pos))
        return torch.cat([x[:, 0], x[:, 1:].max(1)[0]], -1)


def pixels(image: Image.Image) -> torch.Tensor:
    """Return a picture of one size."""
    return torch.from_numpy(np.asarray(image.resize((32, 32)), dtype=np.float32) / 255).permute(2, 0, 1)


def tokenize(texts) -> torch.Tensor:
    """Return letters as tokens, filled with zeros to a fixed length, (text, token)."""
    texts = [texts] if isinstance(texts, str) else texts
    coded = [[ord(c) % 63 + 1 for c in text[:CONTEXT]] for text in texts]
    return torch.tensor([ids + [0] * (CONTEXT - len(ids)) for ids in coded])


def load_sounds(paths, device, clips_per_video=3) -> torch.Tensor:
    """Return spectrograms (sound, clip, 1, mel, frame)."""
    waves = [np.fromfile(path, dtype=np.int16)[22 : 22 + 4096].astype(np.float32) / 2**15 for path in paths]
    spectra = torch.stack([torch.from_numpy(w).reshape(1, 1, 64, 64) for w in waves])
    return spectra.expand(-1, clips_per_video, -1, -1, -1).to(device)


def install(monkeypatch) -> None:
    """Put the stand-ins where the recipes import the packages of the authors."""
    monkeypatch.setenv("NEUROALIGN_DEVICE", "cpu")
    torch.manual_seed(0)
    made = {
        "open_clip": {"create_model_and_transforms": lambda name, pretrained: (Coca(), None, pixels),
                      "get_tokenizer": lambda name: tokenize},
        "imagebind": {}, "imagebind.models": {},
        "imagebind.data": {"load_and_transform_audio_data": load_sounds, "load_and_transform_vision_data": (
            lambda paths, device: torch.stack([pixels(Image.open(p).convert("RGB")) for p in paths]))},
        "imagebind.models.imagebind_model": {"imagebind_huge": lambda pretrained: ImageBind()},
        "models": {}, "models.pointbert": {}, "utils": {},
        "models.pointbert.point_encoder": {"PointTransformer_Colored": PointTransformer},
        "utils.config": {"cfg_from_yaml_file": lambda path: types.SimpleNamespace(model=None)},
    }  # fmt: skip
    for name, content in made.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)
