"""Tiny multimodal models, from the real configurations of transformers, with their real processors."""

from pathlib import Path

import tiny
import torch

TEXT = tiny.TEXT | tiny.IDS | {"max_position_embeddings": 96}
LM = tiny.CAUSAL | tiny.IDS | {"max_position_embeddings": 256, "head_dim": 8}
CLIP_VISION = tiny.VISION | {"model_type": "clip_vision_model", "projection_dim": 24}
SIGLIP_VISION = tiny.VISION | {"model_type": "siglip_vision_model"}
MARKS = ["<image>", "<fake_token_around_image>", "<global-img>", "<img>", "</img>", "<|vision_start|>",
         "<|vision_end|>", "<begin_of_image>", "<end_of_image>", "<racm3:break>", "<eoss>"]  # fmt: skip
IMAGE_ID = tiny.VOCABULARY
VOCABULARY = tiny.VOCABULARY + len(MARKS)
LLAMA = LM | {"model_type": "llama", "vocab_size": VOCABULARY}
QWEN_TEXT = LM | {"vocab_size": VOCABULARY, "head_dim": None,
                  "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}  # fmt: skip
SQUARE = {"height": 32, "width": 32}
CROPPED = ("CLIPImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_size": SQUARE})

# model type -> (model class, config class, settings, (image processor, its settings))
CONFIGS = {
    "vilt": ("ViltModel", "ViltConfig", TEXT | tiny.VISION,
             ("ViltImageProcessorPil", {"size": {"shortest_edge": 32}, "size_divisor": 8})),
    "flava": ("FlavaModel", "FlavaConfig",
              {"text_config": TEXT, "image_config": tiny.VISION,
               "multimodal_config": {k: v for k, v in tiny.VISION.items() if k not in ("image_size", "patch_size")},
               "image_codebook_config": {"hidden_size": 8, "vocab_size": 16, "num_blocks_per_group": 1},
               "hidden_size": 32, "projection_dim": 24},
              ("FlavaImageProcessorPil", {"size": SQUARE, "crop_size": SQUARE})),
    "llava": ("LlavaForConditionalGeneration", "LlavaConfig",
              {"vision_config": CLIP_VISION, "text_config": LLAMA, "image_token_index": IMAGE_ID}, CROPPED),
    "llava_next": ("LlavaNextForConditionalGeneration", "LlavaNextConfig",
                   {"vision_config": CLIP_VISION, "text_config": LLAMA, "image_token_index": IMAGE_ID,
                    "image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]]},
                   ("LlavaNextImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_size": SQUARE,
                                                   "image_grid_pinpoints": [[32, 64], [64, 32], [64, 64]]})),
    "idefics3": ("Idefics3ForConditionalGeneration", "Idefics3Config",
                 {"vision_config": dict(tiny.VISION), "text_config": LLAMA, "scale_factor": 2,
                  "image_token_id": IMAGE_ID, "pad_token_id": 0},
                 ("Idefics3ImageProcessorPil", {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}})),
    "smolvlm": ("SmolVLMForConditionalGeneration", "SmolVLMConfig",
                {"vision_config": dict(tiny.VISION), "text_config": LLAMA, "scale_factor": 2,
                 "image_token_id": IMAGE_ID, "pad_token_id": 0},
                ("SmolVLMImageProcessorPil", {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 32}})),
    "paligemma": ("PaliGemmaForConditionalGeneration", "PaliGemmaConfig",
                  {"vision_config": SIGLIP_VISION | {"projection_dim": 32}, "projection_dim": 32,
                   "text_config": LM | {"model_type": "gemma", "vocab_size": VOCABULARY},
                   "image_token_index": IMAGE_ID, "hidden_size": 32},
                  ("SiglipImageProcessorPil", {"size": SQUARE})),
    "internvl": ("InternVLForConditionalGeneration", "InternVLConfig",
                 {"vision_config": tiny.VISION | {"image_size": [32, 32], "patch_size": [8, 8]},
                  "text_config": LM | {"model_type": "qwen2", "vocab_size": VOCABULARY}, "image_token_id": IMAGE_ID,
                  "downsample_ratio": 0.5},
                 ("GotOcr2ImageProcessorPil", {"size": SQUARE, "crop_to_patches": False})),
    "qwen2_vl": ("Qwen2VLForConditionalGeneration", "Qwen2VLConfig",
                 {"text_config": QWEN_TEXT, "image_token_id": IMAGE_ID, "video_token_id": IMAGE_ID + 3,
                  "vision_config": {"depth": 3, "embed_dim": 32, "hidden_size": 32, "num_heads": 4, "patch_size": 8,
                                    "mlp_ratio": 2, "spatial_merge_size": 2, "temporal_patch_size": 2}},
                 ("Qwen2VLImageProcessorPil", {"patch_size": 8, "merge_size": 2, "min_pixels": 256,
                                               "max_pixels": 4096})),
    "qwen2_5_vl": ("Qwen2_5_VLForConditionalGeneration", "Qwen2_5_VLConfig",
                   {"text_config": QWEN_TEXT, "image_token_id": IMAGE_ID, "video_token_id": IMAGE_ID + 3,
                    "vision_config": {"depth": 3, "hidden_size": 32, "out_hidden_size": 32, "num_heads": 4,
                                      "intermediate_size": 48, "patch_size": 8, "spatial_merge_size": 2,
                                      "temporal_patch_size": 2, "window_size": 32, "fullatt_block_indexes": [2]}},
                   ("Qwen2VLImageProcessorPil", {"patch_size": 8, "merge_size": 2, "min_pixels": 256,
                                                 "max_pixels": 8192})),
}  # fmt: skip
CODES = {f"IMGIMG{''.join('ABCDEFGHIJ'[int(d)] for d in str(i))}Z": VOCABULARY + i for i in range(16)}
CODEBOOK = {"num_embeddings": 16, "embed_dim": 8, "latent_channels": 8, "base_channels": 32, "num_res_blocks": 1}
CONFIGS |= {
    "janus": ("JanusForConditionalGeneration", "JanusConfig",
              {"vision_config": tiny.VISION | {"mlp_ratio": 2, "projection_dim": 32, "depth": 2},
               "text_config": LLAMA, "image_token_id": IMAGE_ID,
               "vq_config": CODEBOOK | {"channel_multiplier": [1, 1], "projection_dim": 32,
                                        "image_token_embed_dim": 32}},
              ("JanusImageProcessorPil", {"size": SQUARE})),
    "chameleon": ("ChameleonForConditionalGeneration", "ChameleonConfig",
                  LM | {"vocab_size": VOCABULARY + 16, "vocabulary_map": {"<image>": IMAGE_ID} | CODES,
                        "vq_config": CODEBOOK | {"resolution": 32, "channel_multiplier": [1, 1, 1, 1]}},
                  ("ChameleonImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_size": SQUARE})),
}  # fmt: skip
BLIP_VISION = tiny.VISION | {"initializer_range": 0.02}
QUERY = {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
         "intermediate_size": 48, "encoder_hidden_size": 32, "cross_attention_frequency": 2}  # fmt: skip
CONFIGS |= {
    "blip": ("BlipForConditionalGeneration", "BlipConfig",
             {"text_config": TEXT | {"encoder_hidden_size": 32, "projection_dim": 32}, "vision_config": BLIP_VISION,
              "projection_dim": 32}, ("BlipImageProcessorPil", {"size": SQUARE})),
    "git": ("GitForCausalLM", "GitConfig", TEXT | {"vision_config": tiny.VISION}, CROPPED),
    "blip-2": ("Blip2ForConditionalGeneration", "Blip2Config",
               {"vision_config": BLIP_VISION, "qformer_config": QUERY, "num_query_tokens": 5,
                "text_config": tiny.IDS | {"model_type": "opt", "vocab_size": VOCABULARY, "hidden_size": 32,
                                           "num_hidden_layers": 3, "ffn_dim": 48, "num_attention_heads": 4,
                                           "max_position_embeddings": 96, "word_embed_proj_dim": 32},
                "image_token_index": IMAGE_ID}, ("BlipImageProcessorPil", {"size": SQUARE})),
    "instructblip": ("InstructBlipForConditionalGeneration", "InstructBlipConfig",
                     {"vision_config": BLIP_VISION, "num_query_tokens": 5, "image_token_index": IMAGE_ID,
                      "qformer_config": QUERY | {"max_position_embeddings": 64}, "text_config": LLAMA},
                     ("BlipImageProcessorPil", {"size": SQUARE})),
}  # fmt: skip
MLLAMA_VISION = {k: v for k, v in tiny.VISION.items() if k != "num_attention_heads"}
CONFIGS |= {
    "mllama": ("MllamaForConditionalGeneration", "MllamaConfig",
               {"vision_config": MLLAMA_VISION | {"attention_heads": 4, "num_global_layers": 2, "max_num_tiles": 4,
                                                  "intermediate_layers_indices": [0, 1], "vision_output_dim": 96},
                "text_config": LM | {"vocab_size": VOCABULARY, "cross_attention_layers": [1], "head_dim": None},
                "image_token_index": IMAGE_ID},
               ("MllamaImageProcessorPil", {"size": SQUARE, "max_image_tiles": 4})),
}  # fmt: skip
WIDE = {k: v for k, v in TEXT.items() if k != "hidden_size"} | {"hidden_size": 64}  # one head of vision is 64 wide
CONFIGS |= {
    "bridgetower": ("BridgeTowerModel", "BridgeTowerConfig",
                    {"text_config": WIDE, "hidden_size": 64, "num_attention_heads": 4, "num_hidden_layers": 2,
                     "vision_config": {"hidden_size": 64, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8}},
                    ("BridgeTowerImageProcessorPil", {"size": {"shortest_edge": 32}, "size_divisor": 8,
                                                      "crop_size": {"shortest_edge": 32}})),
}  # fmt: skip
CONFIGS |= {
    "visual_bert": ("VisualBertModel", "VisualBertConfig", TEXT | {"visual_embedding_dim": 24}, None),
    "lxmert": ("LxmertModel", "LxmertConfig",
               TEXT | {"l_layers": 2, "x_layers": 2, "r_layers": 1, "visual_feat_dim": 24}, None),
}  # fmt: skip
WAVE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
        "conv_dim": [16, 16], "conv_kernel": [10, 8], "conv_stride": [5, 64], "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}  # fmt: skip
WAVES = ("Wav2Vec2FeatureExtractor", {"do_normalize": True})
SPEECH = {
    "wav2vec2": ("Wav2Vec2Model", "Wav2Vec2Config", WAVE | {"feat_extract_norm": "group"}, WAVES),
    "wav2vec2-layer": ("Wav2Vec2Model", "Wav2Vec2Config",
                       WAVE | {"feat_extract_norm": "layer", "do_stable_layer_norm": True}, WAVES),
    "hubert": ("HubertModel", "HubertConfig", WAVE | {"feat_extract_norm": "group"}, WAVES),
    "wavlm": ("WavLMModel", "WavLMConfig", WAVE | {"feat_extract_norm": "group"}, WAVES),
    "audio-spectrogram-transformer": (
        "ASTModel", "ASTConfig",
        {k: v for k, v in tiny.VISION.items() if k != "image_size"}
        | {"max_length": 64, "num_mel_bins": 16, "time_stride": 4, "frequency_stride": 4},
        ("ASTFeatureExtractor", {"max_length": 64, "num_mel_bins": 16})),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig",
                tiny.IDS | {"vocab_size": VOCABULARY, "d_model": 32, "encoder_layers": 3, "decoder_layers": 3,
                            "encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_ffn_dim": 48,
                            "decoder_ffn_dim": 48, "num_mel_bins": 16, "max_source_positions": 50,
                            "max_target_positions": 64, "decoder_start_token_id": 1, "suppress_tokens": None,
                            "begin_suppress_tokens": None},
                ("WhisperFeatureExtractor", {"feature_size": 16, "chunk_length": 1})),
}  # fmt: skip
DECODERS = ("llava", "llava_next", "idefics3", "smolvlm", "paligemma", "internvl", "qwen2_vl", "qwen2_5_vl",
            "janus", "chameleon")  # fmt: skip
CLIP_SIZE = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
             "intermediate_size": 48, "num_frames": 4}  # fmt: skip
FRAMES = ("VideoMAEImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_size": SQUARE})
VIDEO = {
    "videomae": ("VideoMAEModel", "VideoMAEConfig", CLIP_SIZE | {"tubelet_size": 2}, FRAMES),
    "timesformer": ("TimesformerModel", "TimesformerConfig", CLIP_SIZE, FRAMES),
    "vjepa2": ("VJEPA2Model", "VJEPA2Config",
               {"crop_size": 32, "patch_size": 8, "frames_per_clip": 4, "tubelet_size": 2, "hidden_size": 48,
                "num_hidden_layers": 3, "num_attention_heads": 2, "mlp_ratio": 2, "pred_hidden_size": 24,
                "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1, "pred_num_mask_tokens": 1}, None),
}  # fmt: skip
TIMED = {  # dual encoders of what goes on in time
    "clap": ("ClapModel", "ClapConfig",
             {"text_config": TEXT, "projection_dim": 24,
              "audio_config": {"window_size": 4, "num_mel_bins": 16, "spec_size": 32, "patch_size": 4,
                               "patch_stride": [4, 4], "depths": [2, 1], "num_attention_heads": [2, 4],
                               "patch_embeds_hidden_size": 16, "hidden_size": 32, "num_hidden_layers": 2,
                               "enable_fusion": True, "fusion_type": "aff_2d", "aff_block_r": 2}},
             ("ClapFeatureExtractor", {"feature_size": 16, "sampling_rate": 16000, "hop_length": 256,
                                       "fft_window_size": 400, "max_length_s": 1, "frequency_max": 8000})),
    "xclip": ("XCLIPModel", "XCLIPConfig",
              {"text_config": TEXT | tiny.IDS | {"max_position_embeddings": 40}, "projection_dim": 24,
               "prompt_num_attention_heads": 4,
               "vision_config": {k: v for k, v in CLIP_SIZE.items() if k != "hidden_size"} | {
                   "hidden_size": 24, "mit_hidden_size": 24, "mit_intermediate_size": 48, "mit_num_attention_heads": 4,
                   "mit_num_hidden_layers": 2}},
              FRAMES),
}  # fmt: skip
ENCODERS = ("vilt", "flava", "blip", "git", "visual_bert", "lxmert", "bridgetower", *TIMED)
TYPES = (*CONFIGS, *SPEECH, *VIDEO, *TIMED)


def build(model_type: str, folder: Path) -> Path:
    """Save a tiny model of a type, with its tokenizer and image processor, into a folder."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model_class, config_class, settings, processor = (CONFIGS | SPEECH | VIDEO | TIMED)[model_type]
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(getattr(transformers, config_class)(**settings)).eval()
    tiny._enliven(model)
    for name, parameter in model.named_parameters():
        if "gate" in name and parameter.ndim == 1:  # closed at first, so that what they let through would not show
            parameter.data.fill_(0.7)
    model.save_pretrained(folder)
    tokenizer = tiny.tokenizer("bert" if model_type in ENCODERS else "llama")
    if model_type in (*DECODERS, "blip-2", "instructblip", "mllama"):
        tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    if model_type == "instructblip":
        tiny.tokenizer("bert").save_pretrained(folder / "qformer_tokenizer")
    tokenizer.save_pretrained(folder)
    if processor is not None:
        getattr(transformers, processor[0])(**processor[1]).save_pretrained(folder)
    elif model_type not in VIDEO:  # a model of regions
        (folder / "regions").mkdir()
        tiny.build("resnet", folder / "regions")
    return folder
