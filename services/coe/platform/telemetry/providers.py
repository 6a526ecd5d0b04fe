"""Sets up a process's trace and metric providers and the configured exporters."""

from dataclasses import dataclass
from importlib import metadata
from uuid import uuid4

from opentelemetry import metrics, trace
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from prometheus_client import start_http_server

from coe.platform.errors import Unavailable
from coe.platform.settings import CoreSettings, GrpcSettings
from coe.platform.telemetry import spans
from coe.platform.telemetry.file_exporter import FileSpanExporter
from coe.platform.telemetry.readers import OtlpReader, PrometheusReader
from coe.platform.telemetry.sampling import RateLimited, never


@dataclass(frozen=True)
class Telemetry:
    """Owns the process's exporters. `shutdown` flushes them, within a time limit."""

    traces: TracerProvider
    meters: MeterProvider

    def shutdown(self) -> None:
        self.traces.force_flush(timeout_millis=3000)
        self.traces.shutdown()
        self.meters.shutdown(timeout_millis=3000)


def configure(service: str, settings: CoreSettings) -> Telemetry:
    """Installs the providers of this process. Call it once. Raises Unavailable if an exporter cannot be set up.

    Spans are recorded only if they are exported. Trace ids are generated and propagated in any case, so that the logs
    of all processes can be correlated. A caller's sampling decision is respected.
    """
    # Unique per process: a collector would merge two workers with the same id into one, whose counters jump.
    instance = f"{settings.node}/{uuid4().hex[:8]}"
    resource = Resource.create(
        {
            "service.name": f"coe-{service}",
            "service.namespace": "coe",
            "service.instance.id": instance,
            "service.version": metadata.version("composition-of-experts"),
        }
    )
    exports = bool(settings.otlp_endpoint or settings.trace_file)
    # Sampling is decided before a span is created: see spans.
    spans.record(RateLimited(settings.traces_per_s).take if exports else never)
    traces = TracerProvider(resource=resource, shutdown_on_exit=False)
    if settings.otlp_endpoint:
        insecure = not settings.otlp_endpoint.startswith("https:")
        exporter = OTLPSpanExporter(endpoint=settings.otlp_endpoint, insecure=insecure)
        traces.add_span_processor(BatchSpanProcessor(exporter))
    if settings.trace_file:
        try:
            traces.add_span_processor(SimpleSpanProcessor(FileSpanExporter(settings.trace_file)))
        except OSError as error:
            raise Unavailable(f"COE_TRACE_FILE: {settings.trace_file}: {error.strerror}") from None
    meters = MeterProvider(metric_readers=_readers(settings), resource=resource, shutdown_on_exit=False)
    trace.set_tracer_provider(traces)
    metrics.set_meter_provider(meters)
    return Telemetry(traces, meters)


def _readers(settings: CoreSettings) -> list[MetricReader]:
    readers: list[MetricReader] = []
    if settings.otlp_endpoint:
        insecure = not settings.otlp_endpoint.startswith("https:")
        readers.append(OtlpReader(OTLPMetricExporter(endpoint=settings.otlp_endpoint, insecure=insecure)))
    if settings.metrics_port:
        readers.append(PrometheusReader())
        # The address the service listens on, by default loopback.
        host, port = GrpcSettings().host, settings.metrics_port
        try:
            start_http_server(port, addr=host)
        except OSError as error:
            raise Unavailable(f"COE_METRICS_PORT: {host}:{port} can't be bound: {error.strerror}") from None
    return readers
