"""Banded ridge: neuroalign beside himalaya, on the same data, folds, penalties and candidates.

    python benchmarks/banded.py --case P --case D --repeats 5 --out benchmarks/banded.json
    python benchmarks/banded.py --case P --case D --device cuda --out benchmarks/banded_cuda.json

Every repeat runs the methods one after the other in one process with the same number of threads; CPU seconds and
wall seconds are recorded, and the cross-validated errors of all candidates are compared. himalaya's multiple-kernel
ridge has no intercept by folds, so every row stands beside its negative, in the same fold: all means are zero, and
the three methods solve the same problem. A third of the targets are pure noise.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from encode import clock, machine, measure, spread, use_device

from neuroalign.alignment.banded import band_candidates, banded_ridge_cv
from neuroalign.stats import make_folds

CASES = {"P": (2000, (256, 256, 256), 2000), "D": (1000, (3000, 3000, 3000), 2000), "small": (200, (30, 40, 20), 50),
         "small-dual": (100, (150, 90, 80), 50)}
N_CANDIDATES, N_ALPHAS, N_FOLDS = 20, 20, 5
BATCH = 500


def make_data(n, widths, t, seed=0):
    """Bands with decaying spectra; a target is driven by one, by all, or by none of them."""
    rng = np.random.default_rng(seed)
    Xs, signal = [], 0
    share = rng.dirichlet([0.3] * len(widths), t)
    for p, weight in zip(widths, share.T):
        rank = min(n // 2, p)
        X = (rng.standard_normal((n // 2, rank)) * np.arange(1, rank + 1) ** -0.5) @ rng.standard_normal((rank, p))
        X = X / X.std(0)
        Xs.append(np.vstack([X, -X]).astype(np.float32))
        drive = X @ rng.standard_normal((p, t))
        signal = signal + np.sqrt(weight) * drive / drive.std()
    Y = signal * (rng.uniform(size=t) < 2 / 3) + 2 * rng.standard_normal((n // 2, t))
    rows = [(np.r_[a, a + n // 2], np.r_[b, b + n // 2]) for a, b in make_folds("blocks", n // 2, n_splits=N_FOLDS)]
    return Xs, np.vstack([Y, -Y]).astype(np.float32), rows


def ours(Xs, Y, alphas, gammas, folds, device="cpu"):
    """`banded_ridge_cv`, without standardisation, as the peers have none."""
    return banded_ridge_cv(Xs, Y, alphas=alphas, n_candidates=gammas, inner_folds=folds, standardize=False,
                           device=device).loss


def group_ridge(Xs, Y, alphas, gammas, folds, batch=None):
    """himalaya's GroupRidgeCV on its torch backend."""
    from himalaya.ridge import GroupRidgeCV

    params = {"n_iter": gammas, "alphas": alphas, "progress_bar": False, "warn": False, "n_targets_batch": batch}
    model = GroupRidgeCV(groups="input", solver_params=params, cv=folds).fit([torch.as_tensor(X) for X in Xs], Y)
    return -np.asarray(torch.as_tensor(model.cv_scores_).cpu())


def kernel_ridge(Xs, Y, alphas, gammas, folds, batch=None):
    """himalaya's MultipleKernelRidgeCV on its torch backend; the kernels are part of the time."""
    from himalaya.backend import get_backend
    from himalaya.kernel_ridge import MultipleKernelRidgeCV

    Xs = [get_backend().asarray(X) for X in Xs]
    kernels = torch.stack([X @ X.T for X in Xs])
    params = {"n_iter": gammas, "alphas": alphas, "progress_bar": False, "n_targets_batch": batch}
    model = MultipleKernelRidgeCV(kernels="precomputed", solver_params=params, cv=folds).fit(kernels, Y)
    return -np.asarray(torch.as_tensor(model.cv_scores_).cpu())


METHODS = {
    "neuroalign.banded_ridge_cv": ours,
    "himalaya.GroupRidgeCV": group_ridge,
    f"himalaya.GroupRidgeCV (batches of {BATCH})": partial(group_ridge, batch=BATCH),
    "himalaya.MultipleKernelRidgeCV": kernel_ridge,
    f"himalaya.MultipleKernelRidgeCV (batches of {BATCH})": partial(kernel_ridge, batch=BATCH),
}


def run(case, repeats, threads, methods, device):
    use_device(threads, device)
    n, widths, t = CASES[case]
    Xs, Y, folds = make_data(n, widths, t)
    alphas = np.logspace(-1, 8, N_ALPHAS).astype(np.float32)
    gammas = band_candidates(len(widths), N_CANDIDATES).clip(1e-4)  # the peer divides by the roots of gammas
    gammas = (gammas / gammas.sum(1, keepdims=True)).astype(np.float32)
    records = {name: {"wall_s": [], "cpu_s": []} for name in methods}
    losses = {}
    called = {name: partial(ours, device=device) if METHODS[name] is ours else METHODS[name] for name in methods}
    for _ in range(repeats):
        for name, method in called.items():
            wall, cpu, losses[name] = measure(method, Xs, Y, alphas, gammas, folds)
            records[name]["wall_s"].append(round(wall, 3))
            records[name]["cpu_s"].append(round(cpu, 3))
    first = next(iter(METHODS))
    for name, record in records.items():
        record["ratio"] = spread(np.array(record[clock(device)]) / np.array(records[first][clock(device)]))
        apart = np.abs(losses[name] / losses[first] - 1)
        record["cv_error_apart"] = {"median": float(np.median(apart)), "most": float(apart.max())}
        record["best_cv_error_apart"] = float(np.abs(losses[name].min(0) / losses[first].min(0) - 1).max())
        print(f"{case} {name}: cpu {np.median(record['cpu_s']):.2f} s, wall {np.median(record['wall_s']):.2f} s, "
              f"ratio {record['ratio']}, cross-validated errors apart by at most {apart.max():.1e}")
    return {"case": case, "n": n, "widths": widths, "t": t, "alphas": N_ALPHAS, "candidates": N_CANDIDATES,
            "folds": N_FOLDS, "threads": threads, "device": device, "ratio_of": clock(device), "methods": records}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--commit", help="where the machine has no repository to ask")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    chosen = list(dict.fromkeys([next(iter(METHODS)), *options.methods]))
    results = [run(case, options.repeats, options.threads, chosen, options.device) for case in options.case or ["P"]]
    result = {"machine": machine(options.commit), "results": results}
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")
