"""Response formats: free text, a JSON object, or JSON that follows a schema. No I/O."""

import json
from typing import Annotated, Any, Literal

from pydantic import Field

from coe.gateway.dialects.given import Given, by_type, form


class NamedSchema(Given):
    """A schema, always enforced strictly, whatever `strict` says."""

    name: str
    description: str | None = None
    schema_: dict[str, Any] = Field(default={}, alias="schema")
    strict: bool | None = None

    def schema_text(self) -> str:
        return json.dumps(self.schema_)


class AnyText(Given):
    """Free text."""

    type: Literal["text"]

    def schema_text(self) -> None:
        return None


class AnyObject(Given):
    """Any JSON object."""

    type: Literal["json_object"]

    def schema_text(self) -> str:
        return '{"type": "object"}'


class OfSchema(Given):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema

    def schema_text(self) -> str:
        return self.json_schema.schema_text()


class FlatOfSchema(NamedSchema):
    """`OfSchema` in the flat form of /v1/responses."""

    type: Literal["json_schema"]


_Plain = Annotated[AnyText, form("text")] | Annotated[AnyObject, form("json_object")]
_BY_TYPE = by_type("the types text, json_object and json_schema")
Format = Annotated[_Plain | Annotated[OfSchema, form("json_schema")], _BY_TYPE]
FlatFormat = Annotated[_Plain | Annotated[FlatOfSchema, form("json_schema")], _BY_TYPE]
