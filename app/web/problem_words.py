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
        "No label or explanation of (?P<sae>.*) holds (?P<words>.*).",
        lambda: gettext("No label or explanation of %(sae)s holds %(words)s."),
    ),
    _plain(
        "Label or explain its features first, or look for other words.",
        lambda: gettext("Label or explain its features first, or look for other words."),
    ),
    _plain(
        "Write words of labels or explanations to look for.",
        lambda: gettext("Write words of labels or explanations to look for."),
    ),
    _with(
        r"The name has (?P<n>\d+) characters\.",
        lambda: gettext("The name has %(n)s characters."),
    ),
    _with(
        r"The note has (?P<n>\d+) characters\.",
        lambda: gettext("The note has %(n)s characters."),
    ),
    _with(r"A tag has (?P<n>\d+) characters\.", lambda: gettext("A tag has %(n)s characters.")),
    _with(r"Write at most (?P<n>\d+)\.", lambda: gettext("Write at most %(n)s.")),
    _with(r"These are (?P<n>\d+) tags\.", lambda: gettext("These are %(n)s tags.")),
    _with(
        r"A feature bears at most (?P<n>\d+)\.",
        lambda: gettext("A feature bears at most %(n)s."),
    ),
    _with("(?P<text>['\"].*['\"]) is not a tag.", lambda: gettext("%(text)s is not a tag.")),
    _plain(
        "Use letters of any script, digits, and - _ . : between them.",
        lambda: gettext("Use letters of any script, digits, and - _ . : between them."),
    ),
    _plain("Name a tag.", lambda: gettext("Name a tag.")),
    _plain(
        "Write one or more, with commas between them.",
        lambda: gettext("Write one or more, with commas between them."),
    ),
    _plain("No feature is chosen.", lambda: gettext("No feature is chosen.")),
    _plain(
        "Tick some features of the list first.",
        lambda: gettext("Tick some features of the list first."),
    ),
    _with(
        "There is a tag (?P<tag>.*) already.",
        lambda: gettext("There is a tag %(tag)s already."),
    ),
    _plain(
        "Merge the two, or choose another name.",
        lambda: gettext("Merge the two, or choose another name."),
    ),
    _plain(
        "A tag cannot be merged with itself.",
        lambda: gettext("A tag cannot be merged with itself."),
    ),
    _plain("Choose another tag.", lambda: gettext("Choose another tag.")),
    _plain("Choose a tag.", lambda: gettext("Choose a tag.")),
    _plain(
        "Tags are given on pages of features and in lists.",
        lambda: gettext("Tags are given on pages of features and in lists."),
    ),
    _with(
        "No feature of (?P<sae>.*) bears the tag (?P<tag>.*).",
        lambda: gettext("No feature of %(sae)s bears the tag %(tag)s."),
    ),
    _with(
        "No feature bears the tag (?P<tag>.*).",
        lambda: gettext("No feature bears the tag %(tag)s."),
    ),
    _plain(
        "See the list of tags for which there are.",
        lambda: gettext("See the list of tags for which there are."),
    ),
    _with(
        "(?P<name>.*) is neither .jsonl nor .csv.",
        lambda: gettext("%(name)s is neither .jsonl nor .csv."),
    ),
    _plain(
        "Name the file by what it is: labels.jsonl or labels.csv.",
        lambda: gettext("Name the file by what it is: labels.jsonl or labels.csv."),
    ),
)
