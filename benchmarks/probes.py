"""Knockout sweeps over all layer windows, and the modality gap of all layers, beside what they cost at least.

    python benchmarks/probes.py --size small --repeats 2 --out benchmarks/probes.json
    python benchmarks/probes.py --case gap --layers 24 --repeats 3 --out benchmarks/probes_gap.json

A decoder of 24 layers with random weights (a Llama), window 9. ``picture`` blocks what a question after a long span
reads of that span, as ``image->question`` does in a multimodal model: the tokens of the span stay as they are and do
not run again either. ``start`` blocks a read at the very start of the sequence, so that only the blocks below a window
are saved: at best 1.49 times with a window of 9 among 24 blocks. Both give the log-probabilities of the answer; they
are compared with those of the independent forwards.

``gap`` measures layers of 5,000 pairs of 1,024 dimensions, without and with nulls and intervals, beside the products of
matrices that it needs: rows of either side with themselves, and with each other.
Each repeat runs both ways one after the other in one process.
"""

import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from encode import machine

from neuroalign.data import StimulusSet, make_features
from neuroalign.models import load_model
from neuroalign.probes.information_flow import information_flow, window_around
from neuroalign.probes.knockout import knockout
from neuroalign.probes.modality_gap import modality_gap

SIZES = {"full": {"hidden_size": 256, "intermediate_size": 704, "num_attention_heads": 8, "num_key_value_heads": 8},
         "small": {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4, "num_key_value_heads": 4}}
BLOCKS, WINDOW, SPAN, ROWS = 24, 9, 160, 4
EDGES = {"picture": "span->question", "start": "first->span"}


def make_model(folder, size):
    """A Llama of 24 layers with a vocabulary of words."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{i}" for i in range(996))]
    config = transformers.LlamaConfig(vocab_size=len(words), num_hidden_layers=BLOCKS, max_position_embeddings=512,
                                      pad_token_id=0, bos_token_id=1, eos_token_id=2, **SIZES[size])
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>",
                                         eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return load_model(str(folder), device="cpu")


def make_stimuli(rng):
    """A first word, a long span, a question of 20 words, one more."""
    import pandas as pd

    rows = []
    for i in range(ROWS):
        words = [f"w{k}" for k in rng.permutation(996)[: SPAN + 22]]
        rows.append({"stimulus_id": f"s{i}", "text": " ".join(words), "first": (0, len(words[0])),
                     "span": " ".join(words[1:SPAN + 1]), "question": " ".join(words[SPAN + 1:-1])})
    return StimulusSet(pd.DataFrame(rows).set_index("stimulus_id"), "bench")


def independent(model, stimuli, edge):
    """Mean change of the answer's log-probability, by a whole forward for each window."""
    rows = [{"stimulus_id": i, "text": t} for i, t in zip(stimuli.ids, stimuli.table["text"])]

    def last(part):
        with torch.inference_mode():
            inputs = part.adapter.prepare(part, rows)
            inputs.tensors["logits_to_keep"] = 1
            return part.adapter.forward(part, inputs).logits[:, -1].log_softmax(-1)

    base, token = last(model).max(-1)
    windows = [window_around(c, WINDOW, BLOCKS) for c in range(BLOCKS)]
    return [(last(knockout(model, stimuli, edge, layers=(w.start, w.stop))).gather(1, token[:, None])[:, 0] - base)
            .mean().item() for w in windows]


def replayed(model, stimuli, edge):
    """The same, by `information_flow`."""
    found = information_flow(model, stimuli, edge, window=WINDOW, n_bootstraps=0, batch_size=ROWS)
    return found.score.sel(metric="flow.logp").values[:, 0].tolist()


def products(pairs):
    """The products that distances of all rows need, in blocks."""
    for x, y in pairs:
        for a, b in ((x, x), (y, y), (x, y)):
            for rows in a.split(1000):
                rows @ b.T


def run_gap(n_layers, repeats, n=5000, d=1024):
    """Time the gap of layers, and the products that it needs."""
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal((2, n, d)).astype(np.float32) for _ in range(n_layers)]
    ids = [f"p{k}" for k in range(n)]
    sides = [[make_features(both[k], ids, model="m", layer=f"l{j}", stream=name) for j, both in enumerate(arrays)]
             for k, name in enumerate(("image", "text"))]
    pairs = [tuple(torch.from_numpy(side) for side in both) for both in arrays]
    methods = {"products": lambda: products(pairs),
               "gap": lambda: modality_gap(*sides, n_permutations=0, n_bootstraps=0, device="cpu"),
               "gap, nulls and intervals": lambda: modality_gap(*sides, device="cpu")}
    times = {name: [] for name in methods}
    for _ in range(repeats):
        for name, method in methods.items():
            cpu = time.process_time()
            method()
            times[name].append(round(time.process_time() - cpu, 2))
    ratios = {name: round(float(np.median(np.divide(t, times["products"]))), 2) for name, t in times.items()}
    print("gap", times, ratios)
    return {"case": "gap", "layers": n_layers, "pairs": n, "dimensions": d, "cpu_s": times, "ratio": ratios}


def run(case, size, repeats):
    """Time both ways."""
    with tempfile.TemporaryDirectory() as folder:
        model = make_model(folder, size)
    stimuli, times, values = make_stimuli(np.random.default_rng(0)), {}, {}
    for _ in range(repeats):
        for name, method in (("independent", independent), ("replayed", replayed)):
            cpu, wall = time.process_time(), time.perf_counter()
            values[name] = method(model, stimuli, EDGES[case])
            times.setdefault(name, []).append({"cpu_s": round(time.process_time() - cpu, 3),
                                               "wall_s": round(time.perf_counter() - wall, 3)})
    best = {name: min(t["cpu_s"] for t in found) for name, found in times.items()}
    off = float(np.abs(np.subtract(values["independent"], values["replayed"])).max())
    found = {"case": case, "size": size, "blocks": BLOCKS, "window": WINDOW, "rows": ROWS, "tokens": SPAN + 23,
             "times": times, "speedup": round(best["independent"] / best["replayed"], 2), "largest_difference": off}
    print(case, best, f"{found['speedup']} times faster, largest difference {off:.1e}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=(*EDGES, "gap"), action="append")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--layers", type=int, default=24, help="of the case gap")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = {"machine": {**machine(), "platform": platform.platform(terse=True), "threads": 1},
              "results": [run_gap(options.layers, options.repeats) if case == "gap" else
                          run(case, options.size, options.repeats) for case in options.case or EDGES]}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
