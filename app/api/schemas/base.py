"""What every body of the API has in common."""

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    """A frozen body, read from the attributes of a domain value."""

    model_config = ConfigDict(frozen=True, from_attributes=True)
