"""What is wrong with a field, in the reader's language.

Checks of values speak English, whoever asked; here the sentences that people meet in forms get
their translation. A sentence that is not known stays as it is.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from app.services.problems import FieldProblem
from app.web.i18n import gettext

_Told = Callable[[re.Match[str]], str]


def told(problem: FieldProblem) -> FieldProblem:
    """A problem in the reader's language.

    >>> told(FieldProblem(path="k", message="Input should be greater than or equal to 1.")).message
    'Write 1 or more.'
    """
    needed = problem.hint == "This field is needed."
    hint = "" if needed else _sentence(problem.hint)
    return replace(problem, message=_sentence(problem.message), hint=hint)


def _sentence(text: str) -> str:
    for pattern, words in _SENTENCES:
        match = pattern.fullmatch(text)
        if match is not None:
            return words(match)
    return text


def _plain(english: str, words: Callable[[], str]) -> tuple[re.Pattern[str], _Told]:
    return re.compile(re.escape(english)), lambda _: words()


def _with(pattern: str, words: Callable[[], str]) -> tuple[re.Pattern[str], _Told]:
    """A sentence with values, which groups of the pattern name as the translation does."""
    return re.compile(pattern), lambda match: words() % match.groupdict()


_SENTENCES: tuple[tuple[re.Pattern[str], _Told], ...] = (
    _plain("Field required.", lambda: gettext("This field is needed.")),
    _with("Input should be a valid integer.*", lambda: gettext("Write a whole number.")),
    _with("Input should be a valid number.*", lambda: gettext("Write a number.")),
    _with(
        r"Input should be greater than or equal to (?P<n>[-\d.e]+)\.",
        lambda: gettext("Write %(n)s or more."),
    ),
    _with(
        r"Input should be greater than (?P<n>[-\d.e]+)\.", lambda: gettext("Write more than %(n)s.")
    ),
    _with(
        r"Input should be less than (?P<n>[-\d.e]+)\.", lambda: gettext("Write less than %(n)s.")
    ),
    _with(
        r"Input should be less than or equal to (?P<n>[-\d.e]+)\.",
        lambda: gettext("Write %(n)s or less."),
    ),
    _with(r"Input should be (?P<options>'.*)\.", lambda: gettext("Choose %(options)s.")),
    _with(r"String should match pattern .*", lambda: gettext("Choose one.")),
    _plain(
        "Fpo needs at least one SAE in its constraint set.",
        lambda: gettext("FPO needs at least one SAE."),
    ),
    _plain(
        "An SAE is named twice in the constraint set.",
        lambda: gettext("An SAE is named twice; remove one of its rows."),
    ),
    _plain(
        "A feature is named twice among held and free.",
        lambda: gettext("A feature is named twice among held and free."),
    ),
    _plain(
        "Others is 0 and no feature is held, so nothing is constrained.",
        lambda: gettext("The weight of all others is 0 and no feature is held: nothing would be."),
    ),
    _plain(
        "Max_prompt_length leaves no room for an answer below max_length.",
        lambda: gettext("The longest prompt leaves no room for an answer."),
    ),
    _plain(
        "Adapters are small enough for ddp; fsdp is for training all weights.",
        lambda: gettext("Adapters are small enough for DDP; FSDP is for training all weights."),
    ),
    _with("(?P<id>'.*') is not a model id.", lambda: gettext("%(id)s is not an id.")),
    _with("(?P<id>'.*') is not an SAE id.", lambda: gettext("%(id)s is not an id.")),
    _with(
        "Use 1–.*",
        lambda: gettext("Use lower-case letters, digits, dots, dashes or underscores."),
    ),
    _with(
        "(?P<id>'.*') is a word of addresses.", lambda: gettext("%(id)s is a word of addresses.")
    ),
    _plain("Choose another id.", lambda: gettext("Choose another id.")),
    _with("There is no folder (?P<path>.*).", lambda: gettext("There is no folder %(path)s.")),
    _plain("Name a folder on this machine.", lambda: gettext("Name a folder on this machine.")),
    _with("(?P<path>.*) does not exist.", lambda: gettext("%(path)s does not exist.")),
    _with(
        "No SAE can be read at (?P<path>.*).", lambda: gettext("No SAE can be read at %(path)s.")
    ),
    _with(
        "(?P<name>'.*') is not a hub repository.",
        lambda: gettext("%(name)s is not a hub repository."),
    ),
    _plain("Write owner/name.", lambda: gettext("Write owner/name.")),
    _with(
        "The SAE reads (?P<n>.*) numbers a token, the model has (?P<m>.*).",
        lambda: gettext("The SAE reads %(n)s numbers a token, the model has %(m)s."),
    ),
    _plain(
        "Choose an SAE that was trained on this model.",
        lambda: gettext("Choose an SAE that was trained on this model."),
    ),
    _plain("Give the set a name.", lambda: gettext("Give the set a name.")),
    _plain(
        "No row can be used, so there is nothing to store.",
        lambda: gettext("No row can be used, so there is nothing to store."),
    ),
    _plain("Choose a model.", lambda: gettext("Choose a model.")),
    _plain("Choose at least one SAE.", lambda: gettext("Choose at least one SAE.")),
    _plain("Write a whole number from 1.", lambda: gettext("Write a whole number from 1.")),
    _with(
        "There is no file or folder (?P<path>.*).",
        lambda: gettext("There is no file or folder %(path)s."),
    ),
    _with("(?P<path>.*) is of no known kind.", lambda: gettext("%(path)s is of no known kind.")),
    _with("Give one of (?P<kinds>.*).", lambda: gettext("Give one of %(kinds)s.")),
    _with(
        "No explanation of (?P<sae>.*) holds (?P<words>.*).",
        lambda: gettext("No explanation of %(sae)s holds %(words)s."),
    ),
    _plain(
        "Explain its features first, or look for other words.",
        lambda: gettext("Explain its features first, or look for other words."),
    ),
    _plain(
        "Write words of the explanations to look for.",
        lambda: gettext("Write words of the explanations to look for."),
    ),
)
