"""Geometry: neuroalign beside rsatoolbox, scipy and a plain float64 CKA, on the same data.

    python benchmarks/rdm.py --case correlation --repeats 5 --out benchmarks/rdm.json

Every repeat runs the methods of a case one after the other in one process with the same number of threads; CPU and
wall seconds are recorded, and the results are compared with the first peer's.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from encode import machine, measure
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

from neuroalign.alignment import condensed_distances, linear_cka
from neuroalign.alignment.label_null import label_null
from neuroalign.alignment.rdm import square
from neuroalign.stats import row_permutations
from neuroalign.stats.correlations import correlate_rows

SIZES = {"correlation": (2000, 1024), "euclidean": (2000, 1024), "spearman": (1000, 50, 200),
         "permutation": (200, 1000), "cka": (3000, 512)}


def features(n, p, seed=0):
    return np.random.default_rng(seed).standard_normal((n, p)).astype(np.float32)


def distance_case(metric):
    def peer(x):
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import calc_rdm

        found = calc_rdm(Dataset(x.astype(float)), method=metric).dissimilarities[0]
        # rsatoolbox's Euclidean RDM is the squared distance over the number of features.
        return found if metric == "correlation" else np.sqrt(found * x.shape[1])

    return {"neuroalign": lambda x: condensed_distances(x, metric, device="cpu"), "rsatoolbox.calc_rdm": peer,
            "scipy.pdist": lambda x: pdist(x.astype(float), metric)}, lambda n, p: (features(n, p),)


def spearman_case():
    def peer(a, b):
        from rsatoolbox.rdm import RDMs, compare

        return compare(RDMs(a.astype(float)), RDMs(b.astype(float)), method="spearman")

    def data(n_rows, n_models, n):
        size = n * (n - 1) // 2
        return features(n_rows, size, 1), features(n_models, size, 2)

    return {"neuroalign": lambda a, b: correlate_rows(a, b, device="cpu"), "rsatoolbox.compare": peer}, data


def permutation_case():
    def ours(model, row, orders):
        first, second = np.triu_indices(orders.shape[1], 1)
        return label_null(square(model), first, second, row, np.eye(1), "spearman", orders, torch.device("cpu"))

    def peer(model, row, orders):
        first, second = np.triu_indices(orders.shape[1], 1)
        matrix = square(model)[0]
        return [spearmanr(matrix[o][:, o][first, second], row[0])[0] for o in orders]

    def data(n, n_permutations):
        size = n * (n - 1) // 2
        return features(1, size, 1), features(1, size, 2), row_permutations(n, n_permutations)

    return {"neuroalign": ours, "numpy and scipy loop": peer}, data


def cka_case():
    def peer(x, y):
        n = len(x)
        k, l = (a.astype(float) @ a.T.astype(float) for a in (x, y))  # noqa: E741
        np.fill_diagonal(k, 0)
        np.fill_diagonal(l, 0)

        def hsic(a, b):
            rows = a.sum(0), b.sum(0)
            return ((a * b).sum() + rows[0].sum() * rows[1].sum() / ((n - 1) * (n - 2))
                    - 2 / (n - 2) * (rows[0] @ rows[1]))

        return hsic(k, l) / np.sqrt(hsic(k, k) * hsic(l, l))

    return {"neuroalign": lambda x, y: linear_cka(x, y, device="cpu"), "float64 n x n kernels": peer}, \
        lambda n, p: (features(n, p, 1), features(n, p, 1) + features(n, p, 2))


CASES = {"correlation": distance_case("correlation"), "euclidean": distance_case("euclidean"),
         "spearman": spearman_case(), "permutation": permutation_case(), "cka": cka_case()}


def run(case, repeats, threads, size):
    torch.set_num_threads(threads)
    methods, make = CASES[case]
    data = make(*size)
    records = {name: {"wall_s": [], "cpu_s": []} for name in methods}
    results = {}
    for _ in range(repeats):
        for name, method in methods.items():
            wall, cpu, results[name] = measure(method, *data)
            records[name]["wall_s"].append(round(wall, 3))
            records[name]["cpu_s"].append(round(cpu, 3))
    own, (_, peer, *_) = np.ravel(results["neuroalign"]), list(results.values())
    difference = float(np.abs(own - np.ravel(peer)).max())
    for name, record in records.items():
        ratios = np.array(record["cpu_s"]) / np.maximum(records["neuroalign"]["cpu_s"], 1e-3)
        record["cpu_ratio"] = {"median": round(float(np.median(ratios)), 2),
                               "range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)]}
        print(f"{case} {size} {name}: cpu {np.median(record['cpu_s']):.3f} s, wall {np.median(record['wall_s']):.3f}"
              f" s, ratio {record['cpu_ratio']}")
    print(f"{case}: largest difference from the peer {difference:.2e}")
    return {"case": case, "size": list(size), "threads": threads, "largest_difference": difference,
            "methods": records}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--size", type=int, nargs="*", help="instead of the case's own, with a single case")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {"machine": machine(), "results": [run(case, options.repeats, options.threads,
                                                   tuple(options.size or SIZES[case]))
                                               for case in options.case or CASES]}
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")
