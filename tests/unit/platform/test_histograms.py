"""Our histograms say what the SDK's would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, Metric, MetricsData

from coe.platform.telemetry import registry
from coe.platform.telemetry.histograms import Histogram
from coe.platform.telemetry.readers import with_histograms

BOUNDS = (0.1, 1.0, 10.0)
values = st.one_of(st.sampled_from(BOUNDS), st.floats(0, 20))


def point(metric: Metric | None) -> HistogramDataPoint:
    assert metric is not None
    (found,) = metric.data.data_points
    assert isinstance(found, HistogramDataPoint)
    return found


@given(st.lists(values, min_size=1))
def test_the_same_values_make_the_same_point(amounts: list[float]) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    theirs = provider.get_meter("t").create_histogram("h", explicit_bucket_boundaries_advisory=list(BOUNDS))
    ours = Histogram("h", "s", "", BOUNDS)
    for amount in amounts:
        theirs.record(amount, {"a": "b"})
        ours.record(amount, {"a": "b"})
    data = reader.get_metrics_data()
    assert data is not None
    expected, found = point(data.resource_metrics[0].scope_metrics[0].metrics[0]), point(ours.collect(now_ns=1))
    assert dict(found.attributes or {}) == dict(expected.attributes or {})
    assert tuple(found.bucket_counts) == tuple(expected.bucket_counts)
    assert (found.count, found.min, found.max) == (expected.count, expected.min, expected.max)
    assert abs(found.sum - expected.sum) < 1e-9 * max(1.0, abs(expected.sum))
    provider.shutdown()


def test_attributes_make_series() -> None:
    histogram = Histogram("h", "s", "", BOUNDS)
    assert histogram.collect(now_ns=1) is None
    histogram.record(1)
    histogram.record(2, {"a": "x"})
    metric = histogram.collect(now_ns=1)
    assert metric is not None
    assert [dict(one.attributes or {}) for one in metric.data.data_points] == [{}, {"a": "x"}]


@pytest.mark.parametrize("scopes", [("t",), (registry.SCOPE,), ("t", registry.SCOPE)])
def test_a_reader_brings_them_along_and_otlp_loses_none(scopes: tuple[str, ...]) -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for scope in scopes:
        provider.get_meter(scope).create_counter(f"c.{scope}").add(1)
    registry.histogram("coe.mapper.duration").record(0.002)
    data = reader.get_metrics_data()
    assert data is not None
    sent = encode_metrics(with_histograms(data))
    names = [one.name for every in sent.resource_metrics for scope in every.scope_metrics for one in scope.metrics]
    assert {*(f"c.{scope}" for scope in scopes), "coe.mapper.duration"} <= set(names)
    assert len(names) == len(set(names))
    provider.shutdown()


def test_nothing_collected_stays_nothing() -> None:
    assert with_histograms(MetricsData([])).resource_metrics == []
