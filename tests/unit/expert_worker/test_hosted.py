"""Which experts a worker says it can run."""

import shutil
from pathlib import Path

import pytest

from coe.expert_worker.hosted import HostedExperts
from coe.experts.bundle import MANIFEST, WEIGHTS, Bundle
from coe.platform.errors import ArtifactError, ExpertNotFound


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


def test_bundles_come_and_change_and_go(experts: Path) -> None:
    hosted = HostedExperts(experts, allow_echo=False)
    hosted.check("good")
    (experts / "good" / MANIFEST).write_text("8")
    assert hosted.weight_bytes("good") == 8
    shutil.rmtree(experts / "good")
    for name in ("good", "new", "", "..", "a/b", "a\0b"):
        with pytest.raises(ExpertNotFound):
            hosted.check(name)


def test_echo_is_for_load_tests_only(experts: Path) -> None:
    with pytest.raises(ExpertNotFound, match="COE_WORKER_ALLOW_ECHO"):
        HostedExperts(experts, allow_echo=False).check("echo")
    allowed = HostedExperts(experts, allow_echo=True)
    allowed.check("echo")
    assert allowed.weight_bytes("echo") == 0
