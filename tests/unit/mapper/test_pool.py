"""Expert files in the forms that people write them."""

from pathlib import Path

import pytest

from coe.mapper.pool import PoolExpert, read_pool, select
from coe.platform.errors import ArtifactError


@pytest.mark.parametrize(
    "text",
    [
        "a: 7\nm: {active_params_b: 13, total_params_b: 47}",
        "experts:\n  a: {params_b: 7}\n  m: {active_params_b: 13, total_params_b: 47}",
        "- {name: a, params_b: 7}\n- {name: m, active_params_b: 13, total_params_b: 47}",
    ],
)
def test_reads_every_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(text)
    assert read_pool(path) == {"a": PoolExpert("a", 7.0, 7.0), "m": PoolExpert("m", 13.0, 47.0)}


@pytest.mark.parametrize("text", ["a: -1", "a: many", "a: true", "a: {size: 3}", "[]", "3", "a: ["])
def test_refuses_what_has_no_parameters(tmp_path: Path, text: str) -> None:
    path = tmp_path / "experts.yaml"
    path.write_text(text)
    with pytest.raises(ArtifactError):
        read_pool(path)


def test_the_papers_five_experts_are_known() -> None:
    known = read_pool()
    sizes = sorted(known[name].active_params_b for name in list(known)[:5])
    assert sizes == [7.6, 9.2, 27.2, 70.6, 72.7]


def test_models_without_parameters_are_named() -> None:
    known = {"a": PoolExpert("a", 1.0, 1.0)}
    assert select(["a", "x"], known) == ([known["a"]], ["x"])
    with pytest.raises(ArtifactError, match="x"):
        select(["x"], known)
