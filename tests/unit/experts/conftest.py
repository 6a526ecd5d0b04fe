"""A runner over a session in memory."""

import pytest

from coe.experts.kv_sharing import SharedKv
from coe.experts.runner import Runner
from unit.experts.fake_session import FakeSession, tokenizer


@pytest.fixture
def kv() -> SharedKv:
    return SharedKv(4096)


@pytest.fixture
def session(kv: SharedKv) -> FakeSession:
    return FakeSession(kv)


@pytest.fixture
def runner(kv: SharedKv, session: FakeSession) -> Runner:
    return Runner(session, tokenizer(), kv.expert(session, "weights"), max_batch=16)
