"""What the command line shows: plain words, errors in two lines, never a traceback."""

import sys

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.text import Text

from core.errors import Cancelled, Invalid, SparsightError
from core.settings import PREFIX, Settings

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

EXIT_ERROR = 2
EXIT_STOPPED = 130  # as a shell says for Ctrl-C


def say(text: str, *, style: str = "") -> None:
    """One line of output."""
    out.print(Text(text, style=style))


def tell_error(error: SparsightError) -> None:
    """What happened, and how to mend it."""
    err.print(Text.assemble(("Error: ", "bold red"), error.message))
    if error.hint:
        err.print(Text(error.hint))


def is_interactive() -> bool:
    """Whether a person sits at the terminal and can be asked."""
    return sys.stdin.isatty() and out.is_terminal


def read_settings(**changes: object) -> Settings:
    """The settings, with those given on the command line in place of the environment's.

    Raises:
        Invalid: a setting in the environment or in .env is out of range; the message names it.
    """
    try:
        given = {name: value for name, value in changes.items() if value is not None}
        return Settings().model_copy(update=given)
    except ValidationError as error:
        first = error.errors()[0]
        name = PREFIX + "_".join(str(part) for part in first["loc"]).upper()
        raise Invalid(
            f"The setting {name} is wrong: {first['msg']}.",
            hint="Mend it in the environment or in the file .env.",
        ) from error


def run(app: typer.Typer) -> int:
    """Run the command line; returns the exit code, 2 for an error told in words."""
    try:
        app(prog_name="sparsight")
    except Cancelled:
        return EXIT_STOPPED
    except SparsightError as error:
        tell_error(error)
        return EXIT_ERROR
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0
