"""What is wrong with a description of a model, as its user reads it."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """The first of them, behind the name of its field where it is of one."""
    first = error.errors(include_url=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), reason)))
