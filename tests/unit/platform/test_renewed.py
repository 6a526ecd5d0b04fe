"""Files that change under what was made from them."""

from pathlib import Path

import pytest

from coe.platform.errors import ArtifactError
from coe.platform.renewed import Renewed


def test_a_changed_file_is_read_again_and_one_that_can_not_be_used_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "file"

    def read() -> str:
        try:
            return file.read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ArtifactError("file: no text") from error

    with pytest.raises(ArtifactError):
        Renewed("texts", [file], read)
    file.write_text("one")
    renewed = Renewed("texts", [file], read)
    assert (renewed.renew(), renewed.made) == (None, "one")
    file.write_text("another")
    assert (renewed.renew(), renewed.renew(), renewed.made) == ("another", None, "another")
    for broken in (lambda: file.write_bytes(b"\xff"), file.unlink):
        broken()
        caplog.clear()
        assert (renewed.renew(), renewed.renew(), renewed.made) == (None, None, "another")
        assert caplog.messages == ["texts not reloaded, the old ones stay in use"]
    file.write_text("a third")
    assert renewed.renew() == "a third"
