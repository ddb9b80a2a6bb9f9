"""Small Scores for the report."""

import numpy as np
import pytest

from neuroalign.data import scores as scores_


@pytest.fixture(scope="session")
def comparison():
    """RSA Scores of two models with two layers, and one twin, against two targets."""

    def make(targets=("IT", "EVC"), attrs=None, **changed):
        names = [f"{model}:b.{k}:all" for model in ("net", "text", "net@random") for k in (0, 1)]
        score = np.linspace(0.05, 0.6, 6 * len(targets)).reshape(1, 6, len(targets))
        dims = ("metric", "space", "target")
        variables = {"score": (dims, score), "p": (dims, np.where(score > 0.3, 0.004, 0.3)),
                     "q": (dims, np.where(score > 0.4, 0.02, 0.5)), "ceiling": (dims, np.full(score.shape, np.nan))}
        parts = [n.split(":") for n in names]
        coords = {"metric": ["rsa.spearman"], "space": names, "target": list(targets)}
        for k, key in enumerate(("model", "layer", "stream")):
            coords[key] = ("space", [p[k] for p in parts])
        coords["depth"] = ("space", [0.0, 1.0] * 3)
        described = {"kind": "compare", "rdm": "correlation", "n_stimuli": 92, "n_pairs": 4186, "n_permutations": 999,
                     "null": "stimulus labels permuted", "fdr": "Benjamini-Hochberg over the targets",
                     "ceiling": "fewer than two subjects", "random_state": 7,
                     "fingerprints": {"targets": "abc123"}, "interval": {"rsa.spearman": {
                         "method": "percentile bootstrap, 95%", "resampled": {"IT": "stimuli and subjects"}}},
                     "warnings": [{"code": "constant-target", "message": "1 target is constant: 'V4'.", "count": 1,
                                   "ids": ["V4"]}]}
        return scores_.make(variables | changed, coords, described | (attrs or {}))

    return make


@pytest.fixture(scope="session")
def encoding():
    """Encoding Scores of one space, with the attrs that `encode` writes."""
    regions = ["LATL", "LIPL"]
    dims = ("metric", "space", "neuroid")
    values = {"score": [0.41, 0.49], "p": [0.0004, 0.1], "q": [0.0008, 0.1], "null_mean": [0.2, 0.3],
              "null_sd": [0.02, 0.02], "ceiling": [0.86, np.nan]}
    variables = {k: (dims, np.array(v)[None, None]) for k, v in values.items()}
    variables["baseline"] = (("metric", "neuroid"), np.array([[0.3, 0.48]]))
    attrs = {"analysis": "encode", "alphas": [0.1, 1.0, 1000.0], "inner_folds": "blocks(5, gap=8)", "gap": 16.0,
             "folds": {"name": "blocks(6, gap=8)", "n_folds": 6, "n_train": [290, 298], "n_test": [60, 61],
                       "n_purged": [8, 16]}, "hrf": "glover", "at": "onset", "high_pass": None, "repeats": "average",
             "nuisance": ["word_rate", "sound_power"], "fdr": "bh", "ceiling": "split halves of the subjects",
             "nulls": {"name": "shift", "permuted": "events", "n": 200, "min_shift": 150}, "random_state": 0}
    return scores_.make(variables, {"metric": ["r.pooled"], "space": ["lm:surprisal:word"], "neuroid": regions,
                                    "region": ("neuroid", regions)}, attrs)
