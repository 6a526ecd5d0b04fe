"""What COE_KAFKA_SASL_* become for aiokafka, and what is wrong with them in one line."""

import ssl
from pathlib import Path

import pytest

from coe.local.options import StackOptions
from coe.local.stack import Stack
from coe.platform.bus.kafka.connection import Connection
from coe.platform.errors import ArtifactError
from coe.platform.sasl import SaslSettings

SECRET = "hunter2"


def given(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"COE_KAFKA_{name}", value)


def test_without_a_mechanism_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, SASL_MECHANISM="", SASL_USERNAME="", SASL_PASSWORD="", SASL_PASSWORD_FILE="")
    options = Connection("h:1", "test").options()
    assert options["security_protocol"] == "PLAINTEXT"
    assert not any(name.startswith("sasl") for name in options)


@pytest.mark.parametrize(("security", "protocol"), [("PLAINTEXT", "SASL_PLAINTEXT"), ("SSL", "SASL_SSL")])
def test_every_client_says_who_we_are(monkeypatch: pytest.MonkeyPatch, security: str, protocol: str) -> None:
    given(monkeypatch, SECURITY=security, SASL_MECHANISM="scram-sha-512", SASL_USERNAME="coe", SASL_PASSWORD=SECRET)
    connection = Connection("h:1", "test")
    for options in (connection.options(), connection.producer(), connection.consumer("g")):
        assert options["security_protocol"] == protocol
        assert isinstance(options.get("ssl_context"), ssl.SSLContext) == (security == "SSL")
        found = [options[name] for name in ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password")]
        assert found == ["SCRAM-SHA-512", "coe", SECRET]


def test_a_password_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text(f" {SECRET}\n")
    given(monkeypatch, SASL_MECHANISM="PLAIN", SASL_USERNAME="coe", SASL_PASSWORD_FILE=str(file))
    assert SaslSettings().options()["sasl_plain_password"] == f" {SECRET}"
    file.write_text("another\r\n")
    assert SaslSettings().options()["sasl_plain_password"] == "another"


def test_the_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, SASL_MECHANISM="PLAIN", SASL_PASSWORD=SECRET)
    assert SECRET not in repr(SaslSettings())
    with pytest.raises(ArtifactError) as raised:
        SaslSettings().check()
    assert SECRET not in repr(raised.value.details) + raised.value.message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"USERNAME": "coe"}, "COE_KAFKA_SASL_USERNAME is set but COE_KAFKA_SASL_MECHANISM is not"),
        ({"PASSWORD": SECRET}, "COE_KAFKA_SASL_PASSWORD is set but COE_KAFKA_SASL_MECHANISM is not"),
        ({"MECHANISM": "PLAIN"}, "needs COE_KAFKA_SASL_USERNAME"),
        ({"MECHANISM": "PLAIN", "USERNAME": "coe"}, "needs one of COE_KAFKA_SASL_PASSWORD and _PASSWORD_FILE"),
        (
            {"MECHANISM": "PLAIN", "USERNAME": "coe", "PASSWORD": SECRET, "PASSWORD_FILE": "/x"},
            "needs one of COE_KAFKA_SASL_PASSWORD and _PASSWORD_FILE",
        ),
        ({"MECHANISM": "PLAIN", "USERNAME": "coe", "PASSWORD": ""}, "needs one of COE_KAFKA_SASL_PASSWORD"),
        (
            {"MECHANISM": "PLAIN", "USERNAME": "coe", "PASSWORD_FILE": "/nowhere/p"},
            "COE_KAFKA_SASL_PASSWORD_FILE: /nowhere/p can't be read: No such file or directory",
        ),
        ({"MECHANISM": "PLAIN", "USERNAME": "coe", "PASSWORD_FILE": "/dev/null"}, "/dev/null is empty"),
    ],
)
def test_what_is_wrong_is_one_line(monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str) -> None:
    given(monkeypatch, **{f"SASL_{name}": value for name, value in settings.items()})
    with pytest.raises(ArtifactError) as raised:
        SaslSettings().check()
    assert said in raised.value.message
    assert "\n" not in raised.value.message


async def test_the_broker_of_coe_up_asks_nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given(monkeypatch, SASL_MECHANISM="PLAIN", SASL_USERNAME="coe", SASL_PASSWORD=SECRET)
    with pytest.raises(ArtifactError, match="needs COE_KAFKA_BOOTSTRAP"):
        async with Stack(StackOptions(home=tmp_path)):
            pytest.fail("it starts")


def test_an_unknown_mechanism_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, SASL_MECHANISM="GSSAPI")
    with pytest.raises(SystemExit, match=r"^coe: COE_KAFKA_SASL_MECHANISM: [^\n]+$"):
        SaslSettings()
