"""Which experts a worker reports that it can run."""

import errno
import shutil
import threading
import time
from pathlib import Path

import pytest

from coe.expert_worker.bounded import Bounded
from coe.expert_worker.hosted import HostedExperts
from coe.experts.bundle import MANIFEST, WEIGHTS, Bundle
from coe.experts.known import KnownBundles
from coe.platform.errors import ArtifactError, ExpertNotFound, TierLoadError


@pytest.fixture
def experts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Bundles whose manifest is their weights' size."""

    def open_bundle(path: Path) -> object:
        text = (path / MANIFEST).read_text()
        if text == "damaged":
            raise ArtifactError("no valid manifest")
        return type("FakeBundle", (), {"id": path.name, "weights_bytes": int(text), "identity": text})()

    monkeypatch.setattr(Bundle, "open", open_bundle)
    for name, text in {"good": "7", "bad": "damaged"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / MANIFEST).write_text(text)
        (tmp_path / name / WEIGHTS).touch()
    return tmp_path


def test_a_damaged_bundle_is_its_own_error_and_hides_no_other(experts: Path) -> None:
    hosted = HostedExperts(experts, allow_echo=False)
    with pytest.raises(ArtifactError):
        hosted.check("bad")
    hosted.check("good")
    assert [bundle.id for bundle in hosted.list()] == ["good"]
    assert (hosted.weight_bytes("good"), hosted.weight_bytes("bad"), hosted.weight_bytes("none")) == (7, 0, 0)


def test_bundles_can_be_added_changed_and_removed(experts: Path) -> None:
    hosted = HostedExperts(experts, allow_echo=False)
    hosted.check("good")
    (experts / "good" / MANIFEST).write_text("8")
    assert hosted.check("good") == "8"
    assert hosted.weight_bytes("good") == 8
    shutil.rmtree(experts / "good")
    for name in ("good", "new", "", "..", "a/b", "a\0b"):
        with pytest.raises(ExpertNotFound):
            hosted.check(name)


def test_experts_stay_as_last_seen_while_their_mount_is_unresponsive(
    experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosted = HostedExperts(experts, allow_echo=False, calls=Bounded(patience_s=0.05))
    hosted.check("good")
    answers, known = threading.Event(), KnownBundles.get

    def get(self: KnownBundles, expert_id: str) -> Bundle:
        assert answers.wait(10.0)
        return known(self, expert_id)

    monkeypatch.setattr(KnownBundles, "get", get)
    assert hosted.check("good") == "7"
    assert hosted.weight_bytes("good") == 7
    with pytest.raises(TierLoadError, match="is not responding"):
        hosted.look("good")
    with pytest.raises(TierLoadError, match="is not responding"):
        hosted.check("bad")
    assert hosted.weight_bytes("bad") == 0
    answers.set()
    (experts / "good" / MANIFEST).write_text("8")
    end = time.monotonic() + 10.0
    while hosted.check("good") != "8":
        assert time.monotonic() < end


def test_experts_stay_as_last_seen_while_their_mount_fails(experts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosted = HostedExperts(experts, allow_echo=False)
    hosted.check("good")

    def is_dir(self: Path) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "is_dir", is_dir)
    (experts / "good" / MANIFEST).unlink()
    assert hosted.check("good") == "7"
    with pytest.raises(TierLoadError, match="Input/output error"):
        hosted.check("bad")


def test_echo_is_for_load_tests_only(experts: Path) -> None:
    with pytest.raises(ExpertNotFound, match="COE_WORKER_ALLOW_ECHO"):
        HostedExperts(experts, allow_echo=False).check("echo")
    allowed = HostedExperts(experts, allow_echo=True)
    allowed.check("echo")
    assert allowed.weight_bytes("echo") == 0
