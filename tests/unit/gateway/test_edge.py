"""The span of a request over HTTP, by the semantic conventions."""

from collections.abc import Iterator

import httpx
import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from coe.gateway.edge import Edge
from coe.gateway.refusals import refuse
from coe.platform.errors import CoEError, ExpertNotFound, Unavailable
from coe.platform.telemetry import spans as telemetry_spans
from coe.platform.telemetry.sampling import never
from support.spans import recorder


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    yield recorder()
    telemetry_spans.record(never)


async def answer(request: Request) -> Response:
    match request.path_params["name"]:
        case "missing":
            raise ExpertNotFound("no such expert")
        case "away":
            raise Unavailable("Kafka is away")
        case "bug":
            raise KeyError("a prompt")
        case "unavailable" | "cancelled" as code:  # a stream that has begun ends so
            request.state.error = code
    return Response()


@pytest.mark.parametrize(
    ("name", "status", "is_ours"),
    [
        ("there", 200, False),
        ("missing", 404, False),
        ("away", 503, True),
        ("bug", 500, True),
        ("unavailable", 200, True),
        ("cancelled", 200, False),
    ],
)
async def test_only_what_the_gateway_fails_is_an_error(
    spans: InMemorySpanExporter, name: str, status: int, is_ours: bool
) -> None:
    routes = [Route("/models/{name}", answer)]
    app = Starlette(routes=routes, exception_handlers={CoEError: refuse}, middleware=[Middleware(Edge, routes=routes)])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway") as client:
        assert (await client.get(f"/models/{name}")).status_code == status
    (span,) = spans.get_finished_spans()
    assert span.name == "GET /models/{name}"
    wanted = {
        "http.request.method": "GET",
        "http.route": "/models/{name}",
        "http.response.status_code": status,
        "url.scheme": "http",
        "url.path": f"/models/{name}",
    }
    assert wanted.items() <= dict(span.attributes or {}).items()
    assert (span.status.status_code is StatusCode.ERROR) is is_ours
    assert not span.status.description
