"""Speed and memory of extraction, beside a bare loop of transformers on the same input.

    python benchmarks/extract.py [--quick] [--cases images sentences ...] [--out FILE.json]

Cases that are not asked for stay in the file as they were.

Models have the size of ViT-B/16, BERT-base, CLIP ViT-B/32 and a small LLaVA with random weights; photographs are
crops of the two that scikit-learn carries. What is compared does the same forward in one process, by turns. `cpu_s`
is the time of all cores together: on a machine that is shared it is the steadier figure. Each case is the median of
its repeats.
"""

import argparse
import gc
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neuroalign.data import StimulusSet
from neuroalign.features import extract
from neuroalign.models import load_model, wrap

WORDS = ["a", "photo", "of", "the", "old", "man", "who", "plays", "guitar", "in", "rain", "while", "someone",
         "listens", "and", "quick", "brown", "fox", "jumps", "over", "lazy", "dog", "near", "river", "bank"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--quick", action="store_true", help="fewer stimuli, one repeat")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--out", type=Path, default=None)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    known = json.loads(options.out.read_text()) if options.out and options.out.is_file() else {"cases": {}}
    record = {"machine": _machine(), "cases": known["cases"]}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.cases:
            about = {"commit": _commit(), "date": time.strftime("%Y-%m-%d"), "load": os.getloadavg()[0]}
            record["cases"][name] = {**CASES[name](Path(folder), options), **about}
            print(name, json.dumps(record["cases"][name]), flush=True)
            if options.out:
                options.out.write_text(json.dumps(record, indent=1) + "\n")


def images(folder: Path, options) -> dict:
    """ViT-B/16 and CLIP's ViT-B/32, all layers pooled and stored, against the forward alone."""
    n, repeats = (32, 1) if options.quick else (64, 3)
    stimuli = photographs(folder / "pictures", n)
    rows = stimuli.table.reset_index().to_dict("records")
    found = {}
    for name, make in (("vit-b16", vit), ("clip-vit-b32", clip)):
        model = load_model(str(make(folder / name)), device=options.device)
        size = 32 if model.device.type == "cpu" else 128

        def ours(model=model, size=size):
            with tempfile.TemporaryDirectory() as store:
                return extract(model, stimuli, store=store, batch_size=size, progress=False)

        def bare(model=model, size=size):
            with torch.inference_mode():
                for i in range(0, n, size):
                    inputs = model.adapter.prepare(model, rows[i:i + size])
                    model.adapter.forward(model, inputs)

        found[name] = compare({"neuroalign": ours, "bare forward": bare}, n, repeats, model.device)
    return found


def sentences(folder: Path, options) -> dict:
    """BERT-base on sentences of mixed length, against padded batches in arbitrary order that keep the states."""
    n, repeats = (64, 1) if options.quick else (256, 3)
    model = load_model(str(bert(folder / "bert")), device=options.device)
    stimuli = mixed_sentences(n)
    rows = stimuli.table.reset_index().to_dict("records")

    def ours():
        with tempfile.TemporaryDirectory() as store:
            return extract(model, stimuli, store=store, progress=False)

    def padded():
        with torch.inference_mode():
            for i in range(0, n, 32):
                inputs = model.adapter.prepare(model, rows[i:i + 32])
                states = model.module(**inputs.tensors, output_hidden_states=True).hidden_states
                mask = inputs.streams["text"]["all"].float()[..., None]
                [((h * mask).sum(1) / mask.sum(1)).cpu() for h in states]

    return compare({"neuroalign": ours, "arbitrary order, padded": padded}, n, repeats, model.device)


def pairs(folder: Path, options) -> dict:
    """A model of LLaVA's kind (ViT-B/32, 8 layers of 768) on photographs with captions, all layers and streams."""
    n, repeats = (32, 1) if options.quick else (64, 3)
    shown, said = photographs(folder / "pairs", n), mixed_sentences(n)
    stimuli = StimulusSet(shown.table.assign(text=said.table.text.to_numpy()))
    model = load_model(str(llava(folder / "llava")), device=options.device)
    rows = stimuli.table.reset_index().to_dict("records")
    size = 16 if model.device.type == "cpu" else 128

    def ours():
        with tempfile.TemporaryDirectory() as store:
            return extract(model, stimuli, streams=["image", "text", "special", "all"], store=store, batch_size=size,
                           progress=False)

    def bare():  # the same batches, the longest first
        order = sorted(range(n), key=lambda i: -model.adapter.length(model, rows[i]))
        with torch.inference_mode():
            for i in range(0, n, size):
                inputs = model.adapter.prepare(model, [rows[k] for k in order[i:i + size]])
                model.adapter.forward(model, inputs)

    return compare({"neuroalign": ours, "bare forward": bare}, n, repeats, model.device)


def bf16(folder: Path, options) -> dict:
    """BERT-base in bfloat16 against float32, with the drift of the features."""
    n, repeats = (64, 1) if options.quick else (256, 3)
    if options.device in ("auto", "cpu") and not torch.cuda.is_available() and not has_bf16():
        return {"skipped": "the processor has no bfloat16 arithmetic (neither AVX512-BF16 nor AMX): it is emulated"}
    path, stimuli = str(bert(folder / "bert")), mixed_sentences(n)
    models = {d: load_model(path, device=options.device, dtype=d) for d in ("float32", "bfloat16")}
    kept = {}

    def run(dtype):
        with tempfile.TemporaryDirectory() as store:
            features = extract(models[dtype], stimuli, store=store, progress=False)
            kept[dtype] = [np.array(v.values) for v in features.values()]

    found = compare({"bfloat16": lambda: run("bfloat16"), "float32": lambda: run("float32")}, n, repeats,
                    models["float32"].device)
    drift = [np.linalg.norm(a - b) / np.linalg.norm(b) for a, b in zip(kept["bfloat16"], kept["float32"])]
    rows = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(kept["bfloat16"], kept["float32"])]
    return {**found, "largest relative drift of a layer": float(max(drift)),
            "smallest correlation of a layer": float(min(rows))}


def memory(folder: Path, options) -> dict:
    """Peak memory with 1,000 and with 10,000 stimuli on a model of four layers, each in its own process."""
    peaks = {n: _in_process(n) for n in (1000, 10000)}
    return {"peak_mb": peaks, "ratio": peaks[10000] / peaks[1000]}


def words(folder: Path, options) -> dict:
    """Words in context: windows that serve all of their words, against one forward a word of 64 words."""
    from transformers import GPT2Config, GPT2LMHeadModel

    n, sample = (500, 20) if options.quick else (2000, 60)
    path = _save(folder / "gpt2", lambda: GPT2LMHeadModel(GPT2Config(n_layer=6)), tokenizer=_gpt2_tokenizer)
    model = load_model(str(path), device=options.device)
    rng = np.random.default_rng(0)
    text = " ".join(rng.choice(WORDS, n))
    stimuli = StimulusSet.from_texts([text]).words()
    spoken = text.split()

    def ours():
        with tempfile.TemporaryDirectory() as store:
            return extract(model, stimuli, context=128, store=store, progress=False)

    def each():
        with torch.inference_mode():
            for k in np.linspace(64, n - 1, sample).astype(int):
                inputs = model.adapter.prepare(model, [{"stimulus_id": "x", "text": " ".join(spoken[k - 64:k + 1])}])
                states = model.module(**inputs.tensors, output_hidden_states=True).hidden_states
                [h[0, -1].cpu() for h in states]

    found = {"windows": measure(ours, model.device),
             f"one forward a word ({sample} words)": measure(each, model.device)}
    per_word = [f["cpu_s"] / k for f, k in zip(found.values(), (n, sample))]
    wall = [f["wall_s"] / k for f, k in zip(found.values(), (n, sample))]
    return {**found, "times faster by cpu": per_word[1] / per_word[0], "times faster by wall": wall[1] / wall[0]}


CASES = {"images": images, "sentences": sentences, "pairs": pairs, "bf16": bf16, "memory": memory, "words": words}


def compare(functions: dict, n: int, repeats: int, device) -> dict:
    """Run functions by turns; the first is the one whose ratio is taken."""
    runs = {name: [] for name in functions}
    for function in functions.values():
        function()  # warm
    for _ in range(repeats):
        for name, function in functions.items():
            runs[name].append(measure(function, device))
    medians = {name: {k: float(np.median([r[k] for r in rs])) for k in rs[0]} for name, rs in runs.items()}
    first, second = medians.values()
    return {**{name: {**m, "stimuli_per_s": n / m["wall_s"]} for name, m in medians.items()},
            "throughput ratio by cpu": second["cpu_s"] / first["cpu_s"],
            "throughput ratio by wall": second["wall_s"] / first["wall_s"], "n": n, "repeats": repeats}


def measure(function, device) -> dict:
    """Return wall and CPU seconds."""
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def photographs(folder: Path, n: int) -> StimulusSet:
    """Cut crops from scikit-learn's two photographs."""
    from PIL import Image
    from sklearn.datasets import load_sample_images

    folder.mkdir(parents=True, exist_ok=True)
    rng, pictures = np.random.default_rng(0), load_sample_images().images
    for i in range(n):
        picture = pictures[i % len(pictures)]
        y, x = rng.integers(0, picture.shape[0] - 300), rng.integers(0, picture.shape[1] - 300)
        Image.fromarray(picture[y:y + 300, x:x + 300]).save(folder / f"{i:05d}.jpg")
    return StimulusSet.from_folder(folder)


def mixed_sentences(n: int) -> StimulusSet:
    """Draw sentences whose lengths spread as those of captions, questions and paragraphs do."""
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(2.7, 0.8, n), 3, 120).astype(int)
    return StimulusSet.from_texts([" ".join(rng.choice(WORDS, k)) for k in lengths])


def vit(folder: Path) -> Path:
    from transformers import ViTConfig, ViTImageProcessorPil, ViTModel

    return _save(folder, lambda: ViTModel(ViTConfig()), image=ViTImageProcessorPil)


def clip(folder: Path) -> Path:
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel

    return _save(folder, lambda: CLIPModel(CLIPConfig()), image=CLIPImageProcessorPil, tokenizer=_bert_tokenizer)


def llava(folder: Path) -> Path:
    from transformers import CLIPImageProcessorPil, LlavaConfig, LlavaForConditionalGeneration

    def tokenizer():
        made = _gpt2_tokenizer()
        made.add_special_tokens({"additional_special_tokens": ["<image>"]})
        return made

    mark = tokenizer().convert_tokens_to_ids("<image>")
    vision = {"model_type": "clip_vision_model", "hidden_size": 768, "num_hidden_layers": 12, "patch_size": 32,
              "num_attention_heads": 12, "intermediate_size": 3072, "image_size": 224, "projection_dim": 512}
    text = {"model_type": "llama", "hidden_size": 768, "num_hidden_layers": 8, "num_attention_heads": 12,
            "intermediate_size": 2048, "vocab_size": mark + 1, "max_position_embeddings": 512}
    config = LlavaConfig(vision_config=vision, text_config=text, image_token_index=mark)
    return _save(folder, lambda: LlavaForConditionalGeneration(config), image=CLIPImageProcessorPil,
                 tokenizer=tokenizer)


def bert(folder: Path) -> Path:
    from transformers import BertConfig, BertModel

    return _save(folder, lambda: BertModel(BertConfig()), tokenizer=_bert_tokenizer)


def _save(folder: Path, make, image=None, tokenizer=None) -> Path:
    if not folder.is_dir():
        torch.manual_seed(0)
        make().save_pretrained(folder)
        if image is not None:
            image().save_pretrained(folder)
        if tokenizer is not None:
            tokenizer().save_pretrained(folder)
    return folder


def _bert_tokenizer():
    return load_model("minilm", device="cpu").processors["text"].tokenizer


def _gpt2_tokenizer():
    return load_model("smollm2-135m", device="cpu").processors["text"].tokenizer


def _in_process(n: int) -> float:
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import extract; extract._peak({n})"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(out.stdout.split()[-1])


def _peak(n: int) -> None:
    net = torch.nn.Sequential(*(torch.nn.Linear(512, 512) for _ in range(4)))
    model = wrap(net, lambda text: torch.full((512,), float(text)), [str(i) for i in range(4)], name="four",
                 modality="text", device="cpu")
    stimuli = StimulusSet(pd.DataFrame({"text": [str(i) for i in range(n)]}, index=[f"s{i}" for i in range(n)]))
    with tempfile.TemporaryDirectory() as store:
        extract(model, stimuli, store=store, progress=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _machine() -> dict:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"processor": platform.processor() or platform.machine(), "threads": torch.get_num_threads(), "gpu": gpu,
            "torch": torch.__version__}


def _commit() -> str:
    here = Path(__file__).parent
    return subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True).stdout.strip()


if __name__ == "__main__":
    main()
