"""What settings and requests have in common."""

from types import NoneType
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import InitErrorDetails


class Spec(BaseModel):
    """A frozen value from outside: an unknown field is told, and so is a number that is none.

    Text of a form that says a number is one; ``true``, which Python counts as 1, is not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any) -> Any:
        # Not a validator of every field: pydantic allows none before a discriminator.
        if isinstance(given, dict):
            found = [
                InitErrorDetails(type=fault, loc=(name,), input=given[name])
                for name, field in cls.model_fields.items()
                if (fault := _fault(given.get(name), field.annotation)) is not None
            ]
            if found:
                raise ValidationError.from_exception_data(cls.__name__, found)
        return given


def _fault(value: Any, annotation: Any) -> str | None:
    """The kind of pydantic's error if true or false stands where a number is meant."""
    if not _holds_bool(value):
        return None
    kinds = _kinds(annotation)
    if bool in kinds or not kinds & {int, float}:
        return None
    return "float_type" if float in kinds else "int_type"


def _holds_bool(value: Any) -> bool:
    items = value if isinstance(value, list | tuple) else (value,)
    return any(isinstance(item, bool) for item in items)


def _kinds(annotation: Any) -> frozenset[type]:
    """The plain classes that an annotation is made of.

    >>> sorted(kind.__name__ for kind in _kinds(tuple[Annotated[int, "at least 1"], ...] | None))
    ['int']
    """
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return _kinds(parts[0])
    if parts:
        return frozenset().union(*(_kinds(part) for part in parts))
    plain = isinstance(annotation, type) and annotation is not NoneType
    return frozenset({annotation}) if plain else frozenset()
