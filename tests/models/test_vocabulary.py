"""The unembedding: logits equal those of the whole model of transformers."""

import pytest
import torch
import transformers

from neuroalign.models import load_model
from neuroalign.models.vocabulary import vocabulary_head

WHOLE = {"llava": "LlavaForConditionalGeneration", "git": "GitForCausalLM", "mllama": "MllamaForConditionalGeneration",
         "chameleon": "ChameleonForConditionalGeneration", "qwen2_vl": "Qwen2VLForConditionalGeneration"}  # fmt: skip


@pytest.mark.parametrize("model_type", ["llava", *(pytest.param(t, marks=pytest.mark.slow) for t in (
    "llama", "blip-2", "git", "mllama", "chameleon", "qwen2_vl", "opt", "gpt2", "blip"))])
def test_logits_are_those_of_the_whole_model(tiny_model, tiny_folder, run, pictures, texts, model_type):
    model = tiny_model(model_type)
    rows = [p | t | {"stimulus_id": p["stimulus_id"]} for p, t in zip(pictures, texts)]
    inputs, caught, raw = run(model, rows)
    head = vocabulary_head(model)
    blocks = [x for x in model.adapter.layers(model) if x.path.startswith(f"{head.stack}.") and x.tap == "output"]
    with torch.inference_mode():
        got = head.logits(caught[blocks[-1].name])
        if model_type in WHOLE:
            whole = getattr(transformers, WHOLE[model_type]).from_pretrained(
                tiny_folder(model_type), local_files_only=True, dtype=torch.float32).eval()
            raw = whole(**inputs.tensors, use_cache=False)
    real = inputs.streams[head.tower]["all"]
    logits = raw.logits[:, -real.shape[1]:]
    said = logits[real] > torch.finfo(logits.dtype).min / 2  # Chameleon forbids itself to answer by pictures
    torch.testing.assert_close(got[real][said], logits[real][said], rtol=0, atol=1e-4)


def test_random_twins_have_one_too_and_other_models_none(tiny_folder, tiny_model):
    twin = load_model(f"{tiny_folder('llava')}@random", device="cpu")
    states = torch.ones(2, 32)
    torch.testing.assert_close(vocabulary_head(twin).logits(states), vocabulary_head(twin).logits(states))
    with pytest.raises(ValueError, match="predicts no tokens.*Families that do: causal_lm, decoder_mllm"):
        vocabulary_head(tiny_model("bert"))
