"""Values of `model` other than expert ids.

"coe-auto" routes the prompt; "coe-quality", "coe-balanced" and "coe-economy" route it under that budget.
"""

from typing import Any

AUTO = "coe-auto"
BUDGETS = {f"coe-{name}": name for name in ("quality", "balanced", "economy")}
ROUTED = (AUTO, *BUDGETS)


def model_card(name: str, created: int) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": created, "owned_by": "coe"}
