"""Validation errors of a model's description, for users."""

from pydantic import ValidationError


def first_problem(error: ValidationError) -> str:
    """The first problem, prefixed with the name of its field if it has one."""
    first = error.errors(include_url=False)[0]
    reason = first["msg"].removeprefix("Value error, ")
    return ": ".join(filter(None, (".".join(map(str, first["loc"])), reason)))
