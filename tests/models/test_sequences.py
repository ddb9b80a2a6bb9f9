"""What a model is given equals what the processor of transformers makes of the same picture and text."""

import pytest
import tiny
import tiny_multimodal
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing

# model type -> (processor, its settings, the text that it is given: it puts no begin of text itself)
PROCESSORS = {
    "llava": ("LlavaProcessor", {"patch_size": 8, "vision_feature_select_strategy": "default",
                                 "num_additional_image_tokens": 1}, "<s><image>{}"),
    "llava_next": ("LlavaNextProcessor", {"patch_size": 8, "vision_feature_select_strategy": "default",
                                          "num_additional_image_tokens": 1}, "<s><image>{}"),
    "idefics3": ("Idefics3Processor", {"image_seq_len": 4}, "<s><image>{}"),
    "blip-2": ("Blip2Processor", {"num_query_tokens": 5}, "<s>{}"),
    "instructblip": ("InstructBlipProcessor", {"num_query_tokens": 5, "qformer_tokenizer": None}, "{}"),
    "mllama": ("MllamaProcessor", {}, "<image>{}"),
    "janus": ("JanusProcessor", {"num_image_tokens": 16}, "<s><image>{}"),
    "chameleon": ("ChameleonProcessor", {"image_seq_length": 16}, "<s><image>{}"),
}  # fmt: skip
NAMED = {"image_token": "<image>", "image_token_id": tiny_multimodal.IMAGE_ID, "boi_token": "<begin_of_image>",
         "eoi_token": "<end_of_image>"}  # fmt: skip
OPTIONS = {"idefics3": {"do_image_splitting": False}, "chameleon": {"return_for_text_completion": True}}


@pytest.fixture
def processor(tiny_folder):
    """Return a function from a model type to the processor of transformers."""
    import transformers

    def make(model_type: str):
        name, settings, _ = PROCESSORS[model_type]
        tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_folder(model_type), local_files_only=True)
        if model_type in ("mllama", "janus"):
            for key, value in NAMED.items():
                setattr(tokenizer, key, value)
        if "qformer_tokenizer" in settings:  # one text for two tokenizers, each with its own special tokens
            begin = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
            tokenizer.backend_tokenizer.post_processor = begin
            settings = settings | {"qformer_tokenizer": tiny.tokenizer("bert")}
        images, options = tiny_multimodal.CONFIGS[model_type][3]
        return getattr(transformers, name)(getattr(transformers, images)(**options), tokenizer, **settings)

    return make


@pytest.mark.parametrize("model_type", sorted(PROCESSORS))
def test_sequences_equal_those_of_the_models_processor(model_type, tiny_model, processor, texts, pictures):
    model, pair = tiny_model(model_type), texts[1] | pictures[2]
    ours = model.adapter.prepare(model, [pair]).tensors
    text = PROCESSORS[model_type][2].format(pair["text"])
    theirs = processor(model_type)(images=Image.open(pair["image"]), text=text, return_tensors="pt",
                                   **OPTIONS.get(model_type, {}))  # fmt: skip
    shared = set(ours) & set(theirs) - {"token_type_ids"}
    assert {"input_ids", "pixel_values"} <= shared and set(ours) <= set(theirs)
    for name in shared:
        torch.testing.assert_close(ours[name], theirs[name].to(ours[name].dtype), rtol=0, atol=1e-6, msg=name)


def test_sounds_equal_those_of_claps_extractor(tiny_model, tmp_path):
    import numpy as np
    import transformers
    from scipy.io import wavfile

    model, wave = tiny_model("clap"), np.random.default_rng(0).standard_normal(5000).astype(np.float32) * 0.1
    wavfile.write(tmp_path / "a.wav", 16000, wave)
    ours = model.adapter.prepare(model, [{"stimulus_id": "a", "audio": str(tmp_path / "a.wav")}]).tensors
    name, settings = tiny_multimodal.TIMED["clap"][3]
    theirs = getattr(transformers, name)(**settings)(wave, sampling_rate=16000, return_tensors="pt")
    torch.testing.assert_close(ours["input_features"], theirs["input_features"].float(), rtol=0, atol=1e-4)
