"""Counts of the sites where the comparisons of site tests hold, in one or several conditions."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import scores as results
from neuroalign.errors import list_ids
from neuroalign.stats import conjunction_p
from neuroalign.stats import fdr as adjust

__all__ = ["count_sites"]


def count_sites(tests: Sequence[xr.Dataset] | xr.Dataset, *, by: str | Sequence[str] = (), alpha: float = 0.05,
                fdr: str = "by") -> pd.DataFrame:
    """Count the sites where a comparison holds, in any of several conditions (weak) and in all of them (strict).

    Parameters
    ----------
    tests : Dataset or sequence of them
        Of `site_tests`, one a condition (events aligned to words, events aligned to scene cuts), for the same
        neuroids.
    by : str or sequence of str
        Coords of the neuroids to count by: ``"subject"``, ``"region"``.
    alpha : float
        Sites with q below it count.
    fdr : {"by", "bh"}
        Adjustment of the conjunction (the largest p of the conditions, Nichols et al. 2005).

    Returns
    -------
    DataFrame
        One row a comparison (and group): n_sites that were tested in any condition, weak, strict, share_weak,
        share_strict, mean_difference (where tested); and, apart from all of these, ``default`` and ``default_other``:
        sites where only one side passed on validation, in any condition.

    Raises
    ------
    ValueError
        Scores that lack what `site_tests` gives (those of an older version may), conditions of different neuroids, or
        neuroids without the coord to count by.

    Examples
    --------
    ``na.alignment.count_sites([by_words, by_cuts], by="subject")``
    """
    tests = [tests] if isinstance(tests, xr.Dataset) else list(tests)
    by = [by] if isinstance(by, str) else list(by)
    _check_tests(tests, by)
    ids = tests[0]["neuroid"].values
    for one in tests[1:]:
        if list(one["neuroid"].values) != list(ids) or list(one["space"].values) != list(tests[0]["space"].values):
            raise ValueError("tests: the conditions are of different neuroids or comparisons. Test the same in each.")
    rows = []
    for space in tests[0]["space"].values:
        q, p, gain = (np.array([t[k].sel(space=space).values[0] for t in tests]) for k in ("q", "p", "score"))
        winner = np.array([t["default_winner"].sel(space=space).values for t in tests])
        known = np.isfinite(p)
        with np.errstate(invalid="ignore"):
            gain = np.where(known, gain, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
        frame = pd.DataFrame({b: tests[0][b].values for b in by} | {
            "tested": known.any(0), "weak": (q < alpha).any(0), "gain": gain,
            "strict": adjust(conjunction_p(p), method=fdr) < alpha,
            "default": (winner == "better").any(0), "default_other": (winner == "other").any(0)})
        for label, part in frame.groupby(by, sort=False) if by else [((), frame)]:
            n = int(part["tested"].sum())
            counts = {k: int(part[k].sum()) for k in ("weak", "strict")}
            rows.append({"comparison": str(space), **dict(zip(by, label)), "n_sites": n, **counts,
                         **{f"share_{k}": c / n if n else np.nan for k, c in counts.items()},
                         "mean_difference": part["gain"].mean(),
                         **{k: int(part[k].sum()) for k in ("default", "default_other")}})
    return pd.DataFrame(rows)


def _check_tests(tests, by) -> None:
    """Raise where Scores are not what `count_sites` can count."""
    for k, one in enumerate(tests):
        missing = [v for v in ("score", "p", "q", "default_winner") if v not in one]
        missing += [d for d in ("neuroid", "space") if d not in one.dims]
        if missing:
            made_by = results.attrs_of(one).get("analysis")
            raise ValueError(f"tests: the Scores of condition {k} (analysis {made_by!r}) lack {list_ids(missing)}, "
                             "expected what `site_tests` returns. Files of older versions may lack them: make them "
                             "again by na.alignment.site_tests(scores, comparisons).")
    unknown = [b for b in by if b not in tests[0].coords or tests[0][b].dims != ("neuroid",)]
    if unknown:
        have = [str(c) for c in tests[0].coords if tests[0][c].dims == ("neuroid",)]
        raise ValueError(f"by: no coord {list_ids(unknown)} of the neuroids, expected one of {', '.join(have)}.")
