"""What all parts of a request have in common."""

from pydantic import BaseModel, ConfigDict, model_validator


class Given(BaseModel):
    """What a request holds: nothing beyond what is served, and null is the same as no field."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: object) -> object:
        given = fields.items() if isinstance(fields, dict) else ()
        return {name: value for name, value in given if value is not None} if given else fields
