"""Means of scores over the neuroids of a region and over subjects, and what may be said of a population."""

import numpy as np
import xarray as xr

from neuroalign.data import scores as results
from neuroalign.errors import check_option, collect_warnings, list_ids, suggest, warn_user
from neuroalign.stats import expanded_interval, hierarchical_means, sign_flip_test, subject_means
from neuroalign.stats.sign_flips import FEW_SUBJECTS

__all__ = ["group_scores"]


def group_scores(scores: xr.Dataset, *, by: str | None = None, subject: str = "subject", draw: str = "subjects",
                 n_resamples: int = 5000, level: float = 0.95, random_state: int = 0) -> xr.Dataset:
    """Average scores over the neuroids of each subject, then over subjects, with an interval over subjects.

    Neuroids of one subject share a head, a montage and a day: they are not independent, and a subject with many does
    not count for more. With fewer than six subjects there is no interval and no p: what is given are the results of
    each subject and how many agree.

    Parameters
    ----------
    scores : Dataset (metric, space, neuroid[, time_bin])
        Of `encode`, or differences of `site_tests`.
    by : str, optional
        Coord of the neuroids to group by, ``"region"``; by default all are one group.
    subject : str
        Coord of the neuroids that names the subject.
    draw : {"subjects", "both"}
        See `neuroalign.stats.hierarchical_means`.
    n_resamples, level, random_state
        Of the interval.

    Returns
    -------
    Dataset
        Scores (metric, space, target[, time_bin]), a target each group: the mean over subjects, ``ci_low``,
        ``ci_high``, and ``subject_score (subject, ...)``. Coords ``n_subjects``, ``n_neuroids`` and ``n_positive``:
        in how many subjects the mean is above the null (of differences: above 0). Where there is something to hold
        against (``null_mean``, averaged alike, or differences) also ``p`` of a one-sided sign flip of the subjects,
        for each target alone; ``smallest_p`` in the attrs is what it can be at least. Intervals are of the score, p
        is of what it has above the null. Neuroids with a NaN in any space do not count.

    Notes
    -----
    The interval is about other subjects, for these stimuli. Simulated with normal subjects and 5 to 40 neuroids each,
    intervals of 95 % held the mean of the population in 93 to 96 % of 1,000 studies of 6, 8 and 20 subjects
    (``draw="both"``: 95 to 99.8 %).

    Examples
    --------
    ``na.alignment.group_scores(scores, by="region").ci_low``
    """
    check_option("draw", draw, ("subjects", "both"))
    wanted = [subject] if by is None else [subject, by]
    lacking = [c for c in wanted if c not in scores.coords or scores[c].dims != ("neuroid",)]
    if "neuroid" not in scores.dims or lacking:
        known = [str(c) for c in scores.coords if scores[c].dims == ("neuroid",) and c != "neuroid"]
        name = (lacking or wanted)[0]
        raise ValueError(f"scores: no coord {list_ids(lacking or wanted)} on 'neuroid'; found "
                         f"{', '.join(map(repr, known)) or 'none'}.{suggest(name, known)} Name the {name} of each "
                         f"neuroid: scores.assign_coords({name}=('neuroid', [...])).")
    ordered = scores["score"].transpose("neuroid", ...)
    values, rest = ordered.values.astype(float), ordered.dims[1:]
    about, reference = results.attrs_of(scores), None
    if "null_mean" in scores:
        reference = values - scores["null_mean"].transpose("neuroid", ...).values
    elif about.get("analysis") == "site_tests":
        reference = values
    labels = np.full(len(values), "all") if by is None else scores[by].values.astype(str)
    subjects, groups = scores[subject].values.astype(str), list(dict.fromkeys(labels.tolist()))
    everyone, found, few = list(dict.fromkeys(subjects.tolist())), [], {}
    usable = np.isfinite(values).all(tuple(range(1, values.ndim)))
    with collect_warnings() as said:
        for group in groups:
            own = usable & (labels == group)
            found.append(_group(values[own], None if reference is None else reference[own], subjects[own], everyone,
                                draw, n_resamples, level, random_state))
            if found[-1]["n_subjects"] < FEW_SUBJECTS:
                few[group] = found[-1]["n_subjects"]
        if few:
            least = min(few, key=few.get)
            warn_user(f"{len(few)} of {len(groups)} groups have fewer than {FEW_SUBJECTS} subjects ({least!r}: "
                      f"{few[least]}): no interval and no p for {list_ids(few)}. Report each subject (subject_score) "
                      "and how many agree (n_positive); nothing follows for a population.", "few-subjects", few)
    dims = (*rest[:2], "target", *rest[2:])
    kept = ["score", "ci_low", "ci_high", *(["p"] if reference is not None else []),
            *(["null_mean"] if "null_mean" in scores else [])]
    variables = {k: (dims, np.stack([f[k] for f in found], 2)) for k in kept}
    variables["subject_score"] = (("subject", *dims), np.stack([f["subject_score"] for f in found], 3))
    coords = {d: scores[d].values for d in rest} | {"target": groups, "subject": everyone}
    coords |= {k: ("target", [f[k] for f in found]) for k in ("n_subjects", "n_neuroids")}
    if reference is not None:
        coords["n_positive"] = (dims, np.stack([f["n_positive"] for f in found], 2))
    most = max(f["n_subjects"] for f in found)
    attrs = {"analysis": "group_scores", "by": by, "draw": draw, "level": level, "n_resamples": n_resamples,
             "aggregation": about.get("aggregation"), "warnings": [*about.get("warnings", []), *said],
             "smallest_p": max((f["smallest_p"] for f in found if f["smallest_p"]), default=None),
             "interval": f"{level:.0%} over {most} subjects, expanded percentile" if most >= FEW_SUBJECTS else
                         f"none: {most} subjects, fewer than {FEW_SUBJECTS}; nothing follows for a population",
             "inference": _inference(draw, most, reference is not None),
             "fingerprints": about.get("fingerprints")}
    return results.make(variables, coords, attrs)


def _inference(draw: str, most: int, tested: bool) -> str:
    said = "Scores were averaged over the neuroids of each subject, then over subjects."
    if most < FEW_SUBJECTS:
        return f"{said} With {most} subjects there is no interval and no p; each subject is reported."
    whom = "subjects, each with its neuroids" if draw == "subjects" else "subjects, and neuroids within each"
    flips = "; p is that of sign flips of the subjects, one-sided, for each target alone" if tested else ""
    return f"{said} Intervals come from resampled {whom}{flips}; where fewer than {FEW_SUBJECTS} have a target, none."


def _group(values, reference, subjects, everyone, draw, n_resamples, level, random_state) -> dict:
    """Mean of one group, its interval and p (NaN for few subjects), and the mean of each subject (NaN: none)."""
    shape = values.shape[1:]
    each = np.full((len(everyone), *shape), np.nan)
    nothing = np.full(shape, np.nan)
    found = {"subject_score": each, "score": nothing, "ci_low": nothing, "ci_high": nothing, "n_neuroids": len(values),
             "n_subjects": len(set(subjects.tolist())), "smallest_p": None}
    if reference is not None:
        found |= {"p": nothing, "null_mean": nothing, "n_positive": np.zeros(shape, int)}
    if not len(values):
        return found
    means, names = subject_means(values, subjects)
    each[[everyone.index(n) for n in names]] = means
    found["score"] = means.mean(0)
    against = None if reference is None else subject_means(reference, subjects)[0]
    if against is not None:
        found |= {"n_positive": (against > 0).sum(0), "null_mean": (means - against).mean(0)}
    if len(names) < FEW_SUBJECTS:
        return found
    drawn = hierarchical_means(values, subjects, n_resamples, draw=draw, random_state=random_state)
    found["ci_low"], found["ci_high"] = expanded_interval(drawn, len(names), level)
    if against is not None:
        test = sign_flip_test(against, random_state=random_state)
        found |= {"p": test.p, "smallest_p": test.smallest_p}
    return found
