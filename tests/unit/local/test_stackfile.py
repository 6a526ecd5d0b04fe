"""The file that says where a running stack is."""

from dataclasses import replace
from pathlib import Path

import pytest

from coe.local import stackfile
from coe.local.stackfile import ServiceAddress, StackInfo
from coe.platform.errors import Unavailable


def info(home: Path) -> StackInfo:
    services = {"router": ServiceAddress(pid=1, grpc="127.0.0.1:2")}
    return StackInfo(str(home), "127.0.0.1:9092", "redis://127.0.0.1:6379/0", "127.0.0.1:7000", "", services)


def test_what_was_written_is_read(tmp_path: Path) -> None:
    stackfile.write(info(tmp_path))
    assert stackfile.running_stack(tmp_path) == info(tmp_path)
    stackfile.remove(tmp_path)
    assert stackfile.running_stack(tmp_path) is None


@pytest.mark.parametrize(("login", "others_may_read"), [("", True), ("user:secret@", False)])
def test_a_password_is_its_owners_alone(tmp_path: Path, login: str, others_may_read: bool) -> None:
    written = replace(info(tmp_path), redis_url=f"redis://{login}cache:6379/0")
    for _ in range(2):
        stackfile.write(written)
        assert bool(stackfile.path(tmp_path).stat().st_mode & 0o044) is others_may_read
    assert stackfile.running_stack(tmp_path) == written


def test_the_file_of_a_process_that_died_counts_for_nothing(tmp_path: Path) -> None:
    stackfile.write(replace(info(tmp_path), pid_created=1.0))
    assert stackfile.running_stack(tmp_path) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"services": {"router": {}}}', '{"services": {}, "old": 1}'])
def test_a_file_that_is_none_of_ours_is_named(tmp_path: Path, text: str) -> None:
    path = stackfile.path(tmp_path)
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(Unavailable, match=r"stack\.json is not a stack file"):
        stackfile.running_stack(tmp_path)
