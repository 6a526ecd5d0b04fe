"""The SDK's metric readers, extended to include our histograms."""

import time
from typing import Any

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import (
    MetricsData,
    PeriodicExportingMetricReader,
    ResourceMetrics,
    ScopeMetrics,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from coe.platform.telemetry import registry

_SCOPE = InstrumentationScope(registry.SCOPE)


class OtlpReader(PeriodicExportingMetricReader):
    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(with_histograms(metrics_data), timeout_millis, **kwargs)


class PrometheusReader(PrometheusMetricReader):
    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(with_histograms(metrics_data), timeout_millis, **kwargs)


def with_histograms(data: MetricsData) -> MetricsData:
    """Adds our histograms to the collected data.

    They go into the existing resource and scope, because the OTLP encoder keeps only the last of equal ones.
    """
    now_ns = time.time_ns()
    found = [metric for one in registry.histograms() if (metric := one.collect(now_ns)) is not None]
    if not found or not data.resource_metrics:
        return data
    first, *others = data.resource_metrics
    ours = next((scope for scope in first.scope_metrics if scope.scope.name == registry.SCOPE), None)
    metrics = ScopeMetrics(ours.scope if ours else _SCOPE, [*(ours.metrics if ours else ()), *found], "")
    scopes = [metrics, *(scope for scope in first.scope_metrics if scope is not ours)]
    return MetricsData([ResourceMetrics(first.resource, scopes, first.schema_url), *others])
