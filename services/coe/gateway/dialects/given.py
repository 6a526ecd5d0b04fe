"""What all parts of a request have in common."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

One = TypeVar("One")
# What is wrong first is told: to gather that of a hundred thousand items takes seconds, and holds everybody up.
Items = Annotated[list[One], Field(fail_fast=True)]


class Given(BaseModel):
    """What a request holds: nothing beyond what is served, and null is the same as no field."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: object) -> object:
        given = fields.items() if isinstance(fields, dict) else ()
        return {name: value for name, value in given if value is not None} if given else fields


def form(kind: str) -> Tag:
    """The one of several forms whose `type` that is. (Refusals leave out names of this form: they are no fields.)"""
    return Tag(f"literal[{kind}]")


def by_type(supported: str, *, unsaid: str = "") -> Discriminator:
    """Tells forms apart. `supported` is what a refusal says of them; one that has no `type` is of the kind `unsaid`."""

    def kind(given: object) -> str:
        name = given.get("type", unsaid) if isinstance(given, dict) else getattr(given, "type", "")
        return f"literal[{name}]"

    return Discriminator(kind, custom_error_type="form", custom_error_message=f"only {supported} are supported")
