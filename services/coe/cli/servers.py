"""Which servers a command talks to: from its option, else COE_* settings, the running stack, or the defaults."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from coe.local.stackfile import is_claimed, running_stack
from coe.platform import logs
from coe.platform.bus.api import Bus
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import DeadlineExceeded, InvalidPrompt, Unavailable
from coe.platform.settings import CoreSettings, brokers

# A broker that somebody named may be starting; nobody named the default one.
_NAMED_S, _DEFAULT_S = 15.0, 3.0


def kafka_bootstrap(option: str | None) -> str:
    settings = CoreSettings()
    try:
        brokers(option or settings.kafka_bootstrap)
    except ValueError as error:
        raise InvalidPrompt(f"--kafka {option}: {error}") from None
    if option or "kafka_bootstrap" in settings.model_fields_set:
        return option or settings.kafka_bootstrap
    stack = running_stack(settings.home)
    return stack.kafka_bootstrap if stack else settings.kafka_bootstrap


def host_port(option: str, address: str) -> str:
    """The address given to `option`. Raises InvalidPrompt if it is not one."""
    try:
        return brokers(address)
    except ValueError:
        raise InvalidPrompt(f"{option} {address}: must be HOST:PORT") from None


def gateway_address(option: str | None) -> str:
    if option:
        return host_port("--gateway", option)
    stack = running_stack(CoreSettings().home)
    return stack.gateway if stack else "127.0.0.1:7000"


def stack_hint(option: str | None) -> str:
    """What to print when a server that the user did not name does not answer."""
    return "" if option or running_stack(CoreSettings().home) else f"; {no_stack()}"


def no_stack() -> str:
    """Why no stack is available."""
    if is_claimed(CoreSettings().home):
        return "a stack starts here: ask again when `coe up` says where it listens"
    return "no stack runs here: start one with `coe up`"


def quiet_logs() -> None:
    """A command reports failures in one line of its own, so logs go to stderr, and only if COE_LOG_LEVEL is set."""
    core = CoreSettings()
    logs.configure("cli", level=core.log_level if "log_level" in core.model_fields_set else "CRITICAL", form="console")


@asynccontextmanager
async def connect(kafka: str | None) -> AsyncIterator[Bus]:
    """A started bus for a command. Raises Unavailable if no broker answers."""
    quiet_logs()
    settings = CoreSettings()
    named = kafka or "kafka_bootstrap" in settings.model_fields_set or running_stack(settings.home)
    bus = KafkaBus(kafka_bootstrap(kafka), source="coe/cli", start_timeout_s=_NAMED_S if named else _DEFAULT_S)
    try:
        await bus.start()
    except Unavailable as error:
        raise Unavailable(f"{error.message}{'' if named else f'; {no_stack()}'}") from None
    try:
        yield bus
    except DeadlineExceeded as error:
        if await bus.healthy():
            raise DeadlineExceeded(f"{error.message}: `coe doctor --deploy` shows where prompts wait") from None
        raise Unavailable(f"{error.message}: no Kafka broker answers at {kafka_bootstrap(kafka)} any more") from None
    finally:
        await bus.stop()
