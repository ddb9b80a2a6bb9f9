"""Ridge with a penalty per target: neuroalign beside himalaya, on the same data, folds and penalties.

    python benchmarks/encode.py --case A --repeats 5 --out benchmarks/encode_A.json
    python benchmarks/encode.py --case C --repeats 5 --out benchmarks/encode_C.json
    python benchmarks/encode.py --case layers --repeats 3 --out benchmarks/encode_layers.json
    python benchmarks/encode.py --case permutations --out benchmarks/encode_permutations.json
    python benchmarks/encode.py --case A --case C --device cuda --out benchmarks/encode_cuda.json

Every repeat runs the methods one after the other in one process with the same number of threads; CPU seconds,
wall seconds and the growth of memory are recorded, and the penalties of A and C are compared with a float64 reference
of the same procedure. Ratios are of CPU seconds, on a GPU of wall seconds. The floor is what the matrix products of the
procedure take alone: the projections of the targets and, for each penalty and fold, one prediction in the smaller size.
Data: a third of the targets are pure noise. ``layers`` fits several layers against 1,090 sites of 40 time bins by one
call; ``permutations`` states the cost of one permutation of a tenth of these targets with a full refit (it is linear in
targets; ``all-permutations`` has all of them).
"""

import argparse
import json
import os
import platform
import subprocess
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
import xarray as xr

from neuroalign.alignment import encode
from neuroalign.alignment.ridge import ridge_cv
from neuroalign.data import make_features, make_responses
from neuroalign.stats import make_folds

CASES = {"A": (2000, 768, 5000), "C": (1000, 10000, 10000), "small": (500, 100, 500),
         "layers": (2000, 768, 1090 * 40), "small-layers": (300, 50, 20 * 10), "permutations": (2000, 768, 109 * 40),
         "all-permutations": (2000, 768, 1090 * 40),
         "small-permutations": (300, 50, 20 * 10)}
N_ALPHAS, N_FOLDS = 20, 5
BATCH = 1000  # targets at once, of the peers that take a batch


def make_data(n, p, t, seed=0):
    """Features with a decaying spectrum, two thirds of the targets driven by them."""
    rng = np.random.default_rng(seed)
    rank = min(n, p)
    X = (rng.standard_normal((n, rank)) * np.arange(1, rank + 1) ** -0.5) @ rng.standard_normal((rank, p))
    X = ((X - X.mean(0)) / X.std(0)).astype(np.float32)
    W = rng.standard_normal((p, t)).astype(np.float32) * (rng.uniform(size=t) < 2 / 3)
    signal = X @ W
    Y = signal / max(signal.std(), 1e-9) + 2 * rng.standard_normal((n, t), dtype=np.float32)
    return X, (Y - Y.mean(0)).astype(np.float32)


def ours(X, Y, alphas, folds, device="cpu"):
    """`ridge_cv`, without standardisation, as the peer has none."""
    fit = ridge_cv(X, Y, alphas=alphas, inner_folds=folds, standardize=False, device=device)
    return fit.best_alpha, fit._weights


def himalaya_ridge(X, Y, alphas, folds, batch=None):
    """himalaya's RidgeCV on its torch backend."""
    from himalaya.ridge import RidgeCV

    params = {"n_targets_batch": batch}
    model = RidgeCV(alphas=alphas, fit_intercept=True, cv=folds, solver_params=params).fit(X, Y)
    return _host(model.best_alphas_), model.coef_


def himalaya_kernel(X, Y, alphas, folds, batch=None):
    """himalaya's KernelRidgeCV on its torch backend."""
    from himalaya.kernel_ridge import KernelRidgeCV

    params = {"n_targets_batch": batch}
    model = KernelRidgeCV(alphas=alphas, kernel="linear", cv=folds, solver_params=params, warn=False).fit(X, Y)
    return _host(model.best_alphas_), model.dual_coef_


def _host(values):
    return values.cpu().numpy() if isinstance(values, torch.Tensor) else values


METHODS = {"neuroalign.ridge_cv": ours, "himalaya.RidgeCV": himalaya_ridge,
           "himalaya.RidgeCV batched": partial(himalaya_ridge, batch=BATCH), "himalaya.KernelRidgeCV": himalaya_kernel,
           "himalaya.KernelRidgeCV batched": partial(himalaya_kernel, batch=BATCH)}


def products(X, Y, alphas, folds, device="cpu"):
    """The matrix products of the procedure, and nothing else, with blocks of targets as large as ours."""
    rank, chunk = min(X.shape), 400 if device == "cpu" else Y.shape[1]
    held = [(torch.rand(len(train), min(rank, len(train)), device=device),
             torch.rand(len(test), min(rank, len(train)), device=device)) for train, test in folds]
    targets = torch.as_tensor(Y).to(device)
    for start in range(0, Y.shape[1], chunk):
        block = targets[:, start:start + chunk]
        for basis, rows in held:
            projected = basis.T @ block[:len(basis)]
            out = torch.empty(len(rows), block.shape[1], device=device)
            for _ in alphas:
                torch.mm(rows, projected, out=out)


def reference_loss(X, Y, alphas, folds, device="cpu"):
    """Cross-validated squared error in float64, one product a penalty and fold."""
    X, Y = (torch.as_tensor(a).to(device).double() for a in (X, Y))
    loss = torch.zeros(len(alphas), Y.shape[1], dtype=Y.dtype, device=device)
    for train, test in folds:
        mean, offset = X[train].mean(0), Y[train].mean(0)
        U, s, Vt = torch.linalg.svd(X[train] - mean, full_matrices=False)
        projected, rows = U.T @ (Y[train] - offset), (X[test] - mean) @ Vt.T
        for k, alpha in enumerate(alphas):
            loss[k] += ((rows @ ((s / (s**2 + alpha))[:, None] * projected) + offset - Y[test]) ** 2).sum(0)
    return loss.cpu().numpy() / len(X)


def measure(method, *data):
    """Return wall and CPU seconds and the result; work that a GPU still has to do counts."""
    process, wait = psutil.Process(), torch.cuda.synchronize if torch.cuda.is_initialized() else lambda: None
    wait()
    before, start = sum(process.cpu_times()[:2]), time.perf_counter()
    result = method(*data)
    wait()
    return time.perf_counter() - start, sum(process.cpu_times()[:2]) - before, result


def peak_growth(method, *data):
    """Return the largest growth of memory while a method runs, MB: of the GPU, or resident, sampled at 100 Hz."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        method(*data)
        return round(torch.cuda.max_memory_allocated() / 1e6)
    process, done, seen = psutil.Process(), threading.Event(), []
    start = process.memory_info().rss

    def watch():
        while not done.wait(0.01):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    method(*data)
    done.set()
    watcher.join()
    return round((max(seen, default=start) - start) / 1e6)


def use_device(threads, device):
    """Set the threads, and the peer's backend."""
    from himalaya.backend import set_backend

    torch.set_num_threads(threads)
    set_backend("torch_cuda" if device == "cuda" else "torch")
    if device == "cuda":
        torch.cuda.init()


def run(case, repeats, threads, methods, device):
    n, p, t = CASES[case]
    X, Y = make_data(n, p, t)
    alphas = np.logspace(-1, 8, N_ALPHAS)
    folds = [(a, b) for a, b in make_folds("blocks", n, n_splits=N_FOLDS)]
    use_device(threads, device)
    loss = reference_loss(X, Y, alphas, folds, device)
    called = {name: partial(ours, device=device) if METHODS[name] is ours else METHODS[name] for name in methods}
    called["products"] = partial(products, device=device)
    records = {name: {"wall_s": [], "cpu_s": []} for name in called}
    if device == "cuda":
        for method in called.values():
            method(X[:500], Y[:500, :500], alphas, [(f[f < 500], g[g < 500]) for f, g in folds[:2]])
    for _ in range(repeats):
        for name, method in called.items():
            wall, cpu, found = measure(method, X, Y, alphas, folds)
            records[name]["wall_s"].append(round(wall, 3))
            records[name]["cpu_s"].append(round(cpu, 3))
            if found:
                records[name] |= agreement(np.asarray(found[0], float), alphas, loss)
    floor, own = (np.array(records[name][clock(device)]) for name in ("products", "neuroalign.ridge_cv"))
    for name, record in records.items():
        record["peak_mb"] = peak_growth(called[name], X, Y, alphas, folds)
        record["ratio"] = spread(np.array(record[clock(device)]) / own)
        print(f"{case} {name}: cpu {np.median(record['cpu_s']):.2f} s, wall {np.median(record['wall_s']):.2f} s, "
              f"ratio {record['ratio']}, alphas equal {record.get('alphas_equal', np.nan):.4f}, within regret 1e-5 "
              f"{record.get('within_regret', np.nan):.4f}, memory {record['peak_mb']} MB", flush=True)
    print(f"{case}: {spread(own / floor)} times the products")
    return {"case": case, "n": n, "p": p, "t": t, "alphas": N_ALPHAS, "folds": N_FOLDS, "threads": threads,
            "device": device, "ratio_of": clock(device), "over_products": spread(own / floor), "methods": records}


def clock(device):
    return "wall_s" if device == "cuda" else "cpu_s"


def spread(ratios):
    return {"median": round(float(np.median(ratios)), 2),
            "range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)]}


def run_layers(case, repeats, threads, n_layers, device):
    """One call of `encode` for all layers, sites and bins with one held-out block, beside himalaya a layer."""
    from himalaya.ridge import RidgeCV
    from sklearn.model_selection import PredefinedSplit

    use_device(threads, device)
    n, p, t = CASES[case]
    rng = np.random.default_rng(0)
    X, Y = make_data(n, p, t)
    ids = [f"s{i:04d}" for i in range(n)]
    n_bins = 40 if t > 1000 else 10
    layers = [make_features(X + 0.1 * k * rng.standard_normal(X.shape).astype(np.float32), ids, model="m",
                            layer=f"l{k}") for k in range(n_layers)]
    responses = make_responses(Y.reshape(n, -1, n_bins), ids, [f"e{i}" for i in range(t // n_bins)],
                               time_bins=np.arange(n_bins) * 0.025)
    alphas = np.logspace(-1, 8, N_ALPHAS)
    test = np.arange(n) >= n - n // (N_FOLDS + 1)
    held_out = PredefinedSplit(np.where(test, 0, -1))
    train = np.flatnonzero(~test)
    folds = list(make_folds("blocks", len(train), n_splits=N_FOLDS))

    def ours(features):
        return encode(features, responses, cv=held_out, inner_cv="blocks", n_inner_splits=N_FOLDS, alphas=alphas,
                      metric=("r.pooled",), device=device)

    def peer():
        model = RidgeCV(alphas=alphas, cv=folds, solver_params={"n_targets_batch": BATCH}).fit(X[train], Y[train])
        return model.predict(X[test])

    records = {"one layer": (ours, layers[:1]), f"{n_layers} layers": (ours, layers),
               "himalaya.RidgeCV, one layer": (peer,)}
    found = {name: {"wall_s": [], "cpu_s": []} for name in records}
    for repeat in range(repeats):
        for name, (method, *data) in records.items():
            if repeat and data == [layers]:
                continue  # it takes many times as long: once
            wall, cpu, _ = measure(method, *data)
            found[name]["wall_s"].append(round(wall, 2))
            found[name]["cpu_s"].append(round(cpu, 2))
            print(case, name, f"cpu {cpu:.1f} s, wall {wall:.1f} s", flush=True)
    one, many, other = (np.array(record[clock(device)]) for record in found.values())
    many = float(many[0])
    return {"case": case, "n": n, "p": p, "sites": t // n_bins, "bins": n_bins, "layers": n_layers, "threads": threads,
            "device": device, "ratio_of": clock(device), "methods": found,
            "a_layer_of_many_over_one_layer": spread(many / n_layers / one),
            "himalaya_over_ours_one_layer": spread(other / one),
            "himalaya_over_ours_a_layer_of_many": spread(other / (many / n_layers)),
            "peak_mb": {"one layer": peak_growth(ours, layers[:1]), "three layers": peak_growth(ours, layers[:3])}}


def run_permutations(case, threads, n_permutations, device):
    """Cost of one block permutation of all sites and bins, everything refitted, beside the cost of the fit itself."""
    use_device(threads, device)
    n, p, t = CASES[case]
    X, Y = make_data(n, p, t)
    seconds = np.arange(n, dtype=float)
    responses = make_responses(Y, seconds, [f"e{i}" for i in range(t)], dim="time", sfreq=1.0)
    features = xr.DataArray(X, dims=("time", "feature"), coords={"time": seconds}, name="m")

    def fit(n_permutations):
        return encode(features, responses, cv="blocks", n_permutations=n_permutations, null="block", block=50,
                      gap=1, metric=("r.pooled",), device=device)

    wall, cpu, _ = measure(fit, 0)
    wall_all, cpu_all, _ = measure(fit, n_permutations)
    each = {"cpu_s": round((cpu_all - cpu) / n_permutations, 2), "wall_s": round((wall_all - wall) / n_permutations, 2)}
    print(case, f"fit: cpu {cpu:.1f} s, wall {wall:.1f} s; a permutation: {each}", flush=True)
    return {"case": case, "n": n, "p": p, "targets": t, "outer_folds": 5, "threads": threads, "device": device,
            "permutations_run": n_permutations, "fit_cpu_s": round(cpu, 2), "fit_wall_s": round(wall, 2),
            "one_permutation": each, "thousand_permutations_of_43600_targets_h":
                round(1000 * each[clock(device)] * 43600 / t / 3600, 2)}


def agreement(best, alphas, loss):
    """Share of targets with the penalty of the float64 reference, or with a loss within 1e-5 of its least."""
    index = np.abs(np.log(best)[:, None] - np.log(alphas)).argmin(1)
    regret = np.take_along_axis(loss, index[None], 0)[0] / loss.min(0) - 1
    return {"alphas_equal": float((index == loss.argmin(0)).mean()), "within_regret": float((regret < 1e-5).mean())}


def machine(commit=None):
    """Where and from what this was measured."""
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"commit": commit or head, "gpu": gpu, "cpu": model or platform.processor(), "cores": os.cpu_count(),
            "load_at_start": psutil.getloadavg()[0], "torch": torch.__version__, "numpy": np.__version__}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=13, help="of the case of that name")
    parser.add_argument("--permutations", type=int, default=4, help="of the case of that name")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--commit", help="where the machine has no repository to ask")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = {"machine": machine(options.commit), "results": []}
    for case in options.case or ["A"]:
        if case.endswith("layers"):
            found = run_layers(case, options.repeats, options.threads, options.layers, options.device)
        elif case.endswith("permutations"):
            found = run_permutations(case, options.threads, options.permutations, options.device)
        else:
            found = run(case, options.repeats, options.threads, options.methods, options.device)
        result["results"].append(found)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
