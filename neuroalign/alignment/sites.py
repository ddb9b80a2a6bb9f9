"""Site tests: at which neuroids does one group of models predict better than another?"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from neuroalign.data import scores as results
from neuroalign.errors import check_option, list_ids
from neuroalign.stats import conjunction_p
from neuroalign.stats import fdr as adjust

__all__ = ["count_sites", "site_tests"]


def site_tests(scores: xr.Dataset, comparisons: Mapping[str, tuple[str, str]], *, metric: str | None = None,
               bins: Sequence[float] | None = None, fdr: str = "by", level: float = 0.95) -> xr.Dataset:
    """Test at each neuroid whether one space predicts better than another, on the same resampled stimuli.

    The statistic is the difference of scores, its mean over one set of time bins that both share. Its sampling
    distribution comes from resamples of the held-out predictions, whole events at once (groups, blocks of a time
    series, stimuli) and never time bins, whose windows overlap; p is the share of resamples in which the deviation
    from the difference found reaches it (a bootstrap shifted to no difference). Resampled predictions know nothing of
    how the fits themselves would vary with other training data, and would find too much; the deviations are therefore
    made ``sqrt(1 + k / (k - 1))`` times larger for k folds (Nadeau & Bengio 2003, Mach Learn 52:239). Choose models
    and layers within the training folds before: ``encode(layer={"multimodal": [...], "unimodal": [...]})``.

    Parameters
    ----------
    scores : Dataset
        Of `neuroalign.encode` with ``n_bootstraps`` and ``keep=["bootstrap"]``.
    comparisons : mapping of str to (space, space)
        Name of each comparison -> the space that is to be better, and the other.
    metric : str, optional
        The first of the Scores by default.
    bins : sequence of float, optional
        Time bins to average over, chosen without a look at these scores; all of them by default.
    fdr : {"by", "bh"}
        Adjustment over neuroids within a comparison; ``by`` holds under any dependence of neighbouring sites.
    level : float
        Coverage of the intervals.

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid) of differences, one space a comparison, with ``p``, ``q``, ``ci_low``,
        ``ci_high``. One-sided: better. NaN where either score is NaN.

    Raises
    ------
    ValueError
        The resamples were not kept, or an adjusted p-value could not reach .05 with so few of them.

    Examples
    --------
    ``na.site_tests(scores, {"trained > random": ("clip:nested:image", "clip@random:nested:image")})``
    """
    check_option("fdr", fdr, ("by", "bh"))
    if "bootstrap" not in scores or "neuroid" not in scores.dims:
        raise ValueError("scores: no resampled scores of neuroids. Make them by na.encode(..., n_bootstraps=1000, "
                         "keep=['bootstrap']).")
    metric = str(scores["metric"].values[0]) if metric is None else metric
    for name in {s for pair in comparisons.values() for s in pair}:
        if name not in scores.indexes["space"]:
            raise KeyError(f"comparisons: no space {name!r}; found {list_ids(scores['space'].values)}.")
    chosen = scores[["score", "bootstrap"]].sel(metric=metric)
    if "time_bin" in chosen.dims:
        chosen = chosen.sel(time_bin=slice(None) if bins is None else list(bins)).mean("time_bin")
    n_resamples, n_sites = chosen.sizes["resample"], chosen.sizes["neuroid"]
    smallest = 1 / (1 + n_resamples)
    if adjust(np.full(n_sites, smallest), method=fdr).min() > 0.05:
        raise ValueError(f"scores: with {n_resamples} resamples p is at least {smallest:.2g}, and no q of {n_sites} "
                         f"sites can reach .05 ({fdr}). Ask for more: n_bootstraps={_enough(n_sites, fdr)}.")
    about = results.attrs_of(scores)
    widening = _widening(about["folds"]["n_folds"])
    found = {k: [] for k in ("score", "p", "q", "ci_low", "ci_high")}
    for better, other in comparisons.values():
        gain, drawn = (v.sel(space=better).values - v.sel(space=other).values
                       for v in (chosen["score"], chosen["bootstrap"].transpose("resample", "space", "neuroid")))
        deviation = widening * (drawn - gain)
        reached = (deviation >= gain - 1e-12).sum(0)
        p = np.where(np.isnan(gain), np.nan, (1 + reached) / (1 + n_resamples))
        low, high = np.quantile(gain + deviation, [(1 - level) / 2, (1 + level) / 2], axis=0)
        for name, values in zip(found, (gain, p, adjust(p, method=fdr), low, high)):
            found[name].append(values)
    dims = ("metric", "space", "neuroid")
    coords = {k: v for k, v in scores.coords.items() if v.dims == ("neuroid",)}
    coords |= {"metric": [metric], "space": list(comparisons)}
    attrs = {"analysis": "site_tests", "comparisons": {k: list(v) for k, v in comparisons.items()}, "fdr": fdr,
             "interval": about.get("interval"), "smallest_p": smallest, "level": level,
             "widening": widening,
             "n_bins": scores.sizes.get("time_bin") if bins is None else len(bins),
             "folds": about.get("folds"), "fingerprints": about.get("fingerprints")}
    return results.make({k: (dims, np.array(v)[None]) for k, v in found.items()}, coords, attrs)


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
        One row a comparison (and group): n_sites, weak, strict, share_weak, share_strict, mean_difference.

    Examples
    --------
    ``na.alignment.count_sites([by_words, by_cuts], by="subject")``
    """
    tests = [tests] if isinstance(tests, xr.Dataset) else list(tests)
    ids = tests[0]["neuroid"].values
    for one in tests[1:]:
        if list(one["neuroid"].values) != list(ids) or list(one["space"].values) != list(tests[0]["space"].values):
            raise ValueError("tests: the conditions are of different neuroids or comparisons. Test the same in each.")
    by = [by] if isinstance(by, str) else list(by)
    rows = []
    for space in tests[0]["space"].values:
        q, p, gain = (np.array([t[k].sel(space=space).values[0] for t in tests]) for k in ("q", "p", "score"))
        tested = np.isfinite(p).all(0)
        frame = pd.DataFrame({b: tests[0][b].values for b in by} | {
            "tested": tested, "weak": (q < alpha).any(0), "gain": gain.mean(0),
            "strict": adjust(conjunction_p(p), method=fdr) < alpha})
        for label, part in frame.groupby(by, sort=False) if by else [((), frame)]:
            n = int(part["tested"].sum())
            counts = {k: int(part.loc[part["tested"], k].sum()) for k in ("weak", "strict")}
            rows.append({"comparison": str(space), **dict(zip(by, label)), "n_sites": n, **counts,
                         **{f"share_{k}": c / n if n else np.nan for k, c in counts.items()},
                         "mean_difference": part.loc[part["tested"], "gain"].mean()})
    return pd.DataFrame(rows)


def _widening(n_folds: int) -> float:
    return float(np.sqrt(1 + n_folds / (n_folds - 1)))


def _enough(n_sites: int, fdr: str) -> int:
    """Return how many resamples let the q of all sites reach .05."""
    harmonic = (1 / np.arange(1, n_sites + 1)).sum() if fdr == "by" else 1.0
    return int(np.ceil(harmonic / 0.05))
