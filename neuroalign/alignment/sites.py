"""Site tests: at which neuroids does one group of models predict better than another?"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from neuroalign.data import scores as results
from neuroalign.errors import check_option, collect_warnings, list_ids, warn_user
from neuroalign.stats import at_least, child_rng, conjunction_p, expanded_interval, percentile_interval
from neuroalign.stats import fdr as adjust

__all__ = ["as_of_many", "paired_differences", "site_tests", "warn_few_units"]

SECOND_ORDER = 1000  # resamples of bins, under paper_compat
FEW_UNITS = 10
NOT_CALIBRATED = ("with a bootstrap over time bins (paper_compat), whose p-values are not calibrated: bins overlap, "
                  "and on differences that are none such a bootstrap gave 49 % false positives at .05. Report the "
                  "default beside them.")


def site_tests(scores: xr.Dataset, comparisons: Mapping[str, tuple], *, metric: str | None = None,
               bins: Sequence[float] | None = None, validation: xr.Dataset | None = None, min_bins: int = 10,
               over: str = "mean", fdr: str = "by", level: float = 0.95, paper_compat: bool = False) -> xr.Dataset:
    """Test at each neuroid whether one space predicts better than another, on the same resampled stimuli.

    The statistic is the difference of scores, its mean over one set of time bins that both share. Its sampling
    distribution comes from resamples of the held-out predictions, whole events at once (groups, blocks of a time
    series, stimuli) and never time bins, whose windows overlap; p is the share of resamples in which the deviation
    from the difference found reaches it (a bootstrap shifted to no difference). Resampled predictions know nothing of
    how the fits themselves would vary with other training data, and would find too much; the deviations are therefore
    made ``sqrt(1 + n_test / n_train)`` times larger, for all that is tested and what a fold is trained on (Nadeau &
    Bengio 2003, Mach Learn 52:239). Resamples of few units vary too little, and know nothing of the uncertainty of
    their own spread: a difference counts as what a mean of many units would need for the p that t of ``units - 1``
    degrees of freedom gives it, as the tails of `neuroalign.stats.expanded_interval` do. With fewer than ten units,
    whose resamples end early, p is at least that of t. Choose models and layers within the training folds before:
    ``encode(layer={"multimodal": [...], "unimodal": [...]})``.

    Parameters
    ----------
    scores : Dataset
        Of `neuroalign.encode` with ``n_bootstraps`` and ``keep=["bootstrap"]``, or several of them joined.
    comparisons : mapping of str to (space, space)
        Name of each comparison -> the space that is to be better, and the other. Either may be a list of spaces,
        taken in pairs (one space is paired with each): of random seeds, ``("clip:...", ["clip@random:...",
        "clip@random.1:..."])``, or of matched models. All pairs must hold then: p is the largest of theirs, the
        difference their mean.
    metric : str, optional
        The first of the Scores by default.
    bins : sequence of float, optional
        Time bins to take, chosen without a look at these scores; all of them by default.
    validation : Dataset, optional
        Of `neuroalign.alignment.validation_scores`, with the same spaces. Of `bins`, each neuroid takes those where
        either side passes: where its validation score is above 0 in every fold (or, of scores without folds, where
        ``ci_low`` is). Neuroids where only one side passes in enough bins are won by default: they are named so and
        get no p; where none does there is nothing to test.
    min_bins : int
        How many bins are enough, at most as many as there are. Without `validation` it is not used.
    over : {"mean", "max"}
        Test the mean difference over the bins, or the largest, in units of its own spread, against the largest of
        every resample: somewhere it is better, and which bin it is was not known before (coord ``peak``). Not with
        `validation`: the same luck would choose the bin and win there.
    fdr : {"by", "bh"}
        Adjustment over neuroids within a comparison; ``by`` holds under any dependence of neighbouring sites.
    level : float
        Coverage of the intervals.
    paper_compat : bool
        p-values of a bootstrap over time bins instead, as Subramaniam et al. 2024 had them. They are not calibrated
        (bins overlap), and are only for comparison with published counts.

    Returns
    -------
    Dataset
        Scores (metric, space, neuroid) of differences, one space a comparison, with ``p``, ``q``, ``ci_low``,
        ``ci_high`` and ``n`` events. One-sided: better. NaN where either score is NaN. The interval is of the mean
        difference. Coords ``n_bins`` and ``default_winner`` (``"better"``, ``"other"`` or empty).

    Raises
    ------
    ValueError
        The resamples were not kept, an adjusted p-value could not reach .05 with so few of them, a comparison is no
        pair, or the largest is to be taken over bins chosen on validation.

    Warns
    -----
    NeuroalignWarning
        ``few-units``: fewer than ten groups, blocks or stimuli were resampled (``resampled_units`` in the attrs);
        only large differences can then be found.

    Notes
    -----
    The widening is made for few stimuli, where fits vary. Simulated intervals of 95 % held the mean over studies in
    95 % of cases with 100 stimuli and in 99.7 % with 300: with many stimuli the test is careful, and small
    differences go unfound. Between equally good models, with overlapping bins and 150 stimuli, one-sided p at or
    below .05 came in 2 to 6 % of sites (mean and largest alike; the mean also with `validation`), under
    `paper_compat` in 26 to 37 %, which is more than half of the sites in either direction.

    Of few films that are held out whole, and in which models see more or less well, p at or below .05 came in 2 to
    3 % of sites with three, four or six films (against their resamples alone: 10 to 21 %), in 4.6 % with ten (6.7 %)
    and 3.5 % with twenty; p at or below .0034 in .03 to .1 % with up to six films (4 to 16 %) and .5 % with ten. Each
    is of 1,000 studies of 20 sites in both directions (seeds 0 to 999). The largest over 20 bins: 3 % with four films
    (44 %; 300 studies). A difference that resamples alone find, at .05, in 14.0 % of sites of 150 stimuli is found in
    13.6 %; of four films they find one in 45 %, and this test in 14 %.

    Examples
    --------
    ``na.site_tests(scores, {"trained > random": ("clip:nested:image", "clip@random:nested:image")})``
    """
    check_option("fdr", fdr, ("by", "bh"))
    check_option("over", over, ("mean", "max"))
    if "bootstrap" not in scores or "neuroid" not in scores.dims:
        raise ValueError("scores: no resampled scores of neuroids. Make them by na.encode(..., n_bootstraps=1000, "
                         "keep=['bootstrap']).")
    if (over == "max" or paper_compat) and "time_bin" not in scores.dims:
        raise ValueError(f"scores: no time bins, which {'paper_compat' if paper_compat else 'over=max'!r} needs.")
    if over == "max" and validation is not None:
        raise ValueError("over='max': the largest over bins that were chosen on validation favours a side that "
                         "happened to do well there (8 to 13 % false positives at .05 where few bins pass). Take "
                         "over='mean', or name bins that other data chose: bins=[...].")
    _check_comparisons(comparisons, scores)
    metric = str(scores["metric"].values[0]) if metric is None else metric
    n_resamples, n_sites = scores.sizes["resample"], scores.sizes["neuroid"]
    smallest = 1 / (1 + (SECOND_ORDER if paper_compat else n_resamples))
    if adjust(np.full(n_sites, smallest), method=fdr).min() > 0.05:
        raise ValueError(f"scores: with {n_resamples} resamples p is at least {smallest:.2g}, and no q of {n_sites} "
                         f"sites can reach .05 ({fdr}). Ask for more: n_bootstraps={_enough(n_sites, fdr)}.")
    allowed = _allowed_bins(scores, bins)
    about, tested = results.attrs_of(scores), []
    units = about.get("resampled_units")
    with collect_warnings() as said:
        if paper_compat:
            warn_user(f"site tests {NOT_CALIBRATED}", "not-calibrated", count=len(comparisons))
        else:
            warn_few_units("site tests", units)
        for pair in comparisons.values():
            used, winner = _common_bins(scores, validation, pair, allowed, min_bins)
            tested.append({"n_bins": used.sum(1), "default_winner": winner,
                           **_test(scores, metric, pair, used, over, level, paper_compat, units)})
    names = ("score", "p", "q", "ci_low", "ci_high")
    for one in tested:
        one["p"] = np.where(one["default_winner"] == "", one["p"], np.nan)
        one["q"] = adjust(one["p"], method=fdr)
    dims = ("metric", "space", "neuroid")
    coords = {k: v for k, v in scores.coords.items() if v.dims == ("neuroid",)}
    coords |= {"metric": [metric], "space": list(comparisons)}
    coords |= {k: (dims[1:], np.array([one[k] for one in tested])) for k in ("n_bins", "default_winner", "peak")
               if k in tested[0]}
    variables = {k: (dims, np.array([one[k] for one in tested])[None]) for k in names}
    events = scores["n"].max([d for d in scores["n"].dims if d != "neuroid"]) if "n" in scores else None
    if events is not None:
        variables["n"] = ("neuroid", events.values)
    sides = {k: [one if isinstance(one, str) else ", ".join(one) for one in pair] for k, pair in comparisons.items()}
    attrs = {"analysis": "site_tests", "comparisons": sides, "fdr": fdr,
             "interval": about.get("interval"), "resampled_units": units, "smallest_p": smallest, "level": level,
             "widening": _widening(about), "over": over, "paper_compat": NOT_CALIBRATED if paper_compat else None,
             "warnings": [*about.get("warnings", []), *said],
             "n_bins": int(allowed.sum()) if "time_bin" in scores.dims else None,
             "bins": None if validation is None else f"either side passes on validation, at least {min_bins}",
             "n_events": None if events is None else int(events.max()),
             "folds": about.get("folds"), "fingerprints": about.get("fingerprints")}
    return results.make(variables, coords, attrs)


def paired_differences(scores: xr.Dataset, metric: str, pair, weights: np.ndarray | None = None):
    """Return the difference between spaces, and by how much resamples deviate from it, widened for k folds.

    Parameters
    ----------
    scores : Dataset
        With resampled scores.
    metric : str
    pair : (space, space)
        Or lists of spaces, see `site_tests`.
    weights : array of shape (n_sites, n_bins), optional
        Of the bins in a mean over them; NaN where nothing is to be averaged.

    Returns
    -------
    gain : array of shape (n_pairs, n_sites[, n_bins])
        Without time bins, n_bins is 1.
    deviation : array of shape (n_pairs, n_resamples, n_sites[, n_bins])
    """
    better, other = _sides(scores, pair)
    taken = {}
    for space in {*better, *other}:
        one = scores[["score", "bootstrap"]].sel(metric=metric, space=space)
        one = one if "time_bin" in one.dims else one.expand_dims("time_bin", -1)
        values = [one[k].transpose(..., "neuroid", "time_bin").values for k in ("score", "bootstrap")]
        taken[space] = values if weights is None else [_average(v, weights) for v in values]
    gain, drawn = (np.stack([taken[a][k] - taken[b][k] for a, b in zip(better, other)]) for k in (0, 1))
    return gain, _widening(results.attrs_of(scores)) * (drawn - gain[:, None].astype(drawn.dtype))


def _allowed_bins(scores, bins) -> np.ndarray:
    """Which time bins may be used; one if there are none."""
    if "time_bin" not in scores.dims:
        return np.ones(1, bool)
    times = scores["time_bin"].values
    if bins is None:
        return np.ones(len(times), bool)
    unknown = [b for b in bins if not np.isclose(times, b).any()]
    if unknown or not len(bins):
        raise ValueError(f"bins: got {list_ids(unknown) if unknown else 'none'}, expected some of the time bins "
                         f"{times.min():g} to {times.max():g} s.")
    return np.array([np.isclose(bins, t).any() for t in times])


def _common_bins(scores, validation, pair, allowed, min_bins) -> tuple[np.ndarray, np.ndarray]:
    """Return the bins (n_sites, n_bins) that both sides are compared on, and who wins each site by default."""
    n_sites = scores.sizes["neuroid"]
    if validation is None:
        return np.broadcast_to(allowed, (n_sites, len(allowed))), np.full(n_sites, "", dtype="U6")
    passed = [np.any([_passes(scores, validation, s) & allowed for s in side], 0) for side in _sides(scores, pair)]
    least = min(min_bins, int(allowed.sum()))
    enough = [one.sum(1) >= least for one in passed]
    winner = np.where(enough[0] & ~enough[1], "better", np.where(enough[1] & ~enough[0], "other", ""))
    return (passed[0] | passed[1]) & (enough[0] | enough[1])[:, None], winner


def _passes(scores, validation, space) -> np.ndarray:
    """Whether a space predicts, in the training rows of every fold, each neuroid and bin."""
    kept = next((k for k in ("fold_score", "ci_low") if k in validation), None)
    if kept is None or space not in validation.indexes["space"]:
        raise ValueError(f"validation: no validation scores of {space!r}. Make them by "
                         "na.alignment.validation_scores, with the arguments of the encoding.")
    one = validation[kept].isel(metric=0).sel(space=space)
    own = {d: scores[d].values for d in ("neuroid", "time_bin") if d in scores.dims}
    if any(d not in one.dims or not np.array_equal(one[d].values, v) for d, v in own.items()):
        raise ValueError("validation: the neuroids or time bins are not those of the scores. Make both from the same "
                         "responses.")
    passes = (one > 0).all([d for d in one.dims if d == "fold"]).transpose(*own).values
    return passes.reshape(len(own["neuroid"]), -1)


def as_of_many(z: np.ndarray, units: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the z of many units that has the p which z, against resamples of so few, has of t; and that p.

    Parameters
    ----------
    z : array
        Differences in units of the spread of resamples.
    units : int or None
        What was resampled; None: unknown, z is taken as it is.

    Examples
    --------
    >>> [as_of_many(np.array(3.0), n)[0].round(2).item() for n in (4, 10, 100)]
    [1.75, 2.34, 2.91]
    """
    from scipy.stats import norm
    from scipy.stats import t as student

    if units is None:
        return z, norm.sf(z)
    p = student.sf(z * np.sqrt((units - 1) / units), units - 1)
    return norm.isf(p), p


def warn_few_units(what: str, units: int | None) -> None:
    """Warn where fewer than ten units were resampled."""
    if units is not None and units < FEW_UNITS:
        warn_user(f"{what} of {units} resampled units (groups, blocks or stimuli that go together), expected at least "
                  f"{FEW_UNITS}: so few can show large differences alone, and only if they are nearly normal. Fold and "
                  "resample by smaller groups if the data have independent ones, or record more.", "few-units",
                  count=units)


def _test(scores, metric, pair, used, over, level, paper_compat, units) -> dict:
    """Return the mean difference and its interval, and p of the mean or of the largest."""
    weights = used / np.where(used.any(1), used.sum(1), np.nan)[:, None]
    gain, deviation = paired_differences(scores, metric, pair, weights)
    mean = gain.mean(0)
    moved = deviation.mean(0)
    low, high = mean + (expanded_interval(moved, units, level) if units else percentile_interval(moved, level=level))
    found = {"score": mean, "ci_low": low, "ci_high": high}
    if paper_compat:
        return found | {"p": _second_order_p(scores, metric, pair, used)}
    if over == "max":
        gain, deviation = paired_differences(scores, metric, pair)
    else:  # one bin: the mean
        gain, deviation, used = gain[..., None], deviation[..., None], True
    p, peak = _resampled_p(gain, deviation, used, units)
    if over == "max":
        found["peak"] = np.where(np.isnan(p).any(0), np.nan, scores["time_bin"].values[peak])
    return found | {"p": conjunction_p(p)}


def _resampled_p(gain, deviation, used, units) -> tuple[np.ndarray, np.ndarray]:
    """p of the largest difference over bins (last axis), in units of its spread, and the bin where it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing but NaN: so is the spread
        spread = np.nanstd(deviation, 1)
    # Where nothing varies, both sides are the same: a difference of 0 that every resample reaches.
    spread = np.where(spread == 0, 1, spread)
    z, moved = (np.where(used, x / s, -np.inf) for x, s in ((gain, spread), (deviation, spread[:, None])))
    top = z.max(-1)
    needed, of_t = as_of_many(top, units)
    p = (1 + at_least(moved.max(-1), needed[:, None]).sum(1)) / (1 + deviation.shape[1])
    if units is not None and units < FEW_UNITS:
        p = np.maximum(p, of_t)
    return np.where(np.isfinite(top), p, np.nan), z.mean(0).argmax(-1)


def _second_order_p(scores, metric, pair, used) -> np.ndarray:
    """p of a bootstrap of the differences over bins, as if bins were independent."""
    gain = paired_differences(scores, metric, pair)[0].mean(0)
    rng, p = child_rng(0, "second-order bootstrap"), np.full(len(gain), np.nan)
    for site, (own, bins) in enumerate(zip(gain, used)):
        if bins.any() and np.isfinite(own[bins]).all():
            drawn = rng.choice(own[bins], (SECOND_ORDER, bins.sum())).mean(1)
            p[site] = (1 + (drawn <= 0).sum()) / (1 + SECOND_ORDER)
    return p


def _check_comparisons(comparisons, scores) -> None:
    """Raise where comparisons are not named pairs: a space, or a list of them, against another."""
    some = [str(s) for s in scores["space"].values[:2]] * 2
    example = f"such as {{'a > b': ({some[0]!r}, {some[1]!r})}}: the space that is to be better, and the other"
    if not isinstance(comparisons, Mapping) or not comparisons:
        raise ValueError(f"comparisons: got {comparisons!r}, expected a dict of named pairs, {example}.")
    for name, pair in comparisons.items():
        if isinstance(pair, str) or not isinstance(pair, Sequence) or len(pair) != 2:
            raise ValueError(f"comparisons: got {pair!r} under {name!r}, expected a pair of spaces, {example}.")


def _sides(scores, pair) -> tuple[list[str], list[str]]:
    better, other = ([side] if isinstance(side, str) else list(side) for side in pair)
    for name in (*better, *other):
        if name not in scores.indexes["space"]:
            raise KeyError(f"comparisons: no space {name!r}; found {list_ids(scores['space'].values)}.")
    n = max(len(better), len(other))
    if not {len(better), len(other)} <= {1, n} or not better or not other:
        raise ValueError(f"comparisons: {len(better)} and {len(other)} spaces cannot be paired. Give as many on both "
                         "sides, or one on either.")
    return better * (n // len(better)), other * (n // len(other))


def _average(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Average over bins (last axis); bins of no weight may be NaN."""
    return np.einsum("...b,...b->...", np.where(weights == 0, 0, values), weights)


def _widening(about: Mapping) -> float:
    folds = about["folds"]
    return float(np.sqrt(1 + np.sum(folds["n_test"]) / np.mean(folds["n_train"])))


def _enough(n_sites: int, fdr: str) -> int:
    """Return how many resamples let the q of all sites reach .05."""
    harmonic = (1 / np.arange(1, n_sites + 1)).sum() if fdr == "by" else 1.0
    return int(np.ceil(harmonic / 0.05))
