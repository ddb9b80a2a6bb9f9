"""The one registry of metrics: what each name means, which direction is better, where it comes from.

It drives `compare` and `encode`, the command line, the report and the figures. A name says everything that
changes the number: the estimator (biased and debiased never share a name) and the aggregation (per subject
or on the group mean).
"""

from collections.abc import Iterable
from dataclasses import dataclass

from neuroalign.errors import suggest

__all__ = ["METRICS", "Metric", "get_metric", "list_metrics", "resolve_metrics"]

CALLS = {"encoding": "encode", "stimulus": "encode_stimuli", "partition": "partition_rsa",
         "judgement": "two_afc or odd_one_out", "matching": "match_spaces", "subjects": "isc",
         "linking": "link_pooled"}


@dataclass(frozen=True)
class Metric:
    """One named metric.

    Attributes
    ----------
    name : str
    kind : {"encoding", "stimulus", "rdm", "features", "partition", "judgement", "matching", "subjects", "linking"}
        What it is computed from: out-of-fold predictions of a neuroid (`encode`), of the pattern of a stimulus
        (`encode_stimuli`), dissimilarities or two arrays of features (`compare`), two models at once
        (`partition_rsa`), choices between stimuli (`two_afc`, `odd_one_out`), held-out
        pairs (`match_spaces`), the responses of subjects alone (`isc`), labels (`link_pooled`).
    method : str
        The statistic, without the aggregation: for example ``"spearman"``.
    aggregation : str
        What the number is a mean over, in words that a report can print.
    direction : {"higher", "lower"}
        Which way is better.
    symmetric : bool
        Whether swapping the two sides leaves it unchanged.
    needs_pairs : bool
        Whether rows of the two sides must be the same stimuli.
    per_subject : bool
        Whether it is the mean over the subjects of a target; only then may the ceiling of single subjects
        stand beside it.
    partial : bool
        Whether it controls for further RDMs.
    chance : float
        Value of unrelated data; NaN where it depends on the sizes.
    null : {"labels", "sides", "clouds"}
        What makes the null: stimulus labels of the model permuted (the two are unrelated), sides of single stimuli
        swapped (the two have one distribution: p says that they differ), or the model replaced by Gaussian clouds of
        its covariance (it is nearer than its spectrum alone would be).
    reference : str
    """

    name: str
    kind: str
    method: str
    aggregation: str
    reference: str
    direction: str = "higher"
    symmetric: bool = True
    needs_pairs: bool = True
    per_subject: bool = False
    partial: bool = False
    chance: float = 0.0
    null: str = "labels"

    @property
    def tail(self) -> str:
        """Which side of the null p counts: ``"greater"`` or ``"less"``."""
        return "less" if self.direction == "lower" and self.null != "sides" else "greater"


_SUBJECTS = "mean over the subjects of a target of the {} with that subject's RDM"
_GROUP = "{} with the RDM averaged over the subjects of a target"
_PARTIAL = " after regressing the ranks of the control RDMs out of both"
_RSA = "Kriegeskorte, Mur & Bandettini 2008, Front Syst Neurosci 2:4"
_NILI = "Nili et al. 2014, PLoS Comput Biol 10:e1003553"
_SCHUETT = "Schütt et al. 2023, eLife 12:e82566"
_DIEDRICHSEN = "Diedrichsen et al. 2021, Neurons Behav Data Anal Theory 5(3)"
_CKA = "Kornblith et al. 2019, ICML"
_HSIC = "Song et al. 2012, JMLR 13:1393 (unbiased HSIC); Kornblith et al. 2019, ICML"
_SVCCA = "Raghu et al. 2017, NeurIPS"
_PWCCA = "Morcos, Raghu & Bengio 2018, NeurIPS"
_SHAPE = "Williams et al. 2021, NeurIPS"
_PREDICT = "Yamins et al. 2014, PNAS 111:8619"
_HUH = "Huh et al. 2024, ICML"
_MATCHING = "Khosla & Williams 2024, UniReps"
_GROMOV = "Peyré, Cuturi & Solomon 2016, ICML"
_CCA = "Hotelling 1936, Biometrika 28:321; Vinod 1976, J Econometrics 4:147 (ridge)"


def _encoding_metrics() -> list[Metric]:
    pooled, mean = "out-of-fold predictions of all folds pooled", "computed within each fold, mean over folds"
    pearson, share = "Naselaris et al. 2011, NeuroImage 56:400", "coefficient of determination, 1 - SSE / SST"
    return [
        Metric("r.pooled", "encoding", "r", f"Pearson correlation, {pooled}", pearson, symmetric=False),
        Metric("r.foldmean", "encoding", "r", f"Pearson correlation, {mean}", pearson, symmetric=False),
        Metric("r2.pooled", "encoding", "r2", f"{share}, {pooled}", pearson, symmetric=False),
        Metric("r2.foldmean", "encoding", "r2", f"{share}, {mean}", pearson, symmetric=False),
    ]


def _rdm_metrics() -> list[Metric]:
    found = []
    words = {"spearman": "Spearman correlation (average ranks for ties)", "pearson": "Pearson correlation",
             "cosine": "cosine similarity",
             "tau_a": "Kendall's tau-a (ties count as neither concordant nor discordant)",
             "rho_a": "Spearman correlation, expected under random breaking of ties",
             "cosine.whitened": "whitened cosine similarity (pairs that share a stimulus are correlated)",
             "pearson.whitened": "whitened Pearson correlation (pairs that share a stimulus are correlated)"}
    sources = {"spearman": f"{_RSA}; {_NILI}", "tau_a": _NILI, "rho_a": _SCHUETT, "cosine.whitened": _DIEDRICHSEN,
               "pearson.whitened": _DIEDRICHSEN}
    for method, word in words.items():
        reference = sources.get(method, _RSA)
        chance = float("nan") if method.startswith("cosine") else 0.0
        found.append(Metric(f"rsa.{method}", "rdm", method, _SUBJECTS.format(word), reference,
                            per_subject=True, chance=chance))
        found.append(Metric(f"rsa.{method}.group", "rdm", method, _GROUP.format(word), reference, chance=chance))
    found.append(Metric("rsa.spearman.partial", "rdm", "spearman", _SUBJECTS.format(words["spearman"]) + _PARTIAL,
                        _RSA, per_subject=True, partial=True))
    found.append(Metric("rsa.spearman.partial.group", "rdm", "spearman",
                        _GROUP.format(words["spearman"]) + _PARTIAL, _RSA, partial=True))
    found.append(Metric("rsa.r2", "partition", "spearman", "R² of the ranks of a subject's RDM on those of the model "
                        "RDMs, mean over the subjects of a target", "Groen et al. 2018, eLife 7:e32962",
                        symmetric=False, per_subject=True))
    return found


def _feature_metrics() -> list[Metric]:
    over = "one value for each target; mean over subjects where the responses have several"
    return [
        Metric("cka.debiased", "features", "debiased", f"linear CKA by the unbiased HSIC; {over}", _HSIC),
        Metric("cka.biased", "features", "biased", f"linear CKA by the biased HSIC, inflated where stimuli are "
               f"few against features; {over}", _CKA, chance=float("nan")),
        Metric("cka.minibatch", "features", "cka.minibatch", "linear CKA by the unbiased HSIC of random batches of at "
               f"most 256 stimuli, averaged; {over}", "Nguyen, Raghu & Kornblith 2021, ICLR"),
        Metric("cka.rbf", "features", "rbf", "CKA of Gaussian kernels by the unbiased HSIC, width: the median distance "
               f"of each side; {over}", _CKA),
        *_cca_metrics(over),
        *_shape_metrics(over),
        *_neighbour_metrics(over),
        *_unit_metrics(over),
        *_transport_metrics(over),
    ]


def _cca_metrics(over: str) -> list[Metric]:
    inflated, unknown = "inflated where stimuli are few", float("nan")
    weighted = f"canonical correlations weighted by the {{}} they account for, {inflated}; {over}"
    return [
        Metric("svcca", "features", "svcca", "mean canonical correlation of the components with 99 % of the variance "
               f"of each side, {inflated}; {over}", _SVCCA, chance=unknown),
        Metric("pwcca.features", "features", "pwcca.features", weighted.format("features"), _PWCCA, symmetric=False,
               chance=unknown),
        Metric("pwcca.targets", "features", "pwcca.targets", weighted.format("targets"), _PWCCA, symmetric=False,
               chance=unknown),
        Metric("cca.heldout", "features", "cca.heldout", "mean of the first 10 canonical correlations (or as many as "
               f"the ranks allow) of held-out stimuli, 5 folds, covariances shrunk by 0.1; {over}", _CCA),
        Metric("cca.deep", "features", "cca.deep", "mean of the first 10 canonical correlations of held-out stimuli, "
               "5 folds, after a small network for each side, trained in each fold and anew for each permutation; "
               f"{over}", "Andrew et al. 2013, ICML"),
    ]


def _shape_metrics(over: str) -> list[Metric]:
    unknown = float("nan")
    angle = f"angle in radians between the centred spaces after the best rotation{{}}; {over}"
    found = [Metric("shape.procrustes", "features", "procrustes", "Euclidean distance of the centred spaces of unit "
                    f"norm after the best rotation; {over}", _SHAPE, direction="lower", chance=unknown)]
    for name, word in (("angular", ""), ("angular.half", ", both half whitened (alpha 0.5)"),
                       ("angular.whitened", ", both whitened (alpha 0)")):
        found.append(Metric(f"shape.{name}", "features", name, angle.format(word), _SHAPE, direction="lower",
                            chance=unknown))
    share = "cross-validated R² of ridge from {}, over all features of the predicted side; " + over
    for name, word in (("forward", "the features to the targets"), ("reverse", "the targets to the features")):
        found.append(Metric(f"predictivity.{name}", "features", f"predictivity.{name}", share.format(word), _PREDICT,
                            symmetric=False))
    return found


def _neighbour_metrics(over: str) -> list[Metric]:
    unknown = float("nan")
    cycle = f"share of stimuli reached again by a step to one of 10 neighbours (cosine) in the {{}}; {over}"
    return [
        Metric("knn.mutual", "features", "knn.mutual", "mean share of the 10 nearest neighbours (cosine) that both "
               f"sides have in common; {over}", _HUH, chance=unknown),
        Metric("knn.cycle.forward", "features", "knn.cycle.forward",
               cycle.format("features and one in the targets"), _HUH, symmetric=False, chance=unknown),
        Metric("knn.cycle.reverse", "features", "knn.cycle.reverse",
               cycle.format("targets and one in the features"), _HUH, symmetric=False, chance=unknown),
        Metric("cknna", "features", "cknna", "debiased CKA of cosine kernels, over pairs among the 10 nearest "
               f"neighbours on both sides; {over}", f"{_HUH}, released code", symmetric=False, chance=unknown),
    ]


def _unit_metrics(over: str) -> list[Metric]:
    found = f"mean correlation in held-out stimuli of units matched {{}} in the training stimuli, 5 folds; {over}"
    return [
        Metric("units.one_to_one", "features", "units.one_to_one", found.format("one to one"), _MATCHING),
        Metric("units.soft", "features", "units.soft", found.format("by transport (entropy 0.01)"), _MATCHING),
    ]


def _transport_metrics(over: str) -> list[Metric]:
    unknown = float("nan")
    return [
        Metric("bures", "features", "bures", "Wasserstein distance of the Gaussians with the mean and covariance "
               f"of each side, which must share their features; {over}",
               "Dowson & Landau 1982, J Multivariate Anal 12:450", direction="lower", needs_pairs=False,
               chance=unknown, null="sides"),
        Metric("wasserstein.sliced", "features", "wasserstein.sliced", "root mean square over 200 random directions "
               f"of the 2-Wasserstein distance of the two sides, which must share their features; {over}",
               "Bonneel et al. 2015, J Math Imaging Vis 51:22", direction="lower", needs_pairs=False, chance=unknown,
               null="sides"),
        Metric("gw.distance", "features", "gw.distance", "Gromov-Wasserstein distance (entropy 0.01) of the distances "
               f"within each side, of mean 1; {over}", _GROMOV, direction="lower", needs_pairs=False, chance=unknown,
               null="clouds"),
        Metric("gw.matching", "features", "gw.matching", "share of stimuli of the model that the Gromov-Wasserstein "
               f"coupling, which sees no labels, sends to themselves; {over}", _GROMOV, symmetric=False,
               chance=unknown),
    ]


def _stimulus_metrics() -> list[Metric]:
    after = "of the held-out pattern over neuroids, after the training mean was taken off each neuroid"
    source = "Mitchell et al. 2008, Science 320:1191"
    return [
        Metric("r.stimulus", "stimulus", "r", f"Pearson correlation {after}; mean over stimuli", source,
               symmetric=False),
        Metric("2v2", "stimulus", "2v2", f"share of the pairs of stimuli told apart by cosine distance {after}; ties "
               "are a half", source, symmetric=False, chance=0.5),
    ]


def _judgement_metrics() -> list[Metric]:
    share = "share of the answers to {} that the geometry gives too, a tie counted as the share of the tied options"
    return [
        Metric("choice.2afc", "judgement", "2afc", share.format("two-alternative trials"), "Zhang et al. 2018, CVPR",
               symmetric=False, chance=0.5),
        Metric("choice.odd", "judgement", "odd", share.format("odd-one-out trials of three"),
               "Hebart et al. 2020, Nat Hum Behav 4:1173", symmetric=False, chance=1 / 3),
    ]


def _matching_metrics() -> list[Metric]:
    words = {"affine": "cosine after an affine map", "procrustes": "cosine after a rotation",
             "local_cka": "CKA of the anchors and the two rows"}
    asks = {"assignment": "share of held-out rows that the best one-to-one assignment pairs rightly",
            **{f"top{k}": f"share of held-out rows whose partner is among the {k} most similar, mean of both directions"
               for k in (1, 5, 10)}}
    return [
        Metric(f"match.{method}.{ask}", "matching", method, f"{said}; {word}, fitted on anchors; mean over draws of "
               "anchors and queries", "Hadgi et al. 2025, CVPR", symmetric=ask == "assignment" and method != "affine",
               chance=float("nan"))
        for method, word in words.items() for ask, said in asks.items()
    ]


def _linking_metrics() -> list[Metric]:
    return [
        Metric("link.top1", "linking", "top1", "share of stimuli whose nearest other stimulus (cosine) has their label",
               "Cover & Hart 1967, IEEE Trans Inf Theory 13:21", symmetric=False, chance=float("nan")),
        Metric("link.ari", "linking", "ari", "adjusted Rand index of labels and k-means clusters of unit rows, as many "
               "as labels", "Hubert & Arabie 1985, J Classif 2:193", symmetric=False),
    ]


def _subject_metrics() -> list[Metric]:
    return [Metric("isc.loo", "subjects", "isc", "Pearson correlation of a subject with the mean of the others, mean "
                   "over subjects", "Hasson et al. 2004, Science 303:1634; Nastase et al. 2019, Soc Cogn Affect "
                   "Neurosci 14:667", per_subject=True)]


METRICS: dict[str, Metric] = {
    m.name: m for m in (*_encoding_metrics(), *_stimulus_metrics(), *_rdm_metrics(), *_feature_metrics(),
                         *_judgement_metrics(), *_matching_metrics(), *_subject_metrics(), *_linking_metrics())
}


def get_metric(name: str, kinds: Iterable[str] | None = None) -> Metric:
    """Return the metric of a name.

    Raises
    ------
    ValueError
        Naming the nearest names and all known ones, or those of `kinds`.

    Examples
    --------
    >>> get_metric("rsa.spearman").per_subject, get_metric("rsa.spearman.group").per_subject
    (True, False)
    """
    if isinstance(name, Metric):
        return name
    if name not in METRICS:
        known = [m.name for m in METRICS.values() if kinds is None or m.kind in kinds]
        raise ValueError(f"metric: got {name!r}, expected one of {', '.join(known)}.{suggest(name, known)}")
    return METRICS[name]


def list_metrics(kind: str | None = None) -> list[Metric]:
    """Return all metrics, or those of a kind."""
    return [m for m in METRICS.values() if kind in (None, m.kind)]


def resolve_metrics(metric: str | Iterable[str], kinds: Iterable[str]) -> list[Metric]:
    """Return the metrics of one or several names, all of the given kinds, each once."""
    names = [metric] if isinstance(metric, (str, Metric)) else list(metric)
    if not names:
        raise ValueError("metric: no name given.")
    found = {m.name: m for m in (get_metric(name, kinds) for name in names)}
    for m in found.values():
        if m.kind not in kinds:
            allowed = [a.name for a in METRICS.values() if a.kind in kinds]
            call = CALLS.get(m.kind, "compare")
            raise ValueError(f"metric: {m.name!r} belongs to `{call}`; expected one of {', '.join(allowed)}.")
    return list(found.values())
