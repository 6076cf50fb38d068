"""Addresses and forms of preference sets: what was typed, and what it means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from starlette.datastructures import QueryParams

from app.services.align.offers import OfferedModel, OfferedSae, Offers
from app.services.preferences.contrast_launch import DEFAULT_PAIRS
from app.services.preferences.pages import DEMO
from app.services.problems import FieldProblem
from app.web import i18n
from app.web.align_text import text_of
from app.web.i18n import gettext
from core.domain.alignment import HubPreferences
from core.domain.preference import PreferenceFormat, RejectReason
from core.errors import NotFound

DEFAULT_SHARE = 0.05
DATASET_FIELDS = ("name", "config", "train_split", "eval_split", "revision")
EXAMPLES = (
    (
        PreferenceFormat.TRL_EXPLICIT,
        '{"prompt": "Is it raining?", "chosen": "Yes.", "rejected": "Hard to say."}',
    ),
    (
        PreferenceFormat.TRL_IMPLICIT,
        '{"chosen": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}], '
        '"rejected": […]}',
    ),
    (
        PreferenceFormat.ULTRAFEEDBACK,
        '{"prompt": "…", "chosen": [user, assistant], "rejected": [user, assistant], '
        '"score_chosen": 9}',
    ),
    (
        PreferenceFormat.HALOS,
        '{"prompt": [turns], "output_A": [turn], "output_B": [turn], "label": 1}',
    ),
    (
        PreferenceFormat.HH,
        '{"chosen": "\\n\\nHuman: …\\n\\nAssistant: …", "rejected": "…"}',
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportForm:
    """How an upload is read, and which of its rejected rows are shown.

    Attributes:
        held_out: the share in percent as typed.
        share: the same as a number in [0, 1); the default where it cannot be read.
    """

    held_out: str
    share: float
    reason: RejectReason | None = None
    offset: int = 0
    name: str = ""
    problems: tuple[FieldProblem, ...] = ()

    def with_problems(self, problems: tuple[FieldProblem, ...]) -> "ReportForm":
        """The form with what has to be mended."""
        return replace(self, problems=problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTyped:
    """What was sent to start a contrast, and what is wrong with it."""

    model: str
    saes: tuple[str, ...]
    max_pairs: str
    problems: tuple[FieldProblem, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartForm:
    """What a contrast can be started with.

    Attributes:
        chosen: key of the chosen model.
        saes: SAEs of the chosen model.
        ticked: keys of ticked SAEs.
    """

    models: tuple[OfferedModel, ...]
    chosen: str
    saes: tuple[OfferedSae, ...]
    ticked: frozenset[str]
    max_pairs: str
    problems: tuple[FieldProblem, ...] = ()


def set_id(name: str) -> int | None:
    """The set that an address names; None for the shipped one.

    >>> set_id("demo"), set_id("12")
    (None, 12)

    Raises:
        NotFound: neither a number nor the shipped set's name.
    """
    if name == DEMO:
        return None
    if name.isascii() and name.isdigit() and len(name) < 10:
        return int(name)
    raise NotFound(f"There is no preference set {name!r}.", hint="See the list of sets.")


def stored_only(found: int | None) -> int:
    """The number of a stored set.

    Raises:
        NotFound: it is the one that ships, which nobody changes.
    """
    if found is None:
        raise NotFound("The set that ships cannot be changed.", hint="Upload a set of your own.")
    return found


def report_form(params: QueryParams) -> ReportForm:
    """How an address says an upload is to be read."""
    typed = params.get("held_out", "")
    share, problems = share_of(typed)
    if "share" in params and not typed:
        share = _share_number(params["share"])
    reason = params.get("reason", "")
    return ReportForm(
        held_out=typed or i18n.significant(100 * share, 4),
        share=share,
        reason=RejectReason(reason) if reason in set(RejectReason) else None,
        offset=whole(params.get("offset", "")),
        problems=problems,
    )


def saved_form(fields: Mapping[str, str]) -> ReportForm:
    """What was sent to save an upload."""
    share = _share_number(fields.get("share", ""))
    return ReportForm(held_out=text_of(100 * share), share=share, name=fields.get("name", ""))


def share_of(typed: str) -> tuple[float, tuple[FieldProblem, ...]]:
    """A share that was typed in percent; empty means the default.

    >>> share_of("12,5")[0], share_of("")[0]
    (0.125, 0.05)
    """
    text = typed.strip().rstrip("% ").replace(",", ".")
    if not text:
        return DEFAULT_SHARE, ()
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if 0 <= value < 100:
        return value / 100, ()
    message = gettext("Write a number from 0 to below 100.")
    return DEFAULT_SHARE, (FieldProblem(path="held_out", message=message),)


def dataset_of(
    typed: Mapping[str, str],
) -> tuple[HubPreferences | None, tuple[FieldProblem, ...]]:
    """The dataset that a form names; an empty split means ``train``, or none held out."""
    given = {name: typed.get(name, "").strip() for name in DATASET_FIELDS}
    if not given["name"]:
        message = gettext("Name a dataset of the hub or a folder.")
        return None, (FieldProblem(path="name", message=message),)
    wrong = [name for name, value in given.items() if "\0" in value or len(value) > 500]
    if wrong:
        message = gettext("This is too long, or not plain text.")
        return None, tuple(FieldProblem(path=name, message=message) for name in wrong)
    data = HubPreferences(
        name=given["name"],
        config=given["config"] or None,
        train_split=given["train_split"] or "train",
        eval_split=given["eval_split"] or None,
        revision=given["revision"] or None,
    )
    return data, ()


def start_form(offers: Offers, params: QueryParams, typed: StartTyped | None) -> StartForm:
    """What a contrast can be started with, as chosen so far."""
    keys = [model.key for model in offers.models]
    known = {sae.card.model_id for sae in offers.saes}
    with_saes = [m.key for m in offers.models if {m.model_id, m.based_on} & known]
    wanted = typed.model if typed else params.get("model", "")
    chosen = wanted if wanted in keys else next(iter([*with_saes, *keys]), "")
    saes = offers.saes_of(offers.model(chosen))
    ticked = frozenset(typed.saes) if typed else frozenset(sae.key for sae in saes[:1])
    return StartForm(
        models=tuple(m for m in offers.models if m.key in with_saes),
        chosen=chosen,
        saes=saes,
        ticked=ticked,
        max_pairs=typed.max_pairs if typed else str(DEFAULT_PAIRS),
        problems=typed.problems if typed else (),
    )


def whole(text: str) -> int:
    """A whole number of an address; 0 where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def file_name(name: str) -> str:
    """A name that is safe in a header and on every disk.

    >>> file_name('my "pairs"/2')
    'my-pairs-2'
    """
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-.") or "pairs"


def _share_number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return DEFAULT_SHARE
    return value if 0 <= value < 1 else DEFAULT_SHARE
