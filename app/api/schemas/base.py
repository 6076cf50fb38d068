"""What every body of the API has in common."""

from pydantic import BaseModel, ConfigDict

from core.domain.spec import Spec


class Schema(BaseModel):
    """A frozen body, read from the attributes of a domain value."""

    model_config = ConfigDict(frozen=True, from_attributes=True)


class Request(Spec):
    """A body that a caller sends."""
