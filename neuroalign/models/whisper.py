"""Whisper: an encoder of 30 seconds of sound and a decoder of text that reads it."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from neuroalign.models.adapter import BadStimuli, Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.ct2_file import read_ct2, whisper_state
from neuroalign.models.multimodal import Multimodal
from neuroalign.models.text import TextInput
from neuroalign.models.waves import AudioInput, count_heard, load_audio_input, tile_times

__all__ = ["Whisper", "load_packaged", "transcribe"]

STRIDE = 2  # mel frames (10 ms) to a frame of the encoder (20 ms)


class Whisper(Multimodal):
    """Towers ``audio`` (the encoder) and ``decoder`` (a text given beside the sound, as its transcript).

    The encoder always sees 30 s; the frames after the end of a sound are padding and in no stream. A sound alone
    runs through the encoder; a text alone cannot be run.
    """

    family = "whisper"
    version = 1
    modalities = ("audio", "text")
    model_types = ("whisper",)
    routes: Mapping = {("audio", "text"): ("audio", "decoder"), ("audio",): ("audio",)}

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration."""
        return "WhisperForConditionalGeneration"

    def load_processors(self, source, config) -> dict:
        """Return the sound and the text side."""
        return {"audio": load_audio_input(source.folder), "text": _text_input(source.tokenizer(), config)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the encoder, then of the decoder."""
        encoder = tower_layers(model.module, "whisper", "audio", ("audio", "all"), taps=taps, prefix="model.encoder.")
        streams = ("text", "special", "all")
        return encoder + tower_layers(model.module, "whisper", "decoder", streams, taps=taps, prefix="model.decoder.")

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Read the sounds, make their log-mel pictures, tokenise the texts."""
        side, positions = model.processors["audio"], model.module.config.max_source_positions
        waves = side.open(stimuli)
        hop = side.settings["hop_length"]
        frames = [_count_frames(len(w), side) for w in waves]
        long = [s["stimulus_id"] for s, n in zip(stimuli, frames) if n > positions]
        if long:
            seconds = positions * STRIDE * hop / side.rate
            raise BadStimuli(f"the sound is longer than the {seconds:g} s that the model hears at once.", long,
                             "Cut it into clips.")
        tensors = {"input_features": side.process(waves)["input_features"].to(model.device, model.dtype)}
        real = torch.arange(positions)[None] < torch.tensor(frames)[:, None]
        streams, offsets = {"audio": {"audio": real.to(model.device), "all": real.to(model.device)}}, {}
        if "text" in self.present(stimuli[0]):
            text = model.processors["text"]
            coded, streams["decoder"], spans = text.batch(text.encode(stimuli), model.device)
            tensors |= {f"decoder_{k}": v for k, v in coded.items()}
            offsets["decoder"] = spans
        return Inputs(tensors, streams, offsets)

    def times(self, model: LoadedModel, layer: Layer, stimulus: Mapping) -> np.ndarray | None:
        """Return the seconds of the frames of the encoder: the first is centred on the beginning of the sound."""
        if layer.tower != "audio":
            return None
        side = model.processors["audio"]
        count = _count_frames(count_heard(stimulus, side.rate), side)
        return tile_times(count, side.settings["hop_length"] * STRIDE / side.rate, 0.0)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the encoder, and the decoder if there is a text."""
        if "decoder" in inputs.streams:
            return model.module(**inputs.tensors, use_cache=False)
        return model.module.model.encoder(inputs.tensors["input_features"])


def transcribe(model: LoadedModel, stimuli: Sequence[Mapping], *, max_tokens: int = 100) -> list[str]:
    """Write down what is said, greedily.

    Parameters
    ----------
    model : LoadedModel
        A Whisper.
    stimuli : sequence of mapping
        Rows with ``stimulus_id`` and ``audio``.
    max_tokens : int
        Longest transcript.

    Returns
    -------
    list of str
    """
    side, texts = model.processors["text"], []
    prompt, end = list(side.prefix), side.suffix[0]
    blank = side.tokenizer(" ", add_special_tokens=False)["input_ids"]
    for stimulus in stimuli:
        sound = {k: stimulus[k] for k in ("stimulus_id", "audio")}
        ids = list(prompt)
        with torch.inference_mode():
            heard = model.adapter.forward(model, model.adapter.prepare(model, [sound]))
            for _ in range(max_tokens):
                logits = model.module(encoder_outputs=heard, decoder_input_ids=torch.tensor([ids], device=model.device),
                                      use_cache=False).logits[0, -1]
                logits[prompt] = -torch.inf
                if len(ids) == len(prompt):  # something must be said
                    logits[[*blank, end]] = -torch.inf
                ids.append(int(logits.argmax()))
                if ids[-1] == end:
                    break
        texts.append(side.tokenizer.decode(ids[len(prompt):], skip_special_tokens=True).strip())
    return texts


def load_packaged(path, tokenizer_path, seed_with=None):
    """Return module, adapter and processors of the Whisper in a CTranslate2 file.

    `seed_with`, a function of a function that makes the module, gives its random twin instead.
    """
    import transformers

    state, settings = whisper_state(read_ct2(path))
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer_path))
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    config = transformers.WhisperConfig(**settings, pad_token_id=end, bos_token_id=end, eos_token_id=end,
                                        decoder_start_token_id=start, suppress_tokens=None, begin_suppress_tokens=None)
    if seed_with is not None:
        module = seed_with(lambda: transformers.WhisperForConditionalGeneration(config))
    else:
        module = transformers.WhisperForConditionalGeneration(config)
        module.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=True)
    extractor = transformers.WhisperFeatureExtractor(feature_size=config.num_mel_bins)
    return module, Whisper(), {"audio": AudioInput.of(extractor), "text": _text_input(tokenizer, config)}


def _count_frames(samples: int, side: AudioInput) -> int:
    """Return how many frames of the encoder a sound fills."""
    return -(-samples // (side.settings["hop_length"] * STRIDE))


def _text_input(tokenizer, config) -> TextInput:
    """Return the text side: start of transcript, language and task where there are any, no time stamps."""
    known = tokenizer.get_vocab()
    names = ["<|startoftranscript|>", "<|notimestamps|>"]
    if config.vocab_size > 51864:  # the multilingual models; those for English alone have one token less
        names[1:1] = ["<|en|>", "<|transcribe|>"]
    prefix = [known[n] for n in names if n in known] or [config.decoder_start_token_id]
    tokenizer.padding_side = "right"
    return TextInput(tokenizer, tuple(prefix), (config.eos_token_id,), config.pad_token_id, config.max_target_positions)
