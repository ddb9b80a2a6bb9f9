"""Speech and sound encoders: Wav2Vec2, HuBERT, WavLM on waves, AST on spectrograms."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel
from neuroalign.models.base import Family
from neuroalign.models.blocks import tower_layers
from neuroalign.models.multimodal import prefixed_masks
from neuroalign.models.waves import count_heard, load_audio_input, tile_times

__all__ = ["AudioSpectrogram", "Speech"]


class SoundEncoder(Family):
    """What encoders of sound alone share: one tower, ``audio``."""

    modalities = ("audio",)

    def load_processors(self, source, config) -> dict:
        """Return the sound side."""
        return {"audio": load_audio_input(source.folder)}

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the one tower."""
        return ("audio",)

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise for absent sounds and missing files."""
        model.processors["audio"].check(stimuli)

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return 1: the tokens of a sound are not known before it is read."""
        return 1


class Speech(SoundEncoder):
    """Wav2Vec2, HuBERT, WavLM; a token is 20 ms.

    The first layer of the base sizes (``feat_extract_norm="group"``) is normalised over time, so that padding would
    change all numbers, masked or not. Here its mean and variance are taken over the samples of each sound alone: a
    sound in a batch gives what it gives by itself.
    """

    family = "speech"
    version = 1
    model_types = ("wav2vec2", "hubert", "wavlm")

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and the blocks."""
        return tower_layers(model.module, model.module.config.model_type, "audio", ("audio", "all"), taps=taps)

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Read the sounds at the rate of the model, normalise each by itself, pad on the right."""
        side = model.processors["audio"]
        side.check(stimuli)
        waves = side.open(stimuli)
        counts = [int(model.module._get_feat_extract_output_lengths(torch.tensor(len(w)))) for w in waves]
        short = [s["stimulus_id"] for s, n in zip(stimuli, counts) if n < 1]
        if short:
            raise BadStimuli("the sound is shorter than one frame of the model.", short, "Leave them out.")
        rows = [side.process([w])["input_values"][0] for w in waves]
        real = torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]
        tensors = {"input_values": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
                   "lengths": torch.tensor([len(w) for w in waves])}
        tensors = {k: v.to(model.device, model.dtype if v.is_floating_point() else v.dtype)
                   for k, v in tensors.items()}
        return Inputs(tensors, {"audio": {"audio": real.to(model.device), "all": real.to(model.device)}})

    def times(self, model: LoadedModel, layer: Layer, stimulus: Mapping) -> np.ndarray:
        """Return the seconds of the frames: one stride each, about the middle of the samples that a frame reads."""
        config, rate = model.module.config, model.processors["audio"].rate
        count = int(model.module._get_feat_extract_output_lengths(torch.tensor(count_heard(stimulus, rate))))
        if count < 1:
            raise ValueError("the sound is shorter than one frame of the model.")
        stride, field = 1, 1
        for kernel, step in zip(config.conv_kernel, config.conv_stride):
            field += (kernel - 1) * stride
            stride *= step
        return tile_times(count, stride / rate, field / 2 / rate)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the model; with the mask of the padding where it is exact."""
        values, lengths = inputs.tensors["input_values"], inputs.tensors["lengths"]
        given = {"output_hidden_states": True} if inputs.tensors.get("output_hidden_states") else {}
        if len(set(lengths.tolist())) == 1:
            return model.module(values, **given)
        config, first = model.module.config, model.module.feature_extractor.conv_layers[0]
        mask = torch.arange(values.shape[1], device=values.device)[None] < lengths[:, None]
        if config.feat_extract_norm != "group":
            return model.module(values, attention_mask=mask.long(), **given)
        frames = (lengths - config.conv_kernel[0]) // config.conv_stride[0] + 1
        handle = first.layer_norm.register_forward_hook(lambda norm, args, _: _norm_own(norm, args[0], frames))
        try:
            return model.module(values, attention_mask=mask.long(), **given)
        finally:
            handle.remove()


class AudioSpectrogram(SoundEncoder):
    """AST: patches of a spectrogram of fixed length after [CLS] and a distillation token."""

    family = "audio_spectrogram"
    version = 1
    model_types = ("audio-spectrogram-transformer",)

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and the blocks."""
        return tower_layers(model.module, "vit", "audio", ("audio", "special", "all"), taps=taps)

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Read the sounds at the rate of the model and make their spectrograms."""
        side, config = model.processors["audio"], model.module.config
        side.check(stimuli)
        values = torch.cat([side.process([w])["input_values"] for w in side.open(stimuli)])
        columns = (config.max_length - config.patch_size) // config.time_stride + 1
        rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        masks = prefixed_masks(len(values), 2, rows * columns, model.device, "audio")
        return Inputs({"input_values": values.to(model.device, model.dtype)}, {"audio": masks})


def _norm_own(norm: torch.nn.GroupNorm, x: torch.Tensor, frames: torch.Tensor) -> torch.Tensor:
    """Normalise each channel over the frames of its own sound: (batch, channel, time)."""
    real = (torch.arange(x.shape[-1], device=x.device)[None] < frames[:, None])[:, None]
    count = frames[:, None, None]
    mean = (x * real).sum(-1, keepdim=True) / count
    variance = ((x - mean).square() * real).sum(-1, keepdim=True) / count
    return (x - mean) / (variance + norm.eps).sqrt() * norm.weight[:, None] + norm.bias[:, None]
