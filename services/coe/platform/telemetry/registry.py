"""Every metric of the system, defined once. Code asks for instruments by name; docs/telemetry.md is made from this."""

from dataclasses import dataclass
from functools import cache
from typing import Literal

from opentelemetry import metrics

from coe.platform.telemetry import names
from coe.platform.telemetry.counters import Counter
from coe.platform.telemetry.histograms import Histogram

Kind = Literal["counter", "histogram", "gauge"]
# Of all our instruments.
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
        "Decode time of a token after the first",
        _GEN_AI,
        SECONDS,
    ),
    Metric(
        "gen_ai.client.token.usage",
        "histogram",
        "{token}",
        "Tokens of a prompt and of its answer",
        (*_GEN_AI, "gen_ai.token.type"),
        TOKENS,
    ),
    Metric(
        "coe.router.decisions",
        "counter",
        "{prompt}",
        "Prompts routed; _OTHER: to categories of clients' that the router does not know",
        (names.COE_CATEGORY, names.COE_FALLBACK),
    ),
    Metric("coe.router.confidence", "histogram", "1", "Calibrated confidence of the best category", (), SHARES),
    Metric("coe.router.duration", "histogram", "s", "Classifying the batch that a prompt was in", (), SECONDS),
    Metric(
        "coe.router.duplicates", "counter", "{prompt}", "Prompts whose request id was submitted before: dropped there"
    ),
    Metric("coe.mapper.decisions", "counter", "{prompt}", "Prompts assigned", (names.COE_EXPERT, "coe.mapper.reason")),
    Metric("coe.mapper.duration", "histogram", "s", "Choosing the expert", (), SECONDS),
    Metric(
        "coe.prompt.errors",
        "counter",
        "{prompt}",
        "Prompts ended with an error here; invalid_prompt: also for an expert that the client named and nobody hosts",
        (names.ERROR_TYPE,),
    ),
    Metric(
        "coe.service.serving",
        "gauge",
        "{service}",
        "1 while the service's health says that it serves, 0 from its start and whenever it can't",
        (names.COE_SERVICE,),
    ),
    Metric(
        "coe.consumer.lag",
        "gauge",
        "{message}",
        "Offsets of a topic that a group has not committed, marks of transactions included",
        (names.MESSAGING_DESTINATION, names.MESSAGING_GROUP),
    ),
    Metric(
        "coe.dead_letters",
        "counter",
        "{message}",
        "Messages set aside",
        (names.MESSAGING_DESTINATION, names.ERROR_TYPE),
    ),
    Metric(
        "coe.queue.wait.duration",
        "histogram",
        "s",
        "From a worker taking a prompt to its prefill, less loading",
        _GEN_AI,
        SECONDS,
    ),
    Metric(
        "coe.step.age",
        "gauge",
        "s",
        "So long the step under way has taken, looked at four times a second; 0 between two",
        (names.COE_WORKER,),
    ),
    Metric("coe.queue.depth", "gauge", "{prompt}", "Prompts that wait or run", (names.COE_WORKER, names.COE_EXPERT)),
    Metric(
        "coe.expert.load.wait.duration",
        "histogram",
        "s",
        "Wait for the lease on an expert's weights",
        (names.COE_EXPERT, names.COE_TIER),
        SECONDS,
    ),
    Metric(
        "coe.tokens.cached",
        "counter",
        "{token}",
        "Of the input of gen_ai.client.token.usage: not computed, for earlier prompts began alike",
        (names.COE_EXPERT,),
    ),
    Metric("coe.tokens.guessed", "counter", "{token}", "Tokens that steps of decode guessed", (names.COE_EXPERT,)),
    Metric("coe.tokens.guessed.right", "counter", "{token}", "Guessed tokens that came", (names.COE_EXPERT,)),
    Metric("coe.expert.switch.count", "counter", "{switch}", "Batches of another expert than the one before"),
    Metric("coe.cache.hit", "counter", "{lease}", "Leases on experts that were in HBM", (names.COE_EXPERT,)),
    Metric("coe.cache.miss", "counter", "{lease}", "Leases on experts that were not in HBM", (names.COE_EXPERT,)),
    Metric("coe.tier.capacity", "gauge", "By", "Budget of a tier", (names.COE_TIER,)),
    Metric("coe.tier.used", "gauge", "By", "Bytes in a tier", (names.COE_TIER,)),
    Metric(
        "coe.tier.loaded", "gauge", "By", "Bytes ever loaded into a tier, since its manager's start", (names.COE_TIER,)
    ),
    Metric(
        "coe.expert.load.duration",
        "histogram",
        "s",
        "Copying an expert into HBM, by the tier it came from",
        (names.COE_TIER,),
        SECONDS,
    ),
    Metric("coe.expert.load.failures", "counter", "{load}", "Loads into HBM that failed", (names.ERROR_TYPE,)),
    Metric("coe.expert.load.queue.duration", "histogram", "s", "Waiting for room in HBM", (), SECONDS),
    Metric(
        "coe.expert.age_at_eviction", "histogram", "s", "From the last use of an expert to its eviction", (), SECONDS
    ),
    Metric("coe.tier.disk_waits", "gauge", "{operation}", "Copies and reads of weights whose disks do not answer"),
    Metric("coe.tier.lru_age", "gauge", "s", "Since the last use of HBM's least recently used expert"),
    Metric(
        "coe.residency.published",
        "gauge",
        "{publisher}",
        "1 while Redis takes what this worker or memory-tier manager publishes, 0 while it does not",
    ),
    Metric("coe.lease.active", "gauge", "{lease}", "Leases held on experts in HBM"),
    Metric("coe.lease.waiting", "gauge", "{lease}", "Leases asked for that wait for room or for bytes"),
    Metric("coe.expert.eviction.count", "counter", "{expert}", "Experts that left HBM", ("reason",)),
    Metric(
        "messaging.client.sent.messages",
        "counter",
        "{message}",
        "Messages handed to the broker",
        _TOPIC,
    ),
    Metric(
        "messaging.client.consumed.messages",
        "counter",
        "{message}",
        "Messages handed out to a handler",
        (*_TOPIC, names.MESSAGING_GROUP),
    ),
    Metric(
        "messaging.process.duration",
        "histogram",
        "s",
        "From handing messages out to their commit, of those committed together the longest",
        (*_TOPIC, names.MESSAGING_GROUP),
        SECONDS,
    ),
    Metric(
        "http.server.request.duration",
        "histogram",
        "s",
        "Requests over HTTP, to the end of the answer",
        (names.HTTP_METHOD, names.URL_SCHEME, names.HTTP_ROUTE, names.HTTP_STATUS, names.ERROR_TYPE),
        SECONDS,
    ),
    Metric("rpc.server.call.duration", "histogram", "s", "Calls served", (*_RPC, names.ERROR_TYPE), SECONDS),
    Metric("rpc.client.call.duration", "histogram", "s", "Calls made", (*_RPC, names.ERROR_TYPE), SECONDS),
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
    """Those that something asked for."""
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
