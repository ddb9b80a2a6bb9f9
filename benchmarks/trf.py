"""Temporal response functions: neuroalign beside MNE's ReceptiveField and mTRFpy, on the same data.

    python benchmarks/trf.py --case A --repeats 5 --out benchmarks/trf.json

Every repeat runs the methods one after the other in one process with the same number of threads; CPU seconds and wall
seconds are recorded, and the largest difference of the weights from a float64 solve with the delayed matrix. Cases with
one penalty compare fits; cases with several compare the choice of a penalty by cross-validation, which MNE leaves to
its user. mTRFpy then chooses one penalty for all targets by their mean correlation, neuroalign one for each target by
its squared error: the jobs are alike, not the same.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import torch
from encode import machine, measure

from neuroalign.alignment import trf_cv
from neuroalign.features.delays import delay_range, shift_rows
from neuroalign.stats import make_folds

# samples, features, targets, sampling rate, last delay, number of penalties
CASES = {"A": (76800, 16, 64, 128, 0.47, 1), "A-cv": (76800, 16, 64, 128, 0.47, 7),
         "medium": (20000, 16, 64, 128, 0.3, 1), "medium-cv": (20000, 16, 64, 128, 0.3, 7),
         "envelope": (76800, 1, 64, 128, 0.47, 1), "small": (12000, 8, 16, 64, 0.4, 1),
         "small-cv": (12000, 8, 16, 64, 0.4, 7)}
N_FOLDS = 5


def make_data(n, p, t, n_lags, seed=0):
    """Autocorrelated features without mean, and responses that follow them."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n, p))
    for k in range(1, n):
        X[k] += 0.7 * X[k - 1]
    X = (X - X.mean(0)) / X.std(0)
    Y = sum(shift_rows(X, k) @ rng.standard_normal((p, t)) for k in (1, n_lags // 2)) / np.sqrt(p)
    return X, Y - Y.mean(0) + 3 * rng.standard_normal((n, t))


def ours(X, Y, sfreq, tmax, alphas):
    """`trf_cv`, without standardisation, as the peers have none."""
    folds = None
    if len(alphas) > 1:
        folds = make_folds(np.repeat(np.arange(N_FOLDS), len(X) // N_FOLDS), len(X))
    fit = trf_cv(X, Y, tmin=0.0, tmax=tmax, sfreq=sfreq, alphas=alphas, inner_folds=folds, standardize=False,
                 runs=_trials(X, alphas), device="cpu")
    return fit.weights.values


def mne(X, Y, sfreq, tmax, alphas):
    """MNE's ReceptiveField with its TimeDelayingRidge."""
    from mne.decoding import ReceptiveField

    model = ReceptiveField(0.0, tmax, sfreq, estimator=float(alphas[0])).fit(X, Y)
    return model.coef_.transpose(1, 2, 0)


def mtrf(X, Y, sfreq, tmax, alphas):
    """mTRFpy; it averages covariances over trials, and divides the penalty and the weights by the step."""
    from mtrf import TRF

    model, runs = TRF(), _trials(X, alphas)
    if runs is None:
        model.train([X], [Y], sfreq, 0.0, tmax, float(alphas[0]) / sfreq)
    else:
        trials = [[a[runs == k] for k in range(N_FOLDS)] for a in (X, Y)]
        scaled = [float(a) / sfreq / N_FOLDS for a in alphas]
        model.train(*trials, sfreq, 0.0, tmax, scaled, k=N_FOLDS, verbose=False)
    return model.weights / sfreq


METHODS = {"neuroalign.trf_cv": ours, "mne.ReceptiveField": mne, "mtrf.TRF": mtrf}


def _trials(X, alphas):
    return None if len(alphas) == 1 else np.repeat(np.arange(N_FOLDS), len(X) // N_FOLDS)


def reference(X, Y, samples, alpha):
    """Weights by a float64 solve, the delayed matrix made a delay at a time."""
    D = np.concatenate([shift_rows(X, k) for k in samples], 1)
    D -= D.mean(0)
    w = np.linalg.solve(D.T @ D + alpha * np.eye(D.shape[1]), D.T @ (Y - Y.mean(0)))
    return w.reshape(len(samples), X.shape[1], -1).transpose(1, 0, 2)


def run(case, repeats, threads, methods):
    """Measure one case."""
    import mne as package

    package.set_log_level("ERROR")
    torch.set_num_threads(threads)
    n, p, t, sfreq, tmax, n_alphas = CASES[case]
    samples = delay_range(0.0, tmax, sfreq)
    X, Y = make_data(n, p, t, len(samples))
    # A whole number of samples, lest the peers round the last delay up.
    tmax = samples[-1] / sfreq
    alphas = np.logspace(2, 5, n_alphas) if n_alphas > 1 else np.array([1000.0])
    methods = [m for m in methods if n_alphas == 1 or m != "mne.ReceptiveField"]
    expected = reference(X, Y, samples, alphas[0]) if n_alphas == 1 else None
    records = {name: {"wall_s": [], "cpu_s": []} for name in methods}
    for _ in range(repeats):
        for name in methods:
            wall, cpu, weights = measure(partial(METHODS[name], alphas=alphas), X, Y, sfreq, tmax)
            records[name]["wall_s"].append(round(wall, 3))
            records[name]["cpu_s"].append(round(cpu, 3))
            if expected is not None:
                records[name]["largest_difference"] = float(np.abs(weights - expected).max())
    first = records["neuroalign.trf_cv"]
    for name, record in records.items():
        ratios = np.array(record["cpu_s"]) / np.array(first["cpu_s"])
        record["cpu_ratio"] = {"median": round(float(np.median(ratios)), 2),
                               "range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)]}
        print(f"{case} {name}: cpu {np.median(record['cpu_s']):.2f} s, wall {np.median(record['wall_s']):.2f} s, "
              f"ratio {record['cpu_ratio']}, difference {record.get('largest_difference')}")
    return {"case": case, "n": n, "features": p, "targets": t, "delays": len(samples), "alphas": n_alphas,
            "folds": N_FOLDS if n_alphas > 1 else None, "threads": threads, "methods": records}


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
