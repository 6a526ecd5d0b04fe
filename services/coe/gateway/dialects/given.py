"""The base model of requests and their parts, and helpers for fields with several forms."""

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

One = TypeVar("One")
# Stops at the first error: collecting those of a hundred thousand items would block the event loop for seconds.
Items = Annotated[list[One], Field(fail_fast=True)]


class Given(BaseModel):
    """Rejects unsupported fields. A null field counts as absent."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: object) -> object:
        given = fields.items() if isinstance(fields, dict) else ()
        return {name: value for name, value in given if value is not None} if given else fields


def form(kind: str) -> Tag:
    """Tags the form whose `type` is `kind`. Error messages leave such tags out, because they are not field names."""
    return Tag(f"literal[{kind}]")


def by_type(supported: str, *, unsaid: str = "") -> Discriminator:
    """Discriminates forms by `type`, which defaults to `unsaid`. `supported` names the forms in the error message."""

    def kind(given: object) -> str:
        name = given.get("type", unsaid) if isinstance(given, dict) else getattr(given, "type", "")
        return f"literal[{name}]"

    return Discriminator(kind, custom_error_type="form", custom_error_message=f"only {supported} are supported")
