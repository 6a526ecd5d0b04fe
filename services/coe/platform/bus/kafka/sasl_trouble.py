"""Diagnoses SASL failures in one line that names the setting. aiokafka only logs them and retries forever."""

import asyncio
from typing import Any

from aiokafka.conn import AIOKafkaConnection, create_conn
from aiokafka.errors import KafkaError, SaslAuthenticationFailed
from aiokafka.protocol.admin import SaslHandShakeRequest

from coe.platform.sasl import SaslSettings

_TIMEOUT_S = 5.0
# The error code with which a listener without SASL answers a handshake.
_ILLEGAL_SASL_STATE = 34


async def sasl_trouble(host: str, port: int, encryption: dict[str, Any]) -> str:
    """Why authentication fails; empty if it succeeds or the broker does not respond.

    `encryption`: the security options from Connection.options.
    """
    sasl = SaslSettings()
    options = sasl.options()
    protocol = encryption["security_protocol"].removeprefix("SASL_")
    plain = {**encryption, "security_protocol": protocol}
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            offered = await _offered(await create_conn(host, port, **plain))
            if sasl.mechanism and sasl.mechanism in offered:
                authenticated = {**encryption, "security_protocol": f"SASL_{protocol}", **options}
                (await create_conn(host, port, **authenticated)).close()
    except SaslAuthenticationFailed as error:
        which = "_FILE" if sasl.password_file is not None else ""
        user = f"COE_KAFKA_SASL_USERNAME ({sasl.username}) or COE_KAFKA_SASL_PASSWORD{which}"
        return (
            f"it does not let us in: {user} is wrong ({sasl.mechanism}: {error.args[0] if error.args else 'refused'})"
        )
    except (KafkaError, OSError, TimeoutError):
        return ""
    if sasl.mechanism and not offered:
        return "it asks for no SASL there: unset COE_KAFKA_SASL_*, or name its port for SASL"
    if sasl.mechanism not in ("", *offered):
        return f"it takes no {sasl.mechanism}: set COE_KAFKA_SASL_MECHANISM to one of {', '.join(offered)}"
    if offered and not sasl.mechanism:
        return f"it asks who we are: set COE_KAFKA_SASL_MECHANISM to one of {', '.join(offered)}"
    return ""


async def _offered(connection: AIOKafkaConnection) -> list[str]:
    """The mechanisms the broker offers; none if it does not require authentication."""
    try:
        response = await connection.send(SaslHandShakeRequest("PLAIN"))
    finally:
        connection.close()
    return [] if response.error_code == _ILLEGAL_SASL_STATE else sorted(response.enabled_mechanisms)
