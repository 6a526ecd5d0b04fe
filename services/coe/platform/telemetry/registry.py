"""Every metric of the system, defined once. Code asks for instruments by name; docs/telemetry.md is made from this."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from opentelemetry import metrics

from coe.platform.telemetry import names
from coe.platform.telemetry.counters import Counter
from coe.platform.telemetry.histograms import Histogram

Kind = Literal["counter", "histogram", "gauge"]
# The instrumentation scope of all instruments.
SCOPE = "coe"

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536)
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)


@dataclass(frozen=True)
class Metric:
    """`attributes` are all that may be recorded with it. `buckets`: upper bounds of a histogram."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


_GEN_AI = (names.GEN_AI_OPERATION, names.GEN_AI_PROVIDER, names.GEN_AI_REQUEST_MODEL)
_TOPIC = (names.MESSAGING_SYSTEM, names.MESSAGING_DESTINATION)
_RPC = (names.RPC_SYSTEM, names.RPC_METHOD, names.RPC_STATUS)

METRICS = (
    Metric(
        "gen_ai.server.request.duration",
        "histogram",
        "s",
        "From submission to the terminal event",
        (*_GEN_AI, names.ERROR_TYPE),
        SECONDS,
    ),
    Metric(
        "gen_ai.server.time_to_first_token", "histogram", "s", "From submission to the first token", _GEN_AI, SECONDS
    ),
    Metric(
        "gen_ai.server.time_per_output_token",
        "histogram",
        "s",
        "Decode time per token after the first",
        _GEN_AI,
        SECONDS,
    ),
    Metric(
        "gen_ai.client.token.usage",
        "histogram",
        "{token}",
        "Tokens of prompts and answers",
        (*_GEN_AI, "gen_ai.token.type"),
        TOKENS,
    ),
    Metric(
        "coe.router.decisions",
        "counter",
        "{prompt}",
        "Prompts routed; _OTHER: to a client-supplied category unknown to the router",
        (names.COE_CATEGORY, names.COE_FALLBACK),
    ),
    Metric("coe.router.confidence", "histogram", "1", "Calibrated confidence of the best category", (), SHARES),
    Metric("coe.router.duration", "histogram", "s", "Time to classify a prompt's batch", (), SECONDS),
    Metric(
        "coe.router.duplicates",
        "counter",
        "{prompt}",
        "Prompts dropped because their request id had been submitted before",
    ),
    Metric("coe.mapper.decisions", "counter", "{prompt}", "Prompts assigned", (names.COE_EXPERT, "coe.mapper.reason")),
    Metric("coe.mapper.duration", "histogram", "s", "Time to choose the expert", (), SECONDS),
    Metric(
        "coe.prompt.errors",
        "counter",
        "{prompt}",
        "Prompts that ended with an error here; invalid_prompt includes experts requested by a client but not hosted",
        (names.ERROR_TYPE,),
    ),
    Metric(
        "coe.service.serving",
        "gauge",
        "{service}",
        "1 while the service reports itself healthy, otherwise 0, including during startup",
        (names.COE_SERVICE,),
    ),
    Metric(
        "coe.consumer.lag",
        "gauge",
        "{message}",
        "Offsets that a group has not committed, including transaction markers",
        (names.MESSAGING_DESTINATION, names.MESSAGING_GROUP),
    ),
    Metric(
        "coe.dead_letters",
        "counter",
        "{message}",
        "Messages written to the dead-letter topic",
        (names.MESSAGING_DESTINATION, names.ERROR_TYPE),
    ),
    Metric(
        "coe.queue.wait.duration",
        "histogram",
        "s",
        "From a worker accepting a prompt to its prefill, excluding loading",
        _GEN_AI,
        SECONDS,
    ),
    Metric(
        "coe.step.age",
        "gauge",
        "s",
        "Duration of the current step so far, sampled four times a second; 0 between steps",
        (names.COE_WORKER,),
    ),
    Metric("coe.queue.depth", "gauge", "{prompt}", "Prompts waiting or running", (names.COE_WORKER, names.COE_EXPERT)),
    Metric(
        "coe.expert.load.wait.duration",
        "histogram",
        "s",
        "Time waiting for a lease on an expert's weights",
        (names.COE_EXPERT, names.COE_TIER),
        SECONDS,
    ),
    Metric(
        "coe.tokens.cached",
        "counter",
        "{token}",
        "Input tokens not computed, because an earlier prompt began with the same text",
        (names.COE_EXPERT,),
    ),
    Metric("coe.tokens.guessed", "counter", "{token}", "Tokens guessed by decode steps", (names.COE_EXPERT,)),
    Metric(
        "coe.tokens.guessed.right", "counter", "{token}", "Guessed tokens that turned out right", (names.COE_EXPERT,)
    ),
    Metric("coe.expert.switch.count", "counter", "{switch}", "Batches for a different expert than the previous batch"),
    Metric("coe.cache.hit", "counter", "{lease}", "Leases on experts that were in HBM", (names.COE_EXPERT,)),
    Metric("coe.cache.miss", "counter", "{lease}", "Leases on experts that were not in HBM", (names.COE_EXPERT,)),
    Metric("coe.tier.capacity", "gauge", "By", "Capacity of a tier", (names.COE_TIER,)),
    Metric("coe.tier.used", "gauge", "By", "Bytes used in a tier", (names.COE_TIER,)),
    Metric("coe.tier.loaded", "gauge", "By", "Bytes loaded into a tier since the manager started", (names.COE_TIER,)),
    Metric(
        "coe.expert.load.duration",
        "histogram",
        "s",
        "Time to copy an expert into HBM, by source tier",
        (names.COE_TIER,),
        SECONDS,
    ),
    Metric("coe.expert.load.failures", "counter", "{load}", "Failed loads into HBM", (names.ERROR_TYPE,)),
    Metric("coe.expert.load.queue.duration", "histogram", "s", "Time waiting for room in HBM", (), SECONDS),
    Metric(
        "coe.expert.age_at_eviction", "histogram", "s", "Time from an expert's last use to its eviction", (), SECONDS
    ),
    Metric(
        "coe.tier.disk_waits", "gauge", "{operation}", "Copies and reads of weights that wait for an unresponsive disk"
    ),
    Metric("coe.tier.lru_age", "gauge", "s", "Time since the last use of the least recently used expert in HBM"),
    Metric(
        "coe.residency.published",
        "gauge",
        "{publisher}",
        "1 while Redis accepts what this worker or memory-tier manager publishes, otherwise 0",
    ),
    Metric("coe.lease.active", "gauge", "{lease}", "Leases held on experts in HBM"),
    Metric("coe.lease.waiting", "gauge", "{lease}", "Lease requests waiting for room or for weights"),
    Metric("coe.expert.eviction.count", "counter", "{expert}", "Experts evicted from HBM", ("reason",)),
    Metric(
        "messaging.client.sent.messages",
        "counter",
        "{message}",
        "Messages sent to the broker",
        _TOPIC,
    ),
    Metric(
        "messaging.client.consumed.messages",
        "counter",
        "{message}",
        "Messages delivered to a handler",
        (*_TOPIC, names.MESSAGING_GROUP),
    ),
    Metric(
        "messaging.process.duration",
        "histogram",
        "s",
        "From delivering messages to committing them; the longest of those committed together",
        (*_TOPIC, names.MESSAGING_GROUP),
        SECONDS,
    ),
    Metric(
        "http.server.request.duration",
        "histogram",
        "s",
        "HTTP requests, to the end of the response",
        (names.HTTP_METHOD, names.URL_SCHEME, names.HTTP_ROUTE, names.HTTP_STATUS, names.ERROR_TYPE),
        SECONDS,
    ),
    Metric("rpc.server.call.duration", "histogram", "s", "RPC calls served", (*_RPC, names.ERROR_TYPE), SECONDS),
    Metric("rpc.client.call.duration", "histogram", "s", "RPC calls made", (*_RPC, names.ERROR_TYPE), SECONDS),
)
BY_NAME = {metric.name: metric for metric in METRICS}
_histograms: list[Histogram] = []


@cache
def counter(name: str) -> Counter:
    """The counter of this name. KeyError: the name is not in the registry."""
    metric = _metric(name, "counter")
    made = Counter()
    metrics.get_meter(SCOPE).create_observable_counter(
        name, [made.observe], unit=metric.unit, description=metric.description
    )
    return made


@cache
def histogram(name: str) -> Histogram:
    metric = _metric(name, "histogram")
    made = Histogram(name, metric.unit, metric.description, metric.buckets)
    _histograms.append(made)
    return made


def histograms() -> tuple[Histogram, ...]:
    """Instruments that have been used."""
    return tuple(_histograms)


@cache
def gauge(name: str) -> "metrics._Gauge":
    metric = _metric(name, "gauge")
    return metrics.get_meter(SCOPE).create_gauge(name, unit=metric.unit, description=metric.description)


def _metric(name: str, kind: Kind) -> Metric:
    metric = BY_NAME[name]
    if metric.kind != kind:
        raise KeyError(f"{name} is a {metric.kind}")
    return metric
