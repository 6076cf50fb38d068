"""Words of preference data in both languages: formats, speakers, why a row is not used."""

from typing import assert_never

from app.web.i18n import gettext
from core.domain.preference import PreferenceFormat, RejectReason, Role, Split
from core.domain.views_align import PreferenceSetCard


def set_name(card: PreferenceSetCard) -> str:
    """What a set is called; the shipped one by what it holds."""
    return gettext("Direct over evasive answers") if card.set_id is None else card.name


def set_source(card: PreferenceSetCard) -> str:
    """Where a set comes from."""
    if card.set_id is None:
        return gettext("the demo set that ships with Sparsight")
    return card.source


def format_word(name: str) -> str:
    """A format of preference rows by its name."""
    match name:
        case PreferenceFormat.ULTRAFEEDBACK:
            return gettext("UltraFeedback-binarized")
        case PreferenceFormat.TRL_EXPLICIT:
            return gettext("TRL, explicit prompt")
        case PreferenceFormat.TRL_IMPLICIT:
            return gettext("TRL, implicit prompt")
        case PreferenceFormat.HALOS:
            return gettext("HALOs pairwise feedback")
        case PreferenceFormat.HH:
            return gettext("Anthropic HH text")
        case _:
            return name


def role_word(role: Role) -> str:
    """Who speaks."""
    match role:
        case Role.SYSTEM:
            return gettext("System")
        case Role.USER:
            return gettext("User")
        case Role.ASSISTANT:
            return gettext("Assistant")
        case _:
            assert_never(role)


def split_word(split: Split) -> str:
    """The part of the data that a pair belongs to."""
    match split:
        case Split.TRAIN:
            return gettext("training")
        case Split.EVAL:
            return gettext("held out")
        case _:
            assert_never(split)


def reason_word(reason: RejectReason) -> str:
    """Why a row is not used, in a few words."""
    return _reason(reason)[0]


def mend_word(reason: RejectReason) -> str:
    """What makes such a row usable."""
    return _reason(reason)[1]


def _reason(reason: RejectReason) -> tuple[str, str]:
    """A few words, and how to mend it."""
    match reason:
        case RejectReason.NOT_JSON | RejectReason.NOT_AN_OBJECT | RejectReason.BROKEN_TEXT:
            return _unreadable(reason)
        case RejectReason.MISSING_FIELD | RejectReason.WRONG_TYPE | RejectReason.UNKNOWN_ROLE:
            return _misshapen(reason)
        case RejectReason.DUPLICATE | RejectReason.CONTRADICTION | RejectReason.SCORES_DISAGREE:
            return _disputed(reason)
        case _:
            return _unpaired(reason)


def _unreadable(reason: RejectReason) -> tuple[str, str]:
    if reason is RejectReason.NOT_JSON:
        return gettext("not JSON"), gettext(
            "Write one JSON object a line, without trailing commas."
        )
    if reason is RejectReason.NOT_AN_OBJECT:
        return gettext("no fields"), gettext(
            "A row is to be an object with named fields, not a list, number or text."
        )
    return gettext("broken text"), gettext(
        "Remove NUL characters and halves of surrogate pairs; write the file as UTF-8."
    )


def _misshapen(reason: RejectReason) -> tuple[str, str]:
    if reason is RejectReason.MISSING_FIELD:
        return gettext("field missing"), gettext(
            "Add chosen and rejected, or output_A, output_B and label."
        )
    if reason is RejectReason.WRONG_TYPE:
        return gettext("wrong type"), gettext(
            "Answers are texts, or lists of messages with role and content."
        )
    return gettext("unknown speaker"), gettext(
        "Name the speakers system, user and assistant (or human and gpt)."
    )


def _disputed(reason: RejectReason) -> tuple[str, str]:
    if reason is RejectReason.DUPLICATE:
        return gettext("duplicate"), gettext("Nothing to do: the first such row is used.")
    if reason is RejectReason.CONTRADICTION:
        return gettext("contradiction"), gettext(
            "Two rows prefer opposite answers. Decide on one; the first is used."
        )
    return gettext("scores disagree"), gettext(
        "The chosen answer scored lower. Swap the answers, or mend the scores."
    )


def _unpaired(reason: RejectReason) -> tuple[str, str]:
    if reason is RejectReason.WRONG_TURN_ORDER:
        return gettext("turns out of order"), gettext(
            "User and assistant take turns; the prompt ends with the user, an answer with the "
            "assistant."
        )
    if reason is RejectReason.EMPTY_PROMPT:
        return gettext("empty prompt"), gettext("Write what the user asked.")
    if reason is RejectReason.EMPTY_ANSWER:
        return gettext("empty answer"), gettext("Write both answers.")
    if reason is RejectReason.NO_SHARED_PROMPT:
        return gettext("no shared prompt"), gettext(
            "Let both conversations begin with the same turns, or give a prompt field."
        )
    return gettext("same answers"), gettext("Both answers are equal, so nothing is preferred.")
