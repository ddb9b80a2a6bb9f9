"""Tests of RSA scores that generalise to new stimuli, new subjects, or both: one table for all questions."""

from dataclasses import replace

import numpy as np
import pandas as pd

from neuroalign.alignment import rsa
from neuroalign.alignment.comparison import check_arguments
from neuroalign.alignment.comparison_inputs import match
from neuroalign.alignment.metrics import resolve_metrics
from neuroalign.errors import check_option, warn_user
from neuroalign.linalg import resolve
from neuroalign.stats import fdr, holm
from neuroalign.stats.correlations import correlate_rows, rank_rows

__all__ = ["dual_variance", "rsa_tests"]

OVER = ("both", "stimuli", "subjects")
ADJUST = {"holm": holm, "bh": fdr}
FEW = 5  # subjects below which the t distribution is a thin support


def rsa_tests(features, targets, *, metric: str = "rsa.spearman", rdm: str = "correlation", over: str = "both",
              adjust: str = "holm", ceiling: str = "rank", n_bootstraps: int = 1000, level: float = 0.95,
              on_missing: str = "error", random_state: int = 0, device="auto") -> pd.DataFrame:
    """Test the RSA scores of models against zero, against the noise ceiling and against each other.

    Parameters
    ----------
    features, targets, rdm, on_missing, random_state, device
        As for `neuroalign.compare`: models, and RDMs or responses of several subjects a region.
    metric : str
        A per-subject RSA metric: ``rsa.spearman``, ``rsa.pearson``, ``rsa.cosine`` or ``rsa.rho_a``.
    over : {"both", "stimuli", "subjects"}
        What new samples are imagined of. Targets of a single owner are resampled over stimuli alone.
    adjust : {"holm", "bh"}
        Correction of p over all tests of one kind: any false discovery (Holm), or their share (Benjamini-Hochberg).
    ceiling : {"rank", "raw"}
        How the RDMs of the other subjects are averaged for the lower bound of the noise ceiling.
    n_bootstraps : int
    level : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        One row a test: ``target``, ``test``, ``space``, ``other``, ``estimate``, ``se``, ``ci_low``, ``ci_high``,
        ``t``, ``df``, ``p``, ``p_adjusted``. Tests: ``above zero`` (one-sided), ``below ceiling`` (lower bound minus
        score, one-sided; only where a target has several subjects) and ``difference`` (two-sided). ``attrs`` says what
        was done.

    Notes
    -----
    Resampling stimuli and subjects together counts the noise of single measurements several times; the variance is
    therefore corrected from three bootstraps (Schütt et al. 2023, eLife 12:e82566), and referred to a t distribution
    with as many degrees of freedom as the smaller sample allows. Pairs of a stimulus with its copy are left out. The
    mean RDM of the other subjects, that a subject is held against for the ceiling, is that of all of them in every
    resample.

    Examples
    --------
    >>> from neuroalign.alignment import rdms
    >>> from neuroalign.data import make_features, make_rdms
    >>> rng = np.random.default_rng(0)
    >>> ids, x = [f"s{i}" for i in range(12)], rng.standard_normal((12, 8))
    >>> a, b = (make_features(v, ids, model=m) for m, v in (("a", x), ("b", rng.standard_normal((12, 8)))))
    >>> own = rdms(a).values + 0.2 * rng.random((6, 66))
    >>> brain = make_rdms(own, stimulus_ids=ids, targets=list("uvwxyz"),
    ...                   target_coords={"region": ["IT"] * 6, "subject": list("uvwxyz")})
    >>> table = rsa_tests([a, b], brain, n_bootstraps=200)
    >>> bool(table[table.test == "difference"].p.item() < 0.01)
    True
    """
    (chosen,) = resolve_metrics([metric], ("rdm",))
    if not chosen.per_subject or chosen.partial or chosen.method in rsa.SUBSAMPLED:
        raise ValueError(f"metric: got {metric!r}, expected a per-subject metric that can be resampled with "
                         "replacement: 'rsa.spearman', 'rsa.pearson', 'rsa.cosine' or 'rsa.rho_a'.")
    check_option("over", over, OVER)
    check_option("adjust", adjust, tuple(ADJUST))
    check_arguments([chosen], rdm, None, 0, n_bootstraps, ceiling, (), features, targets)
    if n_bootstraps < 2 or not 0 < level < 1:
        raise ValueError(f"rsa_tests: got n_bootstraps={n_bootstraps}, level={level}, expected at least 2, and 0 to 1.")
    device = resolve(device)
    models, side = match(features, targets, on_missing)
    problem = rsa.rdm_problem(chosen, models, side, rdm, None, device)
    resamples = rsa.resample_cells(side, n_bootstraps, random_state)
    full = _with_ceiling(rsa.correlate_with_rows(problem)[None], problem, ceiling, None)[0]
    drawn = _with_ceiling(rsa.resample_row_scores(problem, resamples), problem, ceiling, resamples)
    rows = []
    for c in range(side.n_cells):
        own = np.flatnonzero(np.nan_to_num(problem.weights[c]) > 0)
        rows += _cell_tests(side.cell_name(c), models.names, full[:, own], drawn[:, :, own], resamples.rows[:, own],
                            side.subject[own], len(side.ids), over, level)
    if not rows:
        raise ValueError("rsa_tests: no target is left that can be tested; see the warnings.")
    table = pd.DataFrame(rows)
    for kind in table["test"].unique():
        of_kind = table["test"] == kind
        table.loc[of_kind, "p_adjusted"] = ADJUST[adjust](table.loc[of_kind, "p"].to_numpy())
    table.attrs = {"metric": chosen.name, "over": over, "adjust": f"{adjust}, over all tests of one kind",
                   "n_bootstraps": n_bootstraps, "n_stimuli": len(side.ids), "level": level,
                   "ceiling": f"lower bound, subjects averaged by {ceiling}", "random_state": random_state}
    return table


def dual_variance(both, stimuli, subjects, n_stimuli: int, n_subjects: int):
    """Variance of an estimate over new stimuli and new subjects, from three bootstraps.

    Parameters
    ----------
    both, stimuli, subjects : float or array
        Variances when both are resampled together, or one of them alone.
    n_stimuli, n_subjects : int

    Returns
    -------
    float or array
        Not below that of either alone and not above that of both together (Schütt et al. 2023, eLife 12:e82566).

    Examples
    --------
    >>> round(float(dual_variance(4.0, 1.0, 1.0, 10**6, 10**6)), 3)
    1.0
    """
    a, b = n_stimuli / (n_stimuli - 1), n_subjects / (n_subjects - 1)
    found = a * stimuli + b * subjects - a * b * (both - stimuli - subjects)
    return np.minimum(np.maximum(np.maximum(found, a * stimuli), b * subjects), both)


def _with_ceiling(scores, problem, averaging, resamples):
    """Append to scores (n, n_spaces, n_rows) what the mean RDM of the other subjects of a cell scores."""
    out = np.full((scores.shape[0], scores.shape[1] + 1, scores.shape[2]), np.nan)
    out[:, :-1] = scores
    values = (rank_rows(problem.rows) if averaging == "rank" else problem.rows).astype(np.float64)
    for weights in problem.weights:
        own = np.flatnonzero(np.nan_to_num(weights) > 0)
        for r in own if len(own) > 1 else ():
            others = values[own[own != r]]
            there = ~np.isnan(others)
            with np.errstate(invalid="ignore"):
                mean = np.where(there, others, 0).sum(0) / np.where(there.any(0), there.sum(0), np.nan)
            if resamples is None:
                out[0, -1, r] = correlate_rows(mean[None], problem.rows[r:r + 1], problem.method, device="cpu")[0, 0]
            else:
                part = replace(problem, models=mean[None].astype(np.float32), rows=problem.rows[r:r + 1])
                out[:, -1, r] = rsa.resample_row_scores(part, resamples)[:, 0, 0]
    return out


def _cell_tests(target, names, full, drawn, counts, subjects, n_stimuli, over, level):
    """Rows of the table of one target; scores (spaces + ceiling, rows) and resampled ones before them."""
    from scipy import stats

    several = len(subjects) > 1 and (subjects != "").all()
    if not len(subjects) or (over == "subjects" and not several):
        warn_user(f"{target!r} has {len(subjects)} subjects that can be resampled; it is left out.",
                  "no-subjects", [target])
        return []
    if several and over != "stimuli" and len(subjects) < FEW:
        warn_user(f"{target!r} has {len(subjects)} subjects: intervals over subjects are wide, and rough. Report each "
                  "subject.", "few-subjects", [target], count=len(subjects))
    weights = counts / counts.sum(1, keepdims=True)
    estimate = full.mean(1)
    resampled = {"stimuli": drawn.mean(2)}
    if several:
        resampled |= {"subjects": weights @ full.T, "both": np.einsum("bsr,br->bs", drawn, weights)}
    how = over if several else "stimuli"
    size = {"stimuli": n_stimuli, "subjects": len(subjects), "both": min(n_stimuli, len(subjects))}[how]

    def error(of):
        """Standard error of a linear function of the scores."""
        variance = {k: np.nanvar(of(v.T)) for k, v in resampled.items()}
        if how == "both":
            return np.sqrt(dual_variance(*(variance[k] for k in OVER), n_stimuli, len(subjects)))
        return np.sqrt(variance[how] * size / (size - 1))

    def row(test, space, other, of, sided):
        value, se = float(of(estimate)), float(error(of))
        half = se * stats.t.ppf((1 + level) / 2, size - 1)
        t = value / se if se > 0 else np.sign(value) * np.inf
        p = stats.t.sf(t if sided == 1 else abs(t), size - 1) * sided
        return {"target": target, "test": test, "space": space, "other": other, "estimate": value, "se": se,
                "ci_low": value - half, "ci_high": value + half, "t": t, "df": size - 1, "p": p}

    rows = [row("above zero", name, "", lambda v, i=i: v[i], 1) for i, name in enumerate(names)]
    if several:
        rows += [row("below ceiling", name, "ceiling", lambda v, i=i: v[-1] - v[i], 1) for i, name in enumerate(names)]
    return rows + [row("difference", names[i], names[j], lambda v, i=i, j=j: v[i] - v[j], 2)
                   for i in range(len(names)) for j in range(i + 1, len(names))]
