"""Locust's users, without Locust."""

import sys
from types import ModuleType, SimpleNamespace

import pytest


@pytest.fixture
def locustfile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    stand_in = SimpleNamespace(HttpUser=object, between=lambda *_: None, task=lambda f: f)
    monkeypatch.setitem(sys.modules, "locust", stand_in)
    monkeypatch.delitem(sys.modules, "loadtest.locustfile", raising=False)
    from loadtest import locustfile

    return locustfile


def test_comments_are_no_chunks(locustfile: ModuleType) -> None:
    lines = [b'data: {"choices": []}', b"", b": waiting", b"", b"data: [DONE]", b""]
    assert list(locustfile._chunks(iter(lines))) == [{"choices": []}]


def test_a_stream_that_breaks_off_is_a_failure(locustfile: ModuleType) -> None:
    answer = SimpleNamespace(status_code=200, iter_lines=lambda: iter([b'data: {"choices": []}']))
    assert "did not end with" in locustfile.ChatUser()._read(answer, 0.0)


def test_a_connection_that_fails_says_why(locustfile: ModuleType) -> None:
    answer = SimpleNamespace(status_code=0, error=ConnectionError("refused"), text="")
    assert "refused" in locustfile.ChatUser()._read(answer, 0.0)


def test_keys_and_certificates_come_from_the_environment(
    locustfile: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"COE_API_KEY": "k", "COE_TLS_CA": "ca", "COE_TLS_CERT": "c", "COE_TLS_KEY": "p"}.items():
        monkeypatch.setenv(name, value)
    user = locustfile.ChatUser()
    user.client = SimpleNamespace(headers={}, verify=True, cert=None)
    user.on_start()
    assert vars(user.client) == {"headers": {"authorization": "Bearer k"}, "verify": "ca", "cert": ("c", "p")}
