"""Tiny models of each model type, made from the real configurations of transformers and saved as folders."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

VOCABULARY = 320
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and doesn't look back.",
    "A man is playing the guitar; someone listens to the music.",
    "It's raining again in the old town, they said, isn't it?",
    "Words in context: one, two, three windows of a running text.",
]
TEXT = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
}
IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
CAUSAL = TEXT | {"max_position_embeddings": 64, "num_key_value_heads": 2}

ENCODER_TYPES = ("bert", "roberta", "xlm-roberta", "distilbert", "mpnet", "deberta-v2", "modernbert", "t5")
EXPERT_TYPES = ("mixtral", "qwen2_moe", "olmoe")
CAUSAL_TYPES = ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "olmo", "phi3", "opt", "gpt_neox", "mamba",
                *EXPERT_TYPES)  # fmt: skip
TEXT_TYPES = ENCODER_TYPES + CAUSAL_TYPES
DUAL_TYPES = ("clip", "siglip", "align", "vision-text-dual-encoder")
CNN = {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320}
CONFIGS = {
    # text encoders
    "bert": ("BertModel", "BertConfig", TEXT | {"max_position_embeddings": 64}),
    "roberta": ("RobertaModel", "RobertaConfig", TEXT | {"max_position_embeddings": 65}),
    "xlm-roberta": ("XLMRobertaModel", "XLMRobertaConfig", TEXT | {"max_position_embeddings": 65}),
    "distilbert": (
        "DistilBertModel",
        "DistilBertConfig",
        {
            "vocab_size": VOCABULARY,
            "dim": 32,
            "n_layers": 3,
            "n_heads": 4,
            "hidden_dim": 48,
            "max_position_embeddings": 64,
        },
    ),
    "mpnet": ("MPNetModel", "MPNetConfig", TEXT | {"max_position_embeddings": 65}),
    "deberta-v2": (
        "DebertaV2Model",
        "DebertaV2Config",
        TEXT
        | {
            "relative_attention": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
            "position_buckets": 8,
            "max_position_embeddings": 64,
        },
    ),
    "modernbert": (
        "ModernBertModel",
        "ModernBertConfig",
        TEXT | {"cls_token_id": 1, "sep_token_id": 2, "max_position_embeddings": 64},
    ),
    "t5": (
        "T5EncoderModel",
        "T5Config",
        {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 3, "num_heads": 4},
    ),
    # causal language models
    "gpt2": (
        "GPT2LMHeadModel",
        "GPT2Config",
        {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64},
    ),
    "llama": ("LlamaForCausalLM", "LlamaConfig", CAUSAL),
    "mistral": ("MistralForCausalLM", "MistralConfig", CAUSAL | {"head_dim": 8}),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", CAUSAL),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config", CAUSAL | {"head_dim": 8}),
    "gemma": ("GemmaForCausalLM", "GemmaConfig", CAUSAL | {"head_dim": 8}),
    "olmo": ("OlmoForCausalLM", "OlmoConfig", CAUSAL),
    "phi3": ("Phi3ForCausalLM", "Phi3Config", CAUSAL),
    "mixtral": ("MixtralForCausalLM", "MixtralConfig", CAUSAL | {"num_local_experts": 4, "head_dim": 8}),
    "qwen2_moe": (
        "Qwen2MoeForCausalLM",
        "Qwen2MoeConfig",
        CAUSAL
        | {
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 24,
            "shared_expert_intermediate_size": 24,
            "mlp_only_layers": [1],
        },
    ),
    "olmoe": ("OlmoeForCausalLM", "OlmoeConfig", CAUSAL | {"num_experts": 4, "num_experts_per_tok": 2}),
    "opt": (
        "OPTForCausalLM",
        "OPTConfig",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_hidden_layers": 3,
            "ffn_dim": 48,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "word_embed_proj_dim": 32,
        },
    ),
    "gpt_neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT | {"max_position_embeddings": 64}),
    "mamba": (
        "MambaForCausalLM",
        "MambaConfig",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "state_size": 4},
    ),
    # vision transformers
    "vit": ("ViTModel", "ViTConfig", VISION),
    "deit": ("DeiTModel", "DeiTConfig", VISION),
    "beit": ("BeitModel", "BeitConfig", VISION | {"use_relative_position_bias": True}),
    "vit_mae": (
        "ViTMAEModel",
        "ViTMAEConfig",
        VISION
        | {
            "decoder_hidden_size": 16,
            "decoder_num_hidden_layers": 1,
            "decoder_num_attention_heads": 2,
            "decoder_intermediate_size": 16,
        },
    ),
    "dinov2": ("Dinov2Model", "Dinov2Config", VISION),
    "dinov2_with_registers": (
        "Dinov2WithRegistersModel",
        "Dinov2WithRegistersConfig",
        VISION | {"num_register_tokens": 4},
    ),
    "dinov3_vit": ("DINOv3ViTModel", "DINOv3ViTConfig", VISION | {"num_register_tokens": 4}),
    "swin": (
        "SwinModel",
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 4], "window_size": 4},
    ),
    # convolutional networks
    "resnet": (
        "ResNetModel",
        "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [2, 1], "layer_type": "basic"},
    ),
    "regnet": (
        "RegNetModel",
        "RegNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 24], "depths": [2, 1], "groups_width": 8},
    ),
    "convnext": (
        "ConvNextModel",
        "ConvNextConfig",
        {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2, "layer_scale_init_value": 0.5},
    ),
    "convnextv2": (
        "ConvNextV2Model",
        "ConvNextV2Config",
        {"hidden_sizes": [8, 16], "depths": [1, 2], "num_stages": 2},
    ),
    "efficientnet": ("EfficientNetModel", "EfficientNetConfig", CNN),
    # dual encoders
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {
            "text_config": TEXT | {"max_position_embeddings": 40, "projection_dim": 24},
            "vision_config": VISION | {"projection_dim": 24},
            "projection_dim": 24,
        },
    ),
    "siglip": (
        "SiglipModel",
        "SiglipConfig",
        {"text_config": TEXT | {"max_position_embeddings": 40, "projection_size": 32}, "vision_config": VISION},
    ),
    "align": (
        "AlignModel",
        "AlignConfig",
        {"text_config": TEXT | {"max_position_embeddings": 64}, "vision_config": CNN, "projection_dim": 64},
    ),
    "vision-text-dual-encoder": ("VisionTextDualEncoderModel", "VisionTextDualEncoderConfig", None),
}

IMAGE_TYPES = tuple(t for t in CONFIGS if t not in TEXT_TYPES + DUAL_TYPES)


def build(model_type: str, folder: Path) -> Path:
    """Save a tiny model of a type, with its tokenizer or image processor, into a folder."""
    import transformers

    model_class, config_class, settings = CONFIGS[model_type]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    if settings is None:
        config = transformers.VisionTextDualEncoderConfig.from_vision_text_configs(
            transformers.ViTConfig(**VISION),
            transformers.BertConfig(**TEXT, **IDS, max_position_embeddings=64),
            projection_dim=24,
        )
    else:
        config = getattr(transformers, config_class)(**_with_ids(model_type, settings))
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(config).eval()
    _enliven(model)
    model.save_pretrained(folder)
    if model_type in TEXT_TYPES or model_type in DUAL_TYPES:
        tokenizer(model_type).save_pretrained(folder)
    if model_type not in TEXT_TYPES:
        image_processor(model_type, 32).save_pretrained(folder)
    return folder


def tokenizer(model_type: str):
    """Return a byte-level BPE tokenizer; encoders put <s> and </s> around a text, causal models nothing."""
    from transformers import PreTrainedTokenizerFast

    t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    t.train_from_iterator(
        CORPUS, trainers.BpeTrainer(special_tokens=SPECIAL, vocab_size=VOCABULARY, initial_alphabet=alphabet)
    )
    if model_type not in CAUSAL_TYPES:
        t.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    named = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "mask_token": "<mask>"}
    if model_type != "gpt2":  # a tokenizer without a padding token
        named["pad_token"] = "<pad>"
    return PreTrainedTokenizerFast(tokenizer_object=t, **named)


def image_processor(model_type: str, size: int):
    """Return the real image processor of a type, for small images."""
    import transformers

    square = {"height": size, "width": size}
    names = {"clip": "CLIPImageProcessorPil", "siglip": "SiglipImageProcessorPil", "dinov2": "BitImageProcessorPil"}
    name = names.get(model_type, "ViTImageProcessorPil")
    if name in ("CLIPImageProcessorPil", "BitImageProcessorPil"):
        return getattr(transformers, name)(size={"shortest_edge": size}, crop_size=square)
    return getattr(transformers, name)(size=square)


def photographs(folder: Path, count: int = 4) -> list[dict]:
    """Write small smooth pictures of different shapes; returns rows of stimuli."""
    rng, rows = np.random.default_rng(0), []
    for i in range(count):
        small = Image.fromarray(rng.integers(0, 255, (5, 5, 3), dtype=np.uint8))
        path = folder / f"picture{i}.png"
        small.resize((40 + 8 * i, 48), Image.Resampling.BICUBIC).save(path)
        rows.append({"stimulus_id": f"picture{i}", "image": str(path)})
    return rows


def _with_ids(model_type: str, settings: dict) -> dict:
    if "text_config" in settings:
        return settings | {"text_config": settings["text_config"] | IDS}
    return settings | IDS if "vocab_size" in settings else settings


def _enliven(model) -> None:
    # Default initialisations are so small that layers hardly differ and errors would drown in the tolerance.
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and "norm" not in name:
            parameter.data += 0.15 * torch.randn(parameter.shape, generator=generator)
