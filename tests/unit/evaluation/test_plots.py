"""Pictures of many experts: every name stands by its point, and legends fit."""

from itertools import combinations
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from coe.evaluation.evaluate import Evaluation
from coe.evaluation.plots import frontier_figure, shares_figure
from coe.evaluation.systems import Kind, System
from coe.mapper.pool import PoolExpert

POOL = tuple(PoolExpert(f"org/model-{number:02}", 1 + 2.5 * number, 80.0) for number in range(30))
USED = range(0, 30, 3)


def system(name: str, kind: Kind, score: float, size: float) -> System:
    return System(name, kind, np.full(10, score), np.full(10, size))


@pytest.fixture
def thirty() -> Evaluation:
    """Experts in a dense row, of which a composition uses every third."""
    kinds: tuple[Kind, ...] = ("random", "category", "knn", "coe")
    singles = [system(e.name, "single", 0.4 + e.active_params_b / 200, e.active_params_b) for e in POOL]
    curves = [system("", kind, score, size) for kind in kinds for score, size in ((0.5, 9.0), (0.9, 70.0))]
    used = System("CoE", "coe", np.full(10, 0.6), np.array([POOL[number].active_params_b for number in USED]))
    return Evaluation("many", POOL, 0, 0, (*singles, *curves), (used,), (), {}, Mock(), Mock())


def drawn(figure: Any) -> Any:
    FigureCanvasAgg(figure).draw()
    return figure


def test_every_name_stands_by_its_own_point_and_covers_no_other(thirty: Evaluation) -> None:
    (axes,) = drawn(frontier_figure(thirty, 0)).axes
    low, high = axes.get_ylim()
    point = {s.name.rpartition("/")[2]: (s.active_params_b, s.score) for s in thirty.systems if s.kind == "single"}
    assert len(axes.texts) > 10
    for text in axes.texts:
        x, y = point[text.get_text()]
        assert text.xy[0] == x
        assert abs(text.xy[1] - y) < 0.04 * (high - low)
    assert not any(a.overlaps(b) for a, b in combinations([text.get_window_extent() for text in axes.texts], 2))


def test_the_legend_of_shares_names_whom_the_composition_uses_and_is_not_cut_off(thirty: Evaluation) -> None:
    figure = drawn(shares_figure(thirty))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        f"{POOL[number].active_params_b:g} B, model-{number:02}" for number in USED
    ]
    box, page = legend.get_window_extent(), figure.bbox
    assert page.x0 <= box.x0 <= box.x1 <= page.x1
    assert page.y0 <= box.y0 <= box.y1 <= page.y1
