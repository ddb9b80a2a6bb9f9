"""Text encoders: BERT and its kin, sentence encoders."""

from collections.abc import Mapping, Sequence

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.base import Family
from neuroalign.models.blocks import tower_layers
from neuroalign.models.text import load_text_input

__all__ = ["TextAdapter", "TextEncoder"]


class TextAdapter(Family):
    """What text encoders and causal language models share."""

    modalities = ("text",)

    def towers(self, model: LoadedModel, stimulus: Mapping) -> tuple[str, ...]:
        """Return the one tower."""
        return ("text",)

    def check(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> None:
        """Raise `BadStimuli` for absent, empty and too long texts."""
        model.processors["text"].check(stimuli)

    def length(self, model: LoadedModel, stimulus: Mapping) -> int:
        """Return about how many tokens the text has."""
        return model.processors["text"].length(stimulus)

    def tokenize(self, model: LoadedModel, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Return token ids without special tokens, and their character spans."""
        return model.processors["text"].tokenize(text)

    def batch(self, model: LoadedModel, sequences) -> Inputs:
        """Turn tokenised texts, or windows of them, (ids, offsets) each, into a batch with special tokens."""
        tensors, masks, offsets = model.processors["text"].batch(sequences, model.device)
        return Inputs(tensors, {"text": masks}, {"text": offsets})

    def prepare(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Tokenise, add special tokens, pad on the right."""
        return self.batch(model, model.processors["text"].encode(stimuli))


class TextEncoder(TextAdapter):
    """Bidirectional encoders; streams ``text`` (real tokens), ``special`` ([CLS], [SEP]), ``all``."""

    family = "text_encoder"
    version = 1
    model_types = (
        "bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "deberta-v2", "modernbert", "t5",
    )  # fmt: skip

    def auto_class(self, config) -> str:
        """Return the class of transformers that loads a configuration: of T5, its encoder."""
        return "T5EncoderModel" if config.model_type == "t5" else "AutoModel"

    def load_processors(self, source, config) -> dict:
        """Return the text side."""
        return {"text": load_text_input(source.tokenizer(), config)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding, the blocks, and the pooled vector where it was trained."""
        module, streams = model.module, model.processors["text"].streams
        layers = tower_layers(module, module.config.model_type, "text", streams, taps=taps)
        if "block" in taps and getattr(module, "pooler", None) is not None and "pooler" not in model.untrained:
            layers.append(Layer("pooler", 1.0, "text", ("text", "all"), masked=False))
        return layers
