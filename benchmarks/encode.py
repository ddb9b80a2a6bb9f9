"""Ridge with a penalty per target: neuroalign beside himalaya, on the same data, folds and penalties.

    python benchmarks/encode.py --case A --repeats 5 --out benchmarks/encode.json

Every repeat runs the methods one after the other in one process with the same number of threads; CPU seconds and
wall seconds are recorded, and the penalties are compared with a float64 reference of the same procedure. Data: a
third of the targets are pure noise.
"""

import argparse
import json
import os
import platform
import subprocess
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from neuroalign.alignment.ridge import ridge_cv
from neuroalign.stats import make_folds

CASES = {"A": (2000, 768, 5000), "C": (1000, 10000, 10000), "small": (500, 100, 500)}
N_ALPHAS, N_FOLDS = 20, 5


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


def himalaya_kernel(X, Y, alphas, folds):
    """himalaya's KernelRidgeCV on its torch backend."""
    from himalaya.kernel_ridge import KernelRidgeCV

    model = KernelRidgeCV(alphas=alphas, kernel="linear", cv=folds).fit(X, Y)
    return model.best_alphas_, model.dual_coef_


METHODS = {"neuroalign.ridge_cv": ours, "himalaya.RidgeCV": himalaya_ridge, "himalaya.KernelRidgeCV": himalaya_kernel}


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
        ratios = np.array(record["cpu_s"]) / np.array(first["cpu_s"])
        record["cpu_ratio"] = {"median": round(float(np.median(ratios)), 2),
                               "range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)]}
        print(f"{case} {name}: cpu {np.median(record['cpu_s']):.2f} s, wall {np.median(record['wall_s']):.2f} s, "
              f"ratio {record['cpu_ratio']}, alphas equal {record['alphas_equal']:.4f}, within regret 1e-5 "
              f"{record['within_regret']:.4f}")
    return {"case": case, "n": n, "p": p, "t": t, "alphas": N_ALPHAS, "folds": N_FOLDS, "threads": threads,
            "methods": records}


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
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    result = {"machine": machine(), "results": [run(case, options.repeats, options.threads, options.methods)
                                               for case in options.case or ["A"]]}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
