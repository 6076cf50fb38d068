"""Presets of alignment and SFT: settings with a name, shipped as files or written by the user."""

import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from core.domain.alignment import AlignSpec, SftSpec
from core.errors import Invalid, NotFound

_SHIPPED = files("core") / "presets" / "align"
_SPEC: TypeAdapter[AlignSpec | SftSpec] = TypeAdapter(
    Annotated[AlignSpec | SftSpec, Field(discriminator="kind")]
)


def list_align_presets() -> tuple[str, ...]:
    """Names of the shipped presets, sorted.

    >>> list_align_presets()[0]
    'demo'
    """
    names = (entry.name for entry in _SHIPPED.iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_align_preset(name_or_path: str) -> AlignSpec | SftSpec:
    """The run that a shipped preset's name, or a path to a TOML file, describes.

    Raises:
        NotFound: neither a shipped name nor a readable file.
        Invalid: the file is not TOML or a field is wrong; the message names it.
    """
    text = _read(name_or_path)
    try:
        return _SPEC.validate_python(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise Invalid(
            f"Preset {name_or_path} is not TOML: {error}.", hint="Mend the line it names."
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Invalid(
            f"Preset {name_or_path}, {place}: {first['msg']}.", hint="Mend that field."
        ) from error


def _read(name_or_path: str) -> str:
    if name_or_path in list_align_presets():
        return (_SHIPPED / f"{name_or_path}.toml").read_text(encoding="utf-8")
    try:
        return Path(name_or_path).read_text(encoding="utf-8")
    except OSError as error:
        known = ", ".join(list_align_presets())
        raise NotFound(
            f"No preset {name_or_path!r}: {error.strerror}.",
            hint=f"Name one of {known}, or a TOML file.",
        ) from error
