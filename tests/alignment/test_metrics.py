"""The registry says everything that changes a number."""

import pytest

from neuroalign.alignment import METRICS, get_metric, list_metrics
from neuroalign.alignment.metrics import resolve_metrics


def test_every_metric_states_its_aggregation_reference_and_direction():
    for name, metric in METRICS.items():
        assert metric.name == name and metric.aggregation and metric.reference
        assert metric.direction in ("higher", "lower")
        assert metric.kind in ("encoding", "stimulus", "rdm", "features", "partition", "judgement", "matching",
                               "subjects", "linking")


def test_aggregation_and_estimator_are_part_of_the_name():
    assert {"r.pooled", "r.foldmean", "r2.pooled", "r2.foldmean", "rsa.spearman", "rsa.spearman.group",
            "cka.debiased", "cka.biased"} <= set(METRICS)
    assert "cka" not in METRICS and "rsa" not in METRICS
    texts = [m.aggregation for m in METRICS.values()]
    assert len(set(texts)) == len(texts)


def test_group_metrics_are_not_per_subject():
    for metric in list_metrics("rdm"):
        assert metric.per_subject != metric.name.endswith(".group")


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match=r"metric: got 'rsa.spearmann'.*Did you mean 'rsa.spearman'"):
        get_metric("rsa.spearmann")


def test_an_unknown_name_is_answered_with_what_the_call_takes():
    with pytest.raises(ValueError, match=r"Did you mean 'cka.debiased' or 'cka.biased'") as raised:
        resolve_metrics("cka", ("rdm", "features"))
    assert "rsa.spearman" in str(raised.value) and "r.pooled" not in str(raised.value)


def test_a_metric_of_another_call_names_that_call():
    with pytest.raises(ValueError, match=r"'r.pooled' belongs to `encode`; expected one of rsa.spearman"):
        resolve_metrics(["rsa.spearman", "r.pooled"], ("rdm", "features"))
    with pytest.raises(ValueError, match=r"'rsa.spearman' belongs to `compare`"):
        resolve_metrics("rsa.spearman", ("encoding",))
    with pytest.raises(ValueError, match=r"'rsa.r2' belongs to `partition_rsa`"):
        resolve_metrics("rsa.r2", ("rdm",))


def test_names_come_once_and_in_order():
    assert [m.name for m in resolve_metrics(["cka.biased", "rsa.pearson", "cka.biased"], ("rdm", "features"))] == [
        "cka.biased", "rsa.pearson"]
    with pytest.raises(ValueError, match="no name given"):
        resolve_metrics([], ("rdm",))
