"""The gateway process: serves gRPC and HTTP in front of the Kafka path."""

from collections.abc import Coroutine
from contextlib import AsyncExitStack

import grpc.aio

from coe._proto import gateway_pb2_grpc
from coe.client.ended import Ended
from coe.client.prompts import PromptClient
from coe.gateway.generate import GatewayServicer
from coe.gateway.http import HttpApi
from coe.gateway.keys import ApiKeys
from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.gateway.tenants import Prompts, TenantPrompts
from coe.platform.bus.kafka import KafkaBus
from coe.platform.open_files import allow_open_files
from coe.platform.residency import ResidencyReader
from coe.platform.service import run
from coe.platform.settings import CoreSettings, GrpcSettings

_REMEMBERED_BYTES = 32 * 1024 * 1024


class GatewayService:
    """Owns the bus, the prompt client and the handlers of both servers."""

    name = "gateway"
    # Streams need the bus until they end.
    answers_to_the_end = True

    def __init__(self, core: CoreSettings, settings: GatewaySettings) -> None:
        self._core = core
        self._settings = settings
        self._bus = KafkaBus(core.kafka_bootstrap, source="coe/gateway")
        self._residency = ResidencyReader(core.redis_url)
        ended = Ended(settings.duplicates_s, _REMEMBERED_BYTES) if settings.duplicates_s else None
        self._client = PromptClient(self._bus, max_streams=settings.max_streams, ended=ended)
        most = settings.max_streams_per_tenant
        self._prompts: Prompts = TenantPrompts(self._client, most) if most else self._client
        self._keys = ApiKeys(settings.api_keys_file)
        self._open = AsyncExitStack()

    def register(self, server: grpc.aio.Server) -> list[str]:
        servicer = GatewayServicer(
            self._prompts, keys=self._keys, settings=self._settings, max_prompt_bytes=self._core.max_prompt_bytes
        )
        gateway_pb2_grpc.add_GatewayServicer_to_server(servicer, server)
        return ["coe.v1.Gateway"]

    async def start(self) -> None:
        self._keys.load()
        await self._bus.start()
        self._open.push_async_callback(self._bus.stop)
        self._open.push_async_callback(self._residency.close)
        await self._open.enter_async_context(self._client)

    def tasks(self) -> list[Coroutine[object, object, None]]:
        if not self._settings.http_port:
            return [self._keys.follow()]
        api = HttpApi(
            self._prompts,
            keys=self._keys,
            experts=self._experts,
            healthy=self._bus.healthy,
            settings=self._settings,
            max_prompt_bytes=self._core.max_prompt_bytes,
        )
        grpc = GrpcSettings()
        server = HttpServer(api.app(), self._settings, grpc.grace_s, grpc.max_connection_age_s)
        return [self._keys.follow(), server.run_until_cancelled()]

    async def healthy(self) -> bool:
        """False while the broker is unreachable: no prompt can be served until it is back."""
        return await self._bus.healthy()

    async def stop(self) -> None:
        await self._open.aclose()

    async def _experts(self) -> list[str]:
        view = await self._residency.snapshot()
        return sorted({expert for node in view.nodes.values() for expert in node.experts})


def main() -> None:
    allow_open_files()
    run(GatewayService(CoreSettings(), GatewaySettings()))


if __name__ == "__main__":
    main()
