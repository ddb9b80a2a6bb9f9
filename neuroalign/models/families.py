"""Which adapter reads a model: by the model type of its configuration."""

from neuroalign.errors import suggest
from neuroalign.models.albef import Albef
from neuroalign.models.captioner import BlipCaptioner, Git
from neuroalign.models.causal_lm import CausalLM
from neuroalign.models.cnn import CNN
from neuroalign.models.co_attention import BridgeTower
from neuroalign.models.coca import Coca
from neuroalign.models.cross_attention import Mllama
from neuroalign.models.decoder_mllm import DecoderMLLM
from neuroalign.models.dual_encoder import DualEncoder
from neuroalign.models.grid_regions import GridLxmert, GridVisualBert
from neuroalign.models.pair import Pair
from neuroalign.models.query_bridge import InstructBlip, QueryBridge
from neuroalign.models.qwen_vl import QwenVL
from neuroalign.models.single_stream import Flava, Vilt
from neuroalign.models.slip import Slip
from neuroalign.models.sound_and_video import Clap, XClip
from neuroalign.models.speech import AudioSpectrogram, Speech
from neuroalign.models.text_encoder import TextEncoder
from neuroalign.models.video import VideoEncoder
from neuroalign.models.vision_transformer import VisionTransformer
from neuroalign.models.whisper import Whisper

__all__ = ["FAMILIES", "find_adapter", "single_runs"]

SINGLE_TOWER = (TextEncoder, CausalLM, VisionTransformer, CNN)
MULTIMODAL = (DualEncoder, Vilt, Flava, DecoderMLLM, QwenVL, BlipCaptioner, Git, QueryBridge, Whisper,
              GridVisualBert, GridLxmert, BridgeTower, InstructBlip, Mllama, Clap, XClip, Pair)  # fmt: skip
PUBLISHED = (Slip, Albef, Coca)  # read from files of their authors: no model type leads to them
FAMILIES = {cls.family: cls for cls in (*SINGLE_TOWER, *MULTIMODAL, Speech, AudioSpectrogram, VideoEncoder,
                                        *PUBLISHED)}  # fmt: skip


def find_adapter(model_type: str, entry=None):
    """Return the adapter of a model type; a zoo entry that names another family is refused.

    Raises
    ------
    ValueError
        No adapter reads this model type; names those that are read, and `neuroalign.models.wrap`.
    """
    families = {name: family for name, family in FAMILIES.items() if model_type in family.model_types}
    if entry is not None and entry.family in families:
        return families[entry.family]()
    if entry is not None and families:
        raise ValueError(
            f"zoo entry {entry.id!r}: family {entry.family!r} does not read model type {model_type!r}, "
            f"expected {' or '.join(map(repr, families))}."
        )
    if not families:
        known = sorted({name for family in FAMILIES.values() for name in family.model_types})
        raise ValueError(
            f"model type {model_type!r}: no adapter reads it.{suggest(model_type, known)} Known: "
            f"{', '.join(known)}. For any other module use neuroalign.models.wrap(module, preprocess, layers)."
        )
    return next(iter(families.values()))()


def single_runs(adapter) -> tuple[str, ...]:
    """Return the modalities that an adapter can be given alone."""
    routes = getattr(adapter, "routes", None)
    return tuple(m for m in adapter.modalities if routes is None or (m,) in routes)
