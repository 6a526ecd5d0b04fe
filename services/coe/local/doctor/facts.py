"""Collects facts about a deployment: its broker, Redis and services, and this machine's limits."""

import asyncio
import shutil
from collections.abc import Mapping
from importlib import metadata
from urllib.parse import urlsplit

import grpc.aio
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaConnectionError, KafkaError
from redis.exceptions import RedisClusterException, RedisError

from coe._proto.memory_tier_manager_pb2 import TIER_HBM
from coe.local.doctor.check import Check, Level
from coe.local.doctor.deployment import (
    BROKERS_OWN,
    KafkaFacts,
    RedisFacts,
    TopicFacts,
    hbm_tier,
    kafka_checks,
    memory_check,
    redis_checks,
    service_checks,
)
from coe.local.doctor.groups import groups
from coe.local.doctor.machine import locked_memory, open_files
from coe.local.probe import TIMEOUT_S, says_serving
from coe.memory_tier_manager.settings import TiersSettings
from coe.platform import topics
from coe.platform.bus.kafka.connection import Connection
from coe.platform.errors import CoEError
from coe.platform.residency import ResidencyReader
from coe.platform.residency.connection import connect, disconnect, why, without_login
from coe.platform.rpc.client import bare_channel, tls_trouble

_TIMEOUT_S = 15.0


async def examine_deployment(
    bootstrap: str, redis_url: str, services: Mapping[str, str], node: str = "node-0"
) -> list[Check]:
    """`services`: name -> host:port. `node`: this machine's name. Never raises: what can't be reached is a finding."""
    asked = asyncio.gather(*(_trouble(address) for address in services.values()))
    kafka, redis, troubles = await asyncio.gather(_kafka(bootstrap), _redis(redis_url), asked)
    version = Check("version", Level.GOOD, f"composition-of-experts {metadata.version('composition-of-experts')}")
    tiers = TiersSettings()
    given = tiers.hbm_bytes if "hbm_bytes" in tiers.model_fields_set else None
    shared = memory_check(shutil.disk_usage("/dev/shm").total, *hbm_tier(redis, node, given, tiers.hbm_bytes))
    kind = urlsplit(redis_url).scheme.partition("+")[2]
    return [
        version,
        *kafka_checks(kafka, topics.SPECS),
        *redis_checks(redis, kind),
        *service_checks(dict(zip(services, troubles, strict=True))),
        shared,
        locked_memory(),
        open_files(),
    ]


async def _trouble(address: str) -> str:
    """Why the service is not serving; empty if it is."""
    try:
        async with bare_channel(address) as channel:
            return "" if await says_serving(channel, TIMEOUT_S) else f"{address} reports that it is not serving"
    except grpc.aio.AioRpcError:
        pass
    except CoEError as error:
        # Our own certificates are at fault.
        return error.message
    return await tls_trouble(address) or f"no answer from {address}"


async def _kafka(bootstrap: str) -> KafkaFacts:
    admin: AIOKafkaAdminClient | None = None
    connection = Connection(bootstrap, "coe-doctor")
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            admin = AIOKafkaAdminClient(**connection.options())
            await admin.start()
            cluster = await admin.describe_cluster()
            known = {spec.name for spec in (*topics.SPECS, *BROKERS_OWN)}
            names = sorted(known & set(await admin.list_topics()))
            described = await admin.describe_topics(names) if names else []
            configs = await _configs(admin, names) if names else {}
            read = await groups(connection)
    except CoEError as error:
        return KafkaFacts(error=error.message)
    except (KafkaError, OSError, TimeoutError) as error:
        why, _ = await connection.trouble()
        # A failed connection adds nothing to "does not answer".
        said = "" if isinstance(error, KafkaConnectionError | TimeoutError) else f": {error!r}"
        return KafkaFacts(error=why or f"{bootstrap} does not answer{said}")
    finally:
        if admin is not None:
            await admin.close()
    found = {}
    for topic in described:
        parts = topic["partitions"]
        replicas, in_sync = (min(len(part[key]) for part in parts) for key in ("replicas", "isr"))
        config = configs.get(topic["topic"], {})
        least = int(config.get("min.insync.replicas", 0))
        found[topic["topic"]] = TopicFacts(len(parts), replicas, in_sync, least, config)
    return KafkaFacts(len(cluster["brokers"]), found, read)


async def _configs(admin: AIOKafkaAdminClient, names: list[str]) -> dict[str, dict[str, str]]:
    """Settings of each topic that we may describe, by topic name."""
    wanted = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    return {
        name: {entry[0]: entry[1] for entry in entries}
        for response in await admin.describe_configs(wanted)
        for _code, _message, _kind, name, entries in response.resources
    }


async def _redis(url: str) -> RedisFacts:
    try:
        client = connect(url)
    except (CoEError, ValueError) as error:
        return RedisFacts(error=str(error))
    hinders = "does not answer"
    try:
        cluster = "+cluster" in url
        async with asyncio.timeout(_TIMEOUT_S):
            info = await (client.info("server", target_nodes=client.RANDOM) if cluster else client.info("server"))
            covered = True
            if cluster:
                state = await client.cluster_info(target_nodes=client.RANDOM)
                covered = state["cluster_state"] == "ok"
            if covered:
                # Full memory, a replica, or a failed snapshot: reads still work.
                hinders = "rejects writes"
                await client.set("coe:doctor", "", px=1)
    except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
        return RedisFacts(error=f"{without_login(url)} {hinders}: {await why(url, error)}")
    finally:
        await disconnect(client)
    reader = ResidencyReader(url)
    view = await reader.snapshot()
    await reader.close()
    version = f"{info.get('server_name', 'redis')} {info.get('valkey_version') or info['redis_version']}"
    mode = info.get("server_mode") or info["redis_mode"]
    hbm = {name: found.usage[TIER_HBM].capacity_bytes for name, found in view.nodes.items() if TIER_HBM in found.usage}
    return RedisFacts(mode, version, covered, sorted(view.nodes), hbm)
