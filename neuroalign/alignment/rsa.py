"""RSA on arrays: scores per subject or on the group mean, with ceiling, null and bootstrap.

A target is a *cell*: the RDMs (rows) of the subjects of one region. Per-subject scores are means over the rows
of a cell; group scores correlate with the mean row.
"""

from dataclasses import dataclass, replace

import numpy as np

from neuroalign.alignment.label_null import label_null, orthonormal_rows, residual_rows, tau_null
from neuroalign.alignment.metrics import Metric
from neuroalign.alignment.progress import part_of
from neuroalign.alignment.rdm import positions, square
from neuroalign.alignment.rdm_bootstrap import bootstrap_rdms
from neuroalign.errors import list_ids, warn_user
from neuroalign.linalg import rows_per_chunk
from neuroalign.stats import LEVEL, make_resamples
from neuroalign.stats.correlations import correlate_rows, product, unit_rows, valid_patterns
from neuroalign.stats.rank_agreement import whiten_dissimilarities
from neuroalign.stats.rdm_ceilings import rdm_ceiling

__all__ = ["RdmProblem", "SubjectResamples", "correlate_with_rows", "interval_of", "rdm_ceilings", "rdm_null",
           "rdm_problem", "resample_cells", "resample_row_scores", "resample_rows", "subsample_scores",
           "weighted_means"]

# Copies of a stimulus would tie its pairs (tau-a), or have no place in the whitening: half samples instead.
SUBSAMPLED = ("tau_a", "cosine.whitened", "pearson.whitened")


@dataclass
class RdmProblem:
    """One metric's comparison, as arrays.

    Attributes
    ----------
    condensed : array of shape (n_spaces, n_stimuli * (n_stimuli - 1) / 2)
        Dissimilarities of all pairs of stimuli.
    models : array of shape (n_spaces, n_pairs)
        Those of the compared pairs.
    rows : array of shape (n_rows, n_pairs)
        RDMs that the models are correlated with: one a subject, or the mean of each cell.
    weights : array of shape (n_cells, n_rows)
        Cell scores are ``weights @ correlations``; NaN rows for cells without a usable RDM.
    controls : array of shape (n_controls, n_pairs), or None
    """

    names: list[str]
    condensed: np.ndarray
    models: np.ndarray
    first: np.ndarray
    second: np.ndarray
    n_stimuli: int
    rows: np.ndarray
    weights: np.ndarray
    method: str
    controls: np.ndarray | None
    device: object


def rdm_problem(metric: Metric, models, side, rdm: str, controls, device) -> RdmProblem:
    """Set up the arrays of one metric from matched inputs (`comparison_inputs.match`)."""
    condensed = models.dissimilarities(side.ids, rdm, device)
    n = len(side.ids)
    pairs = condensed if side.every_pair else condensed[:, positions(side.first, side.second, n)]
    rows = side.dissimilarities(rdm, device)
    member = side.cell[None, :] == np.arange(side.n_cells)[:, None]
    if not metric.per_subject:
        rows, member = _cell_means(rows, member), np.eye(side.n_cells, dtype=bool)
        labels = [side.cell_name(c) for c in range(side.n_cells)]
    else:
        labels = [side.label(r) for r in range(len(rows))]
    usable = _usable(rows, labels)
    member = member & usable
    counts = member.sum(1, keepdims=True)
    weights = np.where(counts > 0, member / np.maximum(counts, 1), np.nan)
    # Rows that cannot be scored get zeros, so that a weight of zero is enough to leave them out.
    return RdmProblem(models.names, condensed, pairs, side.first, side.second, n,
                      np.where(usable[:, None], rows, np.linspace(0, 1, rows.shape[1], dtype=np.float32)), weights,
                      metric.method, controls if metric.partial else None, device)


def correlate_with_rows(problem: RdmProblem) -> np.ndarray:
    """Correlation of every model with every row, shape (n_spaces, n_rows)."""
    problem = _whitened(problem)
    if problem.controls is None:
        return correlate_rows(problem.models, problem.rows, problem.method, device=problem.device)
    out = np.full((len(problem.models), len(problem.rows)), np.nan)
    for spaces, valid_a in valid_patterns(problem.models):
        for group, valid_b in valid_patterns(problem.rows):
            kept = valid_a & valid_b
            basis = orthonormal_rows(unit_rows(problem.controls[:, kept], problem.method))
            a, b = (residual_rows(unit_rows(v[i][:, kept], problem.method), basis)
                    for v, i in ((problem.models, spaces), (problem.rows, group)))
            out[np.ix_(spaces, group)] = product(a, b, problem.device)
    return out


def rdm_null(problem: RdmProblem, permutations, tick=lambda share: None) -> np.ndarray:
    """Scores with the models' stimulus labels permuted, shape (n_permutations, n_spaces, n_cells).

    `tick` is told which share of all was just done.
    """
    problem = _whitened(problem)  # whitening and a permutation of the stimuli may change places
    known = ~np.isnan(problem.weights).any(1)
    out = np.full((len(permutations), len(problem.models), len(problem.weights)), np.nan)
    step = rows_per_chunk(12 * problem.n_stimuli**2, problem.device, limit=2**30)
    for start in range(0, len(problem.models), step):
        part = slice(start, start + step)
        said = {"names": problem.names[part],
                "tick": part_of(tick, len(problem.models[part]) / len(problem.models))}
        if problem.method == "tau_a":
            out[:, part, known] = tau_null(square(problem.condensed[part]), problem.first, problem.second, problem.rows,
                                           problem.weights[known], permutations, **said)
            continue
        out[:, part, known] = label_null(
            square(problem.condensed[part]), problem.first, problem.second, problem.rows, problem.weights[known],
            problem.method, permutations, problem.device, controls=problem.controls, **said)
    return out


def rdm_ceilings(side, rdm: str, averaging: str | None, device) -> dict[str, np.ndarray]:
    """Lower and upper noise ceiling of every cell, by its subjects; NaN where there are fewer than two.

    A cell whose lower bound is not above zero is unreliable: its upper bound is withheld, so that nothing can be
    divided by it.
    """
    lower, upper = np.full(side.n_cells, np.nan), np.full(side.n_cells, np.nan)
    if averaging is None:
        return {"ceiling": upper, "ceiling_lower": lower}
    rows = side.dissimilarities(rdm, device)
    for c in range(side.n_cells):
        own = (side.cell == c) & (side.subject != "")
        if own.sum() > 1:
            lower[c], upper[c] = rdm_ceiling(rows[own], averaging=averaging)
    poor = np.flatnonzero(lower <= 0)
    if len(poor):
        names = [side.cell_name(c) for c in poor]
        warn_user(f"{list_ids(names)}: the subjects' RDMs do not agree (lower bound of the noise ceiling at most 0). "
                  "The target is unreliable, its scores are not to be normalised.", "unreliable-target", names)
        upper[poor] = np.nan
    return {"ceiling": upper, "ceiling_lower": lower}


@dataclass
class SubjectResamples:
    """Resamples of stimuli, and of the subjects of each target, shared by all spaces.

    Attributes
    ----------
    stimuli : int array of shape (n_resamples, n_stimuli)
        How often each stimulus stands in each resample.
    rows : int array of shape (n_resamples, n_rows)
        How often each row's subject does; 1 for targets of a single owner.
    resampled : dict of str to str
        What was resampled for each cell, in words.
    """

    stimuli: np.ndarray
    rows: np.ndarray
    resampled: dict[str, str]


def resample_cells(side, n_bootstraps: int, random_state: int) -> SubjectResamples:
    """Draw stimuli and subjects together; regions measured in the same subjects share their resamples."""
    stimuli = make_resamples(side.ids, n_bootstraps, random_state=random_state, purpose="stimuli").counts()
    rows, resampled = np.ones((n_bootstraps, len(side.cell)), np.int32), {}
    for c in range(side.n_cells):
        own = np.flatnonzero((side.cell == c) & (side.subject != ""))
        if len(own) < 2:
            resampled[side.cell_name(c)] = "stimuli"
            continue
        subjects = sorted(side.subject[own])
        drawn = make_resamples(subjects, n_bootstraps, random_state=random_state,
                               purpose="subjects " + " ".join(subjects))
        rows[:, own] = drawn.restrict(side.subject[own])
        resampled[side.cell_name(c)] = "stimuli and subjects"
    return SubjectResamples(stimuli, rows, resampled)


def resample_rows(metric: Metric, problem: RdmProblem, side, resamples: SubjectResamples) -> np.ndarray:
    """Scores of the cells in every resample, shape (n_resamples, n_spaces, n_cells)."""
    if metric.per_subject:
        weights = problem.weights[None] * resamples.rows[:, None, :]
        return weighted_means(resample_row_scores(problem, resamples), weights)
    member = (side.cell[None, :] == np.arange(side.n_cells)[:, None]).astype(np.float64)
    weights = member[None] * resamples.rows[:, None, :]
    rows = side.rows.astype(np.float64)
    values = bootstrap_rdms(problem.models, rows, problem.first, problem.second, resamples.stimuli, problem.method,
                            controls=problem.controls, row_weights=weights, device=problem.device)
    return np.where(np.isnan(problem.weights).any(1), np.nan, values)


def resample_row_scores(problem: RdmProblem, resamples: SubjectResamples) -> np.ndarray:
    """Correlation of every model with every row over the resampled stimuli, (n_resamples, n_spaces, n_rows)."""
    return bootstrap_rdms(problem.models, problem.rows, problem.first, problem.second, resamples.stimuli,
                          problem.method, controls=problem.controls, device=problem.device)


def subsample_scores(problem: RdmProblem, indices) -> np.ndarray:
    """Scores of the cells for subsamples of the stimuli (none twice), shape (n_resamples, n_spaces, n_cells)."""
    out = np.empty((len(indices), len(problem.models), len(problem.weights)))
    for k, drawn in enumerate(indices):
        drawn = np.sort(drawn)
        place = np.full(problem.n_stimuli, -1)
        place[drawn] = np.arange(len(drawn))
        a, b = place[problem.first], place[problem.second]
        kept = (a >= 0) & (b >= 0)
        i, j = np.triu_indices(len(drawn), 1)
        part = replace(problem, condensed=problem.condensed[:, positions(drawn[i], drawn[j], problem.n_stimuli)],
                       models=problem.models[:, kept], rows=problem.rows[:, kept], first=a[kept], second=b[kept],
                       n_stimuli=len(drawn))
        out[k] = correlate_with_rows(part) @ problem.weights.T
    return out


def interval_of(resamples: SubjectResamples) -> dict:
    """Describe the interval that these resamples give."""
    return {"method": f"percentile bootstrap, {LEVEL:.0%}", "resampled": resamples.resampled}


def weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Means over rows: (n_resamples, n_spaces, n_rows) by (n_resamples, n_cells, n_rows)."""
    total = weights.sum(2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.einsum("bsr,bcr->bsc", values, weights) / np.where(total > 0, total, np.nan)[:, None, :]


def _whitened(problem: RdmProblem) -> RdmProblem:
    """Whiten both sides where the method asks for it; what is left is a plain cosine or correlation."""
    if not problem.method.endswith(".whitened"):
        return problem
    n, where = problem.n_stimuli, positions(problem.first, problem.second, problem.n_stimuli)
    whole = np.full((len(problem.rows), n * (n - 1) // 2), np.nan)
    whole[:, where] = problem.rows
    for what, values in (("targets", whole), ("models", problem.condensed)):
        lost = int(np.isnan(values).any(0).sum())
        if lost:
            raise ValueError(f"metric: 'rsa.{problem.method}' needs every pair of the {n} stimuli, but the {what} lack "
                             f"{lost} of {whole.shape[1]}. Drop the stimuli that have none, or use "
                             f"'rsa.{problem.method.split('.')[0]}'.")
    condensed = whiten_dissimilarities(problem.condensed).astype(np.float32)
    rows = whiten_dissimilarities(whole)[:, where].astype(np.float32)
    return replace(problem, condensed=condensed, models=condensed[:, where], rows=rows,
                   method=problem.method.split(".")[0])


def _cell_means(rows: np.ndarray, member: np.ndarray) -> np.ndarray:
    present = ~np.isnan(rows)
    sums = member.astype(np.float64) @ np.where(present, rows, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (sums / (member.astype(np.float64) @ present)).astype(np.float32)


def _usable(rows: np.ndarray, labels: list[str]) -> np.ndarray:
    count = (~np.isnan(rows)).sum(1)
    spread = np.array([np.ptp(row[~np.isnan(row)]) if n else 0.0 for row, n in zip(rows, count)])
    usable = (count >= 3) & (spread > 0)
    if not usable.all():
        bad = [labels[r] for r in np.flatnonzero(~usable)]
        warn_user(f"RDMs of {list_ids(bad)} are constant or have fewer than 3 pairs; they are left out, and a target "
                  "without any other is NaN.", "constant-target", bad)
    return usable
