"""Budgets of tenants: read, refused, and given to prompts that name none."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coe._proto.common_pb2 import Budget
from coe.mapper.settings import MapperSettings
from coe.mapper.state import StateFiles
from coe.mapper.tenants import FILE_NAME, budget_of, read_budgets
from coe.platform.errors import ArtifactError


def test_names_and_numbers_are_read(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert read_budgets(path) == {}
    path.write_text("acme: economy\nlabs: 12\n")
    assert read_budgets(path) == {"acme": Budget(name="economy"), "labs": Budget(active_params_b=12)}


@pytest.mark.parametrize("text", ["acme: [1]", "acme: -3", "acme: true", "acme: .inf", "- acme", "acme: {"])
def test_other_values_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / FILE_NAME
    path.write_text(text)
    with pytest.raises(ArtifactError, match=FILE_NAME):
        read_budgets(path)


def test_a_prompt_s_own_budget_comes_first() -> None:
    budgets = {"acme": Budget(name="economy")}
    assert budget_of(Budget(), "acme", budgets).name == "economy"
    assert budget_of(Budget(active_params_b=3), "acme", budgets).active_params_b == 3
    assert budget_of(Budget(), "other", budgets) == Budget()


@pytest.mark.parametrize("budget", ["lavish", "0.5"])
def test_a_budget_that_the_mapping_does_not_have_leaves_the_old_state(budget: str, tmp_path: Path) -> None:
    files = StateFiles(tmp_path, MapperSettings(experts=frozenset({"tiny"}), parts=False))
    files.load()
    (tmp_path / FILE_NAME).write_text(f"acme: {budget}\n")
    with capture_logs() as logs:
        assert not files.refresh()
    assert logs[0]["reason"].startswith(f"{FILE_NAME}, acme: ")
    (tmp_path / FILE_NAME).write_text("acme: balanced\n")
    assert files.refresh()
    assert files.current.budgets["acme"].name == "balanced"
