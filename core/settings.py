"""What can be set from outside: the environment, or a file ``.env`` in the working directory.

Read at the doors only: the web process, the worker, migrations and the command line.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "SPARSIGHT_"


class Settings(BaseSettings):
    """Every setting of the product."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True, env_ignore_empty=True
    )

    database_url: str | None = Field(
        default=None,
        repr=False,
        description="Address of a PostgreSQL >= 15, postgresql://user:password@host:5432/name; "
        "without it a private one starts in the data folder.",
    )
    data_dir: Path = Field(
        default=Path("data"), description="Folder of the private database and of running jobs."
    )
    cache_dir: Path = Field(
        default=Path("~/.cache/sparsight"),
        description="Folder of downloads and of what can be computed anew.",
    )
    host: str = Field(default="127.0.0.1", description="Address that the web process listens on.")
    port: Annotated[int, Field(ge=0, le=65_535)] = Field(
        default=8750, description="Port that the web process listens on."
    )
    allowed_hosts: str = Field(
        default="",
        description="More host names under which browsers may reach the web process, separated "
        "by commas. While it listens on this machine only, other names are refused.",
    )
    log_json: bool = Field(default=False, description="Log JSON lines in place of text.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least level that is logged: DEBUG, INFO, WARNING or ERROR."
    )
    secret_key: SecretStr | None = Field(
        default=None,
        description="Key that encrypts stored API keys; without it one is made in the data folder.",
    )

    def model_post_init(self, _context: object, /) -> None:
        """Resolve ``~`` once, so that every process sees the same folders."""
        for name in ("data_dir", "cache_dir"):
            object.__setattr__(self, name, getattr(self, name).expanduser())


def example() -> str:
    """The text of ``.env.example``: every setting with its description and default."""
    parts = [
        "# Copy to .env and set what differs. Written by: python -m core.settings > .env.example"
    ]
    for name, field in Settings.model_fields.items():
        value = "" if field.default is None else field.default
        value = str(value).lower() if isinstance(value, bool) else value
        parts.append(f"# {field.description}\n#{PREFIX}{name.upper()}={value}")
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.stdout.write(example())
