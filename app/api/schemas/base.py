"""What every body of the API has in common."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen body, read from the attributes of a domain value."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Request(BaseModel):
    """A frozen body that a caller sends; a field that does not exist is told, not left out."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
