"""Wrong certificates and wrong ports, for real: each is one line that says what is wrong and where to fix it."""

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coe.local import probe
from coe.local.ports import free_port
from coe.platform.bus.kafka.connection import Connection
from coe.platform.errors import ArtifactError
from coe.platform.residency import ResidencyReader
from coe.platform.rpc.client import tls_trouble
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from coe.platform.tls import TlsSettings
from coe.platform.tls_trouble import handshake
from support import certificates
from support.certificates import Certificates


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    made = certificates.make(tmp_path_factory.mktemp("certificates"))
    made.sign("expired", days=-1)
    made.sign("elsewhere", hosts="DNS:elsewhere.example")
    return made


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates.make(tmp_path_factory.mktemp("others"))


@pytest.fixture(autouse=True)
def trusting(made: Certificates, monkeypatch: pytest.MonkeyPatch, no_settings_from_outside: None) -> None:
    """A client that shows no certificate."""
    monkeypatch.setenv("COE_TLS_CA", made.environment["COE_TLS_CA"])


@contextlib.asynccontextmanager
async def server(certificate: tuple[Path, Path] | None, ca: Path | None = None) -> AsyncIterator[int]:
    """Its port. It answers nothing, and asks for a certificate of `ca`; without `certificate` it speaks no TLS."""
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
        context.load_cert_chain(*certificate)
        context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            # As brokers do: what is no request ends the connection.
            await reader.readexactly(4)
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with listening:
        yield listening.sockets[0].getsockname()[1]


def pair(made: Certificates, name: str) -> tuple[Path, Path]:
    return made.folder / f"{name}.pem", made.folder / f"{name}.key"


WRONG = [
    pytest.param("expired", "its certificate has expired", id="expired"),
    pytest.param("elsewhere", "its certificate is for another host: .*'localhost'", id="another host"),
    pytest.param("stranger", r"not signed by an authority of COE_TLS_CA \(.*ca.pem\)", id="another authority"),
    pytest.param("", "it speaks no TLS there|it closes the connection when TLS begins", id="no TLS"),
]


@pytest.fixture
def shown(made: Certificates, others: Certificates, certificate: str) -> tuple[Path, Path] | None:
    """By the server."""
    if certificate == "stranger":
        return pair(others, "test")
    return pair(made, certificate) if certificate else None


@pytest.mark.parametrize(("certificate", "said"), WRONG)
async def test_kafka(shown: tuple[Path, Path] | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_KAFKA_SECURITY", "SSL")
    async with server(shown) as port:
        why, lasting = await Connection(f"localhost:{port}", "test").trouble()
    assert re.fullmatch(f"localhost:{port}: .*({said}).*", why)
    assert lasting == (shown is not None)


@pytest.mark.parametrize(("certificate", "said"), WRONG)
async def test_redis(shown: tuple[Path, Path] | None, said: str) -> None:
    async with server(shown) as port:
        assert re.fullmatch(
            f"no encrypted connection with Redis: .*({said}).*", await told_of(f"rediss://localhost:{port}")
        )


@pytest.mark.parametrize("mode", ["mutual", "mutual, with another's"])
async def test_a_server_that_asks_for_a_certificate(
    made: Certificates, others: Certificates, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = "COE_TLS_CERT: not set"
    if mode != "mutual":
        ours = others.environment
        monkeypatch.setenv("COE_TLS_CERT", ours["COE_TLS_CERT"])
        monkeypatch.setenv("COE_TLS_KEY", ours["COE_TLS_KEY"])
        expected = ours["COE_TLS_CERT"]
    async with server(pair(made, "test"), ca=made.folder / "ca.pem") as port:
        why = await handshake("localhost", port, TlsSettings().client_context())
        redis = await told_of(f"rediss://localhost:{port}")
    assert expected in why
    assert expected in redis
    assert "certificate" in why


@pytest.mark.parametrize("name", ["test", "expired"])
async def test_a_server_that_refuses_our_certificate(
    made: Certificates, others: Certificates, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say why; that ours has expired we see for ourselves."""
    for setting, value in made.environment_of(name).items():
        monkeypatch.setenv(setting, value)
    async with server(pair(made, "test"), ca=others.folder / "ca.pem") as port:
        why = await handshake("localhost", port, TlsSettings().client_context())
    assert made.environment_of(name)["COE_TLS_CERT"] in why
    assert ("it has expired" in why) == (name == "expired")


async def test_a_client_without_tls(made: Certificates) -> None:
    async with server(pair(made, "test")) as port:
        kafka, lasting = await Connection(f"localhost:{port}", "test").trouble()
        redis = await told_of(f"redis://localhost:{port}")
    assert kafka == f"localhost:{port}: it speaks TLS only: set COE_KAFKA_SECURITY=SSL"
    assert lasting
    assert redis == f"localhost:{port} speaks TLS only: COE_REDIS_URL must begin with rediss"


async def test_a_name_that_nobody_knows() -> None:
    why, lasting = await Connection("nowhere.invalid:9092", "test").trouble()
    assert why.startswith("nowhere.invalid:9092: the name can't be resolved (")
    assert not lasting


async def test_nobody_there_is_no_trouble_with_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    address = f"127.0.0.1:{free_port()}"
    assert await Connection(address, "test").trouble() == ("", False)
    assert "connecting to 127.0.0.1" in await told_of(f"rediss://{address}")
    monkeypatch.setenv("COE_KAFKA_SECURITY", "SSL")
    monkeypatch.setenv("COE_GRPC_TLS", "server")
    assert await Connection(address, "test").trouble() == ("", False)
    assert await tls_trouble(address) == ""


@pytest.mark.parametrize(
    ("serves", "calls", "said"),
    [
        pytest.param("expired", "server", "its certificate has expired", id="expired"),
        pytest.param("elsewhere", "server", "its certificate is for another host: .*127.0.0.1", id="another host"),
        pytest.param("", "server", "it speaks no TLS there", id="no TLS"),
        pytest.param("test", "off", "it speaks TLS only: set COE_GRPC_TLS", id="client without TLS"),
        pytest.param("mutual", "server", "asks for a certificate .*COE_TLS_CERT: not set", id="no certificate"),
    ],
)
async def test_grpc(
    made: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    serves: str,
    calls: str,
    said: str,
) -> None:
    with monkeypatch.context() as of_server:
        for name, value in made.environment_of("test" if serves == "mutual" else serves or "test").items():
            of_server.setenv(name, value)
        of_server.setenv("COE_GRPC_TLS", {"mutual": "mutual", "": "off"}.get(serves, "server"))
        endpoint = Endpoint(GrpcSettings())
        await endpoint.start([])
    try:
        await endpoint.set_serving(True)
        monkeypatch.setenv("COE_GRPC_TLS", calls)
        assert await probe.main(endpoint.address) == 1
    finally:
        await endpoint.stop()
    assert re.search(f"{endpoint.address} does not serve: .*{said}", capfd.readouterr().err)


async def told_of(url: str) -> str:
    """What the log says once when residency can't be read there."""
    reader = ResidencyReader(url, max_age_s=0)
    try:
        with capture_logs() as logs:
            await reader.snapshot()
            await reader.snapshot()
    finally:
        await reader.close()
    (line,) = logs
    return str(line["error"])


async def test_files_that_cannot_be_used(made: Certificates, others: Certificates, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    cert, key, ca = (made.folder / name for name in ("test.pem", "test.key", "ca.pem"))
    locked = made.lock("test")
    for given, said in (
        ({"ca": tmp_path / "none"}, f"COE_TLS_CA: {tmp_path / 'none'} can't be read: No such file or directory"),
        ({"ca": tmp_path}, f"COE_TLS_CA: {tmp_path} can't be read: Is a directory"),
        ({"ca": tmp_path / "empty"}, f"COE_TLS_CA: {tmp_path / 'empty'} holds no certificates in PEM"),
        ({"key": key}, f"COE_TLS_KEY ({key}) is set but COE_TLS_CERT is not"),
        ({"cert": cert}, f"COE_TLS_KEY: {cert} holds no private key in PEM"),
        ({"cert": tmp_path, "key": key}, f"COE_TLS_CERT: {tmp_path} can't be read: Is a directory"),
        ({"cert": key, "key": key}, f"COE_TLS_CERT: {key} holds no certificate in PEM"),
        ({"cert": cert, "key": ca}, f"COE_TLS_KEY: {ca} holds no private key in PEM"),
        ({"cert": cert, "key": others.folder / "test.key"}, "test.key is not the key of the certificate"),
        ({"cert": cert, "key": locked}, f"COE_TLS_KEY: {locked} has a passphrase, which is not supported"),
    ):
        with pytest.raises(ArtifactError) as raised:
            TlsSettings(**given).check()
        assert said in raised.value.message
    TlsSettings(cert=made.folder / "kafka.bundle.pem").check()


async def test_redis_says_which_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_TLS_CA", "/nowhere/ca.pem")
    assert "COE_TLS_CA: /nowhere/ca.pem can't be read" in await told_of(f"rediss://127.0.0.1:{free_port()}")
