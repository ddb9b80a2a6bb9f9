"""Geometry: neuroalign beside rsatoolbox, scipy, plain torch and netrep, on the same data.

    python benchmarks/geometry.py --case correlation --repeats 5 --out benchmarks/geometry.json

Every repeat runs the methods of a case one after the other in one process with the same number of threads, in an
order that turns by one. A peer that is too slow does a stated share of the job and its seconds are scaled; one that
is not installed is skipped, with the reason. `ratio` is the CPU seconds of a peer over ours, repeat by repeat.
"""

import argparse
import contextlib
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from encode import machine, measure
from scipy.spatial.distance import pdist
from scipy.stats import kendalltau, spearmanr

from neuroalign.alignment import condensed_distances, crossnobis, linear_cka, svcca
from neuroalign.alignment.cka import cka_grid
from neuroalign.alignment.label_null import label_null
from neuroalign.alignment.rdm import square
from neuroalign.alignment.searchlight import searchlight_rdms
from neuroalign.stats import row_permutations
from neuroalign.stats.correlations import correlate_rows
from neuroalign.stats.rank_agreement import whiten_dissimilarities

CPU = torch.device("cpu")


@dataclass
class Case:
    """Methods by name (ours first), the data they share, and what is aimed at.

    Attributes
    ----------
    methods : dict of str to callable
    data : callable (*size) -> tuple
    size : tuple of int
    tiny : tuple of int
        To try the script.
    target : dict of str to float
        Least ratio to a peer.
    share : dict of str to callable (*data) -> float
        Part of the job that a peer does.
    compared : bool
        Whether results are numbers of the same job, to be held against one another.
    """

    methods: dict[str, Callable]
    data: Callable
    size: tuple
    tiny: tuple
    target: dict[str, float] = field(default_factory=dict)
    share: dict[str, Callable] = field(default_factory=dict)
    compared: bool = True


def features(n, p, seed=0):
    return np.random.default_rng(seed).standard_normal((n, p), dtype=np.float32)


def distance_case(metric, target):
    def peer(x):
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import calc_rdm

        found = calc_rdm(Dataset(x.astype(float)), method=metric).dissimilarities[0]
        # rsatoolbox's Euclidean RDM is the squared distance over the number of features.
        return found if metric == "correlation" else np.sqrt(found * x.shape[1])

    return Case({"neuroalign": lambda x: condensed_distances(x, metric, device="cpu"), "rsatoolbox": peer,
                 "scipy": lambda x: pdist(x.astype(float), metric)}, lambda n, p: (features(n, p),), (5000, 2048),
                (60, 20), {"rsatoolbox": target})


def crossnobis_case():
    def ours(x, stimuli, runs):
        return crossnobis(x, stimuli, runs, noise=None)

    def peer(x, stimuli, runs):
        from rsatoolbox.data import Dataset
        from rsatoolbox.rdm import calc_rdm

        data = Dataset(x.astype(float), obs_descriptors={"stimulus": stimuli, "run": runs})
        return calc_rdm(data, method="crossnobis", descriptor="stimulus", cv_descriptor="run").dissimilarities[0]

    def data(n, p, n_runs):
        return features(n * n_runs, p), np.tile(np.arange(n), n_runs), np.repeat(np.arange(n_runs), n)

    return Case({"neuroalign": ours, "rsatoolbox": peer}, data, (1000, 2048, 4), (20, 30, 3), {"rsatoolbox": 6})


def compare_case(method, peer_method, target):
    def ours(sites, models):
        if method == "whitened":
            return correlate_rows(whiten_dissimilarities(models), whiten_dissimilarities(sites), "cosine", device="cpu")
        return correlate_rows(models, sites, method, device="cpu")

    def peer(sites, models):
        from rsatoolbox.rdm import RDMs, compare

        return compare(RDMs(models.astype(float)), RDMs(sites.astype(float)), method=peer_method)

    def data(n_sites, n_models, n):
        size, rng = n * (n - 1) // 2, np.random.default_rng(1)
        found = [np.abs(rng.standard_normal((k, size), dtype=np.float32)) for k in (n_sites, n_models)]
        if method == "tau_a":
            found[1] = np.round(found[1], 1)  # models with ties
        return tuple(found)

    size, methods = (5000, 50, 200), {"neuroalign": ours, "rsatoolbox": peer}
    if method == "tau_a":
        size = (10, 50, 200)
        methods["scipy, tau-b"] = lambda a, b: [[kendalltau(x, y).statistic for x in a] for y in b]
    return Case(methods, data, size, (6, 3, 12), {"rsatoolbox": target}, compared=True)


def permutation_case(n_sites):
    def ours(model, rows, orders):
        first, second = np.triu_indices(orders.shape[1], 1)
        return label_null(square(model), first, second, rows, np.eye(len(rows)), "spearman", orders, CPU)[:, 0]

    def peer(model, rows, orders):
        from rsatoolbox.rdm import RDMs, compare
        from rsatoolbox.rdm.rdms import permute_rdms

        model, rows = RDMs(model.astype(float)), RDMs(rows.astype(float))
        moved = (permute_rdms(model, o.astype(int)) for o in orders[:part(model, rows, orders)])
        return [compare(m, rows, method="spearman")[0] for m in moved]

    def loop(model, rows, orders):
        matrix, (first, second) = square(model)[0], np.triu_indices(orders.shape[1], 1)
        return [[spearmanr(matrix[o][:, o][first, second], row)[0] for row in rows] for o in orders[:100]]

    def part(model, rows, orders):
        return min(len(orders), 200 if n_sites == 1 else 2)

    def data(n, n_permutations, sites):
        size = n * (n - 1) // 2
        return features(1, size, 1), features(sites, size, 2), row_permutations(n, n_permutations)

    methods, share = {"neuroalign": ours, "rsatoolbox": peer}, {"rsatoolbox": lambda *d: part(*d) / len(d[2])}
    if n_sites == 1:
        methods["numpy and scipy loop"] = loop
        share["numpy and scipy loop"] = lambda *d: min(100, len(d[2])) / len(d[2])
    return Case(methods, data, (200, 10000, n_sites), (15, 30, min(n_sites, 4)), {"rsatoolbox": 10}, share)


def searchlight_case():
    def ours(values, around):
        return np.concatenate([rows for _, rows in searchlight_rdms(values, around, device="cpu")])

    def peer(values, around):
        from rsatoolbox.util.searchlight import get_searchlight_RDMs

        with contextlib.redirect_stderr(io.StringIO()):
            found = get_searchlight_RDMs(values.astype(float), np.arange(len(around)), [list(a) for a in around],
                                         np.arange(len(values)), method="correlation", verbose=False)
        return found.dissimilarities

    def data(centres, sites, n):
        rng = np.random.default_rng(0)
        return features(n, max(centres, sites)), [rng.choice(max(centres, sites), sites, replace=False)
                                                  for _ in range(centres)]

    return Case({"neuroalign": ours, "rsatoolbox": peer}, data, (2000, 100, 200), (12, 8, 10), {"rsatoolbox": 4})


def unbiased(k, l):  # noqa: E741
    """HSIC of n x n kernels with a zero diagonal, up to a factor."""
    n, rows, others = len(k), k.sum(0), l.sum(0)
    return (k * l).sum() + rows.sum() * others.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows @ others)


def cka_case(estimator, size):
    def plain(x, y):
        kernels = []
        for values in (x, y):
            rows = torch.from_numpy(values).double()
            rows = rows - rows.mean(0)
            kernels.append(rows @ rows.T)
        k, l = kernels  # noqa: E741
        if estimator == "biased":
            return float((k * l).sum() / ((k * k).sum() * (l * l).sum()).sqrt())
        k.fill_diagonal_(0)
        l.fill_diagonal_(0)
        return float(unbiased(k, l) / (unbiased(k, k) * unbiased(l, l)).sqrt())

    def netrep(x, y):
        from netrep.metrics import LinearCKA

        return np.cos(LinearCKA().fit(x.astype(float), y.astype(float)).score(x.astype(float), y.astype(float)))

    methods = {"neuroalign": lambda x, y: linear_cka(x, y, estimator=estimator, device="cpu")}
    if size[0] <= 10000:
        methods["plain torch, n x n"] = plain
    if estimator == "biased":
        methods["netrep"] = netrep
    return Case(methods, lambda n, p: (features(n, p, 1), features(n, p, 1) + features(n, p, 2)), size, (50, 9),
                {"netrep": 10} if estimator == "biased" else {})


def svcca_case():
    def plain(x, y):
        sides = []
        for values in (x, y):
            left, singular, _ = np.linalg.svd(values.astype(float) - values.mean(0, dtype=float), full_matrices=False)
            held = np.cumsum(singular**2) / np.sum(singular**2)
            sides.append(left[:, :int(np.searchsorted(held, 0.99)) + 1])
        return np.linalg.svd(sides[0].T @ sides[1], compute_uv=False).mean()

    return Case({"neuroalign": lambda x, y: svcca(x, y, device="cpu"), "numpy SVD": plain},
                lambda n, p: (features(n, p, 1), features(n, p, 1) + features(n, p, 2)), (10000, 1024), (60, 9),
                {"numpy SVD": 6})


def grid_case():
    def products(*layers):
        """What no way around the grid avoids: X'Y of every pair, in float32."""
        tensors = [torch.from_numpy(v) for v in layers]
        return [(a.T @ b)[0, 0] for i, a in enumerate(tensors) for b in tensors[i:]]

    return Case({"neuroalign": lambda *layers: cka_grid(layers, layers, device="cpu"), "its products alone": products},
                lambda n, p, count: tuple(features(n, p, k) for k in range(count)), (2000, 768, 24), (40, 8, 3),
                {"its products alone": 1 / 1.5}, compared=False)


CASES = {"correlation": distance_case("correlation", 40), "euclidean": distance_case("euclidean", 2),
         "crossnobis": crossnobis_case(), "compare pearson": compare_case("pearson", "corr", 6),
         "compare spearman": compare_case("spearman", "spearman", 7),
         "compare whitened": compare_case("whitened", "cosine_cov", 2.5),
         "compare tau-a": compare_case("tau_a", "tau-a", 5), "permutations": permutation_case(1),
         "permutations, 5000 sites": permutation_case(5000), "searchlight": searchlight_case(),
         "cka biased": cka_case("biased", (10000, 1024)), "cka debiased": cka_case("debiased", (10000, 1024)),
         "cka 20000": cka_case("debiased", (20000, 1024)), "svcca": svcca_case(), "grid": grid_case()}
# Seconds rather than minutes, for a busy machine.
SMALL = {"correlation": (2000, 1024), "euclidean": (2000, 1024), "crossnobis": (500, 1024, 4),
         "compare pearson": (500, 50, 200), "compare spearman": (500, 50, 200), "compare whitened": (500, 50, 200),
         "compare tau-a": (4, 25, 200), "permutations": (200, 10000, 1), "permutations, 5000 sites": (200, 1000, 500),
         "searchlight": (400, 100, 200), "cka biased": (4000, 512), "cka debiased": (4000, 512),
         "cka 20000": (20000, 256), "svcca": (4000, 512), "grid": (1000, 256, 24)}


def run(name, repeats, threads, size):
    torch.set_num_threads(threads)
    case = CASES[name]
    data = case.data(*size)
    names = list(case.methods)
    records = {m: {"wall_s": [], "cpu_s": []} for m in names}
    results, skipped = {}, {}
    for method in case.methods.values():  # imports and first calls are not measured
        with contextlib.suppress(ImportError):
            method(*case.data(*case.tiny))
    for k in range(repeats):
        for m in names[k % len(names):] + names[:k % len(names)]:
            if m in skipped:
                continue
            share = case.share[m](*data) if m in case.share else 1.0
            try:
                wall, cpu, results[m] = measure(case.methods[m], *data)
            except ImportError as error:
                skipped[m] = f"not installed ({error})"
                continue
            records[m]["wall_s"].append(round(wall / share, 3))
            records[m]["cpu_s"].append(round(cpu / share, 3))
            if share < 1:
                records[m]["share"] = share
    own = np.asarray(records["neuroalign"]["cpu_s"])
    for m in names:
        if m in skipped:
            records[m] = {"skipped": skipped[m]}
            print(f"{name}: {m} skipped, {skipped[m]}")
            continue
        ratios = np.array(records[m]["cpu_s"]) / np.maximum(own, 1e-3)
        records[m]["ratio"] = {"median": round(float(np.median(ratios)), 2),
                               "range": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)]}
        if m in case.target:
            records[m]["target"] = round(case.target[m], 2)
        print(f"{name} {size} {m}: cpu {np.median(records[m]['cpu_s']):.3f} s, wall "
              f"{np.median(records[m]['wall_s']):.3f} s, ratio {records[m]['ratio']}, target {case.target.get(m)}",
              flush=True)
    return {"case": name, "size": list(size), "threads": threads, "methods": records,
            "largest_difference": differences(results, case)}


def differences(results, case):
    if not case.compared:
        return None
    own = np.asarray(results["neuroalign"], float)
    found = {}
    for m, values in results.items():
        values = np.asarray(values, float)
        if m != "neuroalign" and "tau-b" not in m:
            # A peer that does a share of the job does the first of it.
            part = own[:len(values)].reshape(values.shape) if own.ndim else own
            found[m] = float(f"{np.abs(part - values).max():.3g}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--sizes", choices=("full", "small", "tiny"), default="full", help="tiny only tries the script")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    found = {"machine": machine(), "results": []}
    for name in options.case or CASES:
        size = {"full": CASES[name].size, "small": SMALL[name], "tiny": CASES[name].tiny}[options.sizes]
        found["results"].append(run(name, options.repeats, options.threads, size))
        if options.out:  # a long run that is stopped keeps what it has
            options.out.write_text(json.dumps(found, indent=1) + "\n")
