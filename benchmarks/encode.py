"""Ridge with a penalty per target: neuroalign beside himalaya, on the same data, folds and penalties.

    python benchmarks/encode.py --case A --repeats 5 --out benchmarks/encode_A.json
    python benchmarks/encode.py --case C --repeats 5 --out benchmarks/encode_C.json
    python benchmarks/encode.py --case layers --repeats 3 --out benchmarks/encode_layers.json
    python benchmarks/encode.py --case permutations --out benchmarks/encode_permutations.json

Every repeat runs the methods one after the other in one process with the same number of threads; CPU seconds,
wall seconds and the growth of memory are recorded, and the penalties of A and C are compared with a float64 reference
of the same procedure. Data: a third of the targets are pure noise. ``layers`` fits several layers against 1,090 sites
of 40 time bins by one call; ``permutations`` states the cost of one permutation of a tenth of these targets with a full
refit (it is linear in targets).
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


def ours(X, Y, alphas, folds):
    """`ridge_cv`, without standardisation, as the peer has none."""
    fit = ridge_cv(X, Y, alphas=alphas, inner_folds=folds, standardize=False, device="cpu")
    return fit.best_alpha, fit._weights


def himalaya_ridge(X, Y, alphas, folds):
    """himalaya's RidgeCV on its torch backend."""
    from himalaya.ridge import RidgeCV

    model = RidgeCV(alphas=alphas, fit_intercept=True, cv=folds).fit(X, Y)
    return model.best_alphas_, model.coef_


def himalaya_kernel(X, Y, alphas, folds, batch=None):
    """himalaya's KernelRidgeCV on its torch backend."""
    from himalaya.kernel_ridge import KernelRidgeCV

    params = {"n_targets_batch": batch}
    model = KernelRidgeCV(alphas=alphas, kernel="linear", cv=folds, solver_params=params, warn=False).fit(X, Y)
    return model.best_alphas_, model.dual_coef_


METHODS = {"neuroalign.ridge_cv": ours, "himalaya.RidgeCV": himalaya_ridge, "himalaya.KernelRidgeCV": himalaya_kernel,
           "himalaya.KernelRidgeCV batched": partial(himalaya_kernel, batch=BATCH)}


def reference_loss(X, Y, alphas, folds):
    """Cross-validated squared error in float64, one solve a penalty and fold."""
    X, Y = X.astype(float), Y.astype(float)
    loss = np.zeros((len(alphas), Y.shape[1]))
    for train, test in folds:
        mean, offset = X[train].mean(0), Y[train].mean(0)
        U, s, Vt = np.linalg.svd(X[train] - mean, full_matrices=False)
        projected, rows = U.T @ (Y[train] - offset), (X[test] - mean) @ Vt.T
        for k, alpha in enumerate(alphas):
            loss[k] += ((rows @ ((s / (s**2 + alpha))[:, None] * projected) + offset - Y[test]) ** 2).sum(0)
    return loss / len(X)


def measure(method, *data):
    """Return wall and CPU seconds and the result."""
    process = psutil.Process()
    before, start = sum(process.cpu_times()[:2]), time.perf_counter()
    result = method(*data)
    return time.perf_counter() - start, sum(process.cpu_times()[:2]) - before, result


def peak_growth(method, *data):
    """Return the largest growth of resident memory while a method runs, MB, sampled a hundred times a second."""
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


def run(case, repeats, threads, methods):
    from himalaya.backend import set_backend

    set_backend("torch")
    torch.set_num_threads(threads)
    n, p, t = CASES[case]
    X, Y = make_data(n, p, t)
    alphas = np.logspace(-1, 8, N_ALPHAS)
    folds = [(a, b) for a, b in make_folds("blocks", n, n_splits=N_FOLDS)]
    loss = reference_loss(X, Y, alphas, folds)
    records = {name: {"wall_s": [], "cpu_s": []} for name in methods}
    for _ in range(repeats):
        for name in methods:
            wall, cpu, (best, _) = measure(METHODS[name], X, Y, alphas, folds)
            records[name]["wall_s"].append(round(wall, 3))
            records[name]["cpu_s"].append(round(cpu, 3))
            records[name] |= agreement(np.asarray(best, float), alphas, loss)
    first = records["neuroalign.ridge_cv"]
    for name, record in records.items():
        record["peak_mb"] = peak_growth(METHODS[name], X, Y, alphas, folds)
        ratios = np.array(record["cpu_s"]) / np.array(first["cpu_s"])
        record["cpu_ratio"] = {"median": round(float(np.median(ratios)), 2),
                               "range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)]}
        print(f"{case} {name}: cpu {np.median(record['cpu_s']):.2f} s, wall {np.median(record['wall_s']):.2f} s, "
              f"ratio {record['cpu_ratio']}, alphas equal {record['alphas_equal']:.4f}, within regret 1e-5 "
              f"{record['within_regret']:.4f}, memory {record['peak_mb']} MB")
    return {"case": case, "n": n, "p": p, "t": t, "alphas": N_ALPHAS, "folds": N_FOLDS, "threads": threads,
            "methods": records}


def run_layers(case, repeats, threads, n_layers):
    """One call of `encode` for all layers, sites and bins with one held-out block, beside himalaya a layer."""
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV
    from sklearn.model_selection import PredefinedSplit

    set_backend("torch")
    torch.set_num_threads(threads)
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
                      metric=("r.pooled",), device="cpu")

    def peer():
        model = RidgeCV(alphas=alphas, cv=folds, solver_params={"n_targets_batch": BATCH}).fit(X[train], Y[train])
        return model.predict(X[test])

    records = {"one layer": (ours, layers[:1]), f"{n_layers} layers": (ours, layers),
               "himalaya.RidgeCV, one layer": (peer,)}
    found = {name: {"wall_s": [], "cpu_s": []} for name in records}
    for _ in range(repeats):
        for name, (method, *data) in records.items():
            wall, cpu, _ = measure(method, *data)
            found[name]["wall_s"].append(round(wall, 2))
            found[name]["cpu_s"].append(round(cpu, 2))
            print(case, name, f"cpu {cpu:.1f} s, wall {wall:.1f} s", flush=True)
    cpu = {name: float(np.median(record["cpu_s"])) for name, record in found.items()}
    one, many, other = cpu.values()
    return {"case": case, "n": n, "p": p, "sites": t // n_bins, "bins": n_bins, "layers": n_layers, "threads": threads,
            "methods": found, "cpu_a_layer_over_one_layer": round(many / n_layers / one, 2),
            "himalaya_over_ours_a_layer": round(other / (many / n_layers), 2),
            "peak_mb": peak_growth(ours, layers[:2])}


def run_permutations(case, threads, n_permutations=4):
    """Cost of one block permutation of all sites and bins, everything refitted, beside the cost of the fit itself."""
    torch.set_num_threads(threads)
    n, p, t = CASES[case]
    X, Y = make_data(n, p, t)
    seconds = np.arange(n, dtype=float)
    responses = make_responses(Y, seconds, [f"e{i}" for i in range(t)], dim="time", sfreq=1.0)
    features = xr.DataArray(X, dims=("time", "feature"), coords={"time": seconds}, name="m")

    def fit(n_permutations):
        return encode(features, responses, cv="blocks", n_permutations=n_permutations, null="block", block=50,
                      gap=1, metric=("r.pooled",), device="cpu")

    wall, cpu, _ = measure(fit, 0)
    wall_all, cpu_all, _ = measure(fit, n_permutations)
    each = {"cpu_s": round((cpu_all - cpu) / n_permutations, 2), "wall_s": round((wall_all - wall) / n_permutations, 2)}
    print(case, f"fit: cpu {cpu:.1f} s; a permutation: {each}")
    return {"case": case, "n": n, "p": p, "targets": t, "outer_folds": 5, "threads": threads,
            "permutations_run": n_permutations, "fit_cpu_s": round(cpu, 2), "one_permutation": each,
            "thousand_permutations_of_43600_targets_cpu_h": round(1000 * each["cpu_s"] * 43600 / t / 3600, 1)}


def agreement(best, alphas, loss):
    """Share of targets with the penalty of the float64 reference, or with a loss within 1e-5 of its least."""
    index = np.abs(np.log(best)[:, None] - np.log(alphas)).argmin(1)
    regret = np.take_along_axis(loss, index[None], 0)[0] / loss.min(0) - 1
    return {"alphas_equal": float((index == loss.argmin(0)).mean()), "within_regret": float((regret < 1e-5).mean())}


def machine():
    """Where and from what this was measured."""
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    model = ""
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")
    return {"commit": commit, "cpu": model or platform.processor(), "cores": os.cpu_count(),
            "load_at_start": psutil.getloadavg()[0], "torch": torch.__version__, "numpy": np.__version__}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=13, help="of the case of that name")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = {"machine": machine(), "results": []}
    for case in options.case or ["A"]:
        if case.endswith("layers"):
            found = run_layers(case, options.repeats, options.threads, options.layers)
        elif case.endswith("permutations"):
            found = run_permutations(case, options.threads)
        else:
            found = run(case, options.repeats, options.threads, options.methods)
        result["results"].append(found)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
