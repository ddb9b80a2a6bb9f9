"""Query bridges: a few queries carry the picture to the language model (BLIP-2)."""

from collections.abc import Mapping, Sequence
from typing import Any

from neuroalign.models.adapter import Inputs, Layer, LoadedModel
from neuroalign.models.blocks import tower_layers
from neuroalign.models.decoder_mllm import Frame, picture_pieces
from neuroalign.models.images import load_image_input
from neuroalign.models.multimodal import Multimodal, join_pieces, prefixed_masks
from neuroalign.models.text import load_text_input

__all__ = ["QueryBridge"]

FUSED = ("image", "text", "special", "all")


class QueryBridge(Multimodal):
    """Towers ``image`` (patches), ``qformer`` (queries, stream ``image``) and ``lm`` (queries, then the text).

    It has no language-only run: the model takes its queries from a picture.
    """

    family = "query_bridge"
    version = 1
    model_types = ("blip-2",)
    routes: Mapping = {("image", "text"): ("image", "qformer", "lm"), ("image",): ("image", "qformer")}

    def load_processors(self, source, config) -> dict:
        """Return the text and the image side."""
        tokenizer, text = source.tokenizer(), config.get_text_config()
        begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else text.bos_token_id
        return {"text": load_text_input(tokenizer, text, begin=begin), "image": load_image_input(source.folder)}

    def layers(self, model: LoadedModel, taps: Sequence[str] = ("block",)) -> list[Layer]:
        """Return the embedding and blocks of the vision tower, the query transformer, the language model."""
        kind = model.module.config.text_config.model_type
        decoder = "opt" if kind == "opt" else "llama"
        return [
            *tower_layers(model.module, "blip_vision_model", "image", ("image", "special", "all"), taps=taps,
                          prefix="vision_model."),
            *tower_layers(model.module, "qformer", "qformer", ("image", "all"), taps=taps, prefix="qformer."),
            *tower_layers(model.module, decoder, "lm", FUSED, taps=taps, prefix="language_model."),
        ]  # fmt: skip

    def assemble(self, model: LoadedModel, stimuli: Sequence[Mapping]) -> Inputs:
        """Process the pictures, put a placeholder a query before each text."""
        config, n = model.module.config, len(stimuli)
        pixels = model.processors["image"].batch(stimuli, model.device, model.dtype)
        patch = config.vision_config.patch_size
        queries = prefixed_masks(n, 0, config.num_query_tokens, model.device)
        count = (pixels.shape[-2] // patch) * (pixels.shape[-1] // patch)
        streams = {"image": prefixed_masks(n, 1, count, model.device), "qformer": queries}
        tensors, offsets = {"pixel_values": pixels}, {}
        if "text" in self.present(stimuli[0]):
            frame = Frame("vision_model.", "language_model.", 1, image_first=True)
            pieces = picture_pieces(model, stimuli, [config.num_query_tokens] * n, frame, config.image_token_id)
            text, streams["lm"], offsets["lm"] = join_pieces(pieces, model.processors["text"].pad_id, model.device,
                                                             FUSED[:-1])
            tensors |= text
        return Inputs(tensors, streams, offsets)

    def forward(self, model: LoadedModel, inputs: Inputs) -> Any:
        """Run the towers that have input."""
        if "lm" in inputs.streams:
            return model.module(**inputs.tensors, use_cache=False)
        return model.module.get_qformer_features(inputs.tensors["pixel_values"])
