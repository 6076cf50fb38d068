"""Preference pairs of other projects' files: read with a reason for every refused row; written.

Formats: UltraFeedback-binarized, TRL with explicit or implicit prompt as text or messages, HALOs
pairwise feedback, Anthropic HH. The format is recognised row by row.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from core.domain.preference import (
    PreferenceFormat,
    PreferencePair,
    PreferenceSet,
    RejectedRow,
    RejectReason,
    Role,
    Split,
    Turn,
    turns_key,
)
from core.errors import Invalid
from core.interchange.rows import Row, read_rows
from core.interchange.turns import (
    RowRejected,
    check_answer,
    check_prompt,
    is_hh,
    parse_hh,
    parse_messages,
    shared_turns,
    text_turn,
)

_EVAL_SPLITS = {
    "eval",
    "evaluation",
    "test",
    "validation",
    "valid",
    "val",
    "dev",
    "held",
    "heldout",
}
_SPLITS = {"train", "training", *_EVAL_SPLITS}
_FIRST_WORD = re.compile(r"[a-z]+")

Triple = tuple[tuple[Turn, ...], tuple[Turn, ...], tuple[Turn, ...]]


def read_preferences(path: Path, *, held_out_share: float = 0.0) -> PreferenceSet:
    """Pairs of a file or folder; see ``parse_preferences``."""
    return parse_preferences(read_rows(path), held_out_share=held_out_share)


def parse_preferences(rows: Iterable[Row], *, held_out_share: float = 0.0) -> PreferenceSet:
    """Every row as a pair or as a rejected row with its reason.

    Args:
        rows: rows of any of the formats, mixed or not.
        held_out_share: share of prompts held out where the rows name no split, in [0, 1). A
            prompt's split depends on its text alone, so it never sits on both sides.
    """
    if not 0 <= held_out_share < 1:
        raise Invalid(f"A held-out share of {held_out_share} is outside [0, 1).")
    pairs: list[PreferencePair] = []
    rejected: list[RejectedRow] = []
    formats: Counter[PreferenceFormat] = Counter()
    seen: dict[tuple[str, str, str], int] = {}
    for row in rows:
        try:
            pair = _parse_row(row, held_out_share)
            _check_new(pair, seen)
        except RowRejected as verdict:
            rejected.append(verdict.on(row))
        else:
            pairs.append(pair)
            formats[format_of(row.value)] += 1
    return PreferenceSet(
        pairs=tuple(pairs),
        rejected=tuple(rejected),
        n_rows=len(pairs) + len(rejected),
        formats=dict(formats.most_common()),
    )


def format_of(value: object) -> PreferenceFormat:
    """What a row that could be read is of.

    >>> format_of({"chosen": "a b", "rejected": "a c"}).value
    'trl_implicit'
    """
    fields = value if isinstance(value, Mapping) else {}
    if "output_A" in fields:
        return PreferenceFormat.HALOS
    chosen, prompt = fields.get("chosen"), fields.get("prompt")
    if any(isinstance(text, str) and is_hh(text) for text in (chosen, prompt)):
        return PreferenceFormat.HH
    if prompt is None:
        return PreferenceFormat.TRL_IMPLICIT
    first = chosen[0] if isinstance(chosen, list) and chosen else None
    answers_only = not isinstance(first, Mapping) or first.get("role") == Role.ASSISTANT.value
    return PreferenceFormat.TRL_EXPLICIT if answers_only else PreferenceFormat.ULTRAFEEDBACK


def write_preferences(pairs: Iterable[PreferencePair], path: Path) -> None:
    """Pairs as JSON lines of TRL's explicit-prompt messages, with their split."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in preference_lines(pairs))


def preference_lines(pairs: Iterable[PreferencePair]) -> Iterator[str]:
    """Each pair as one line of JSON, without its end: what ``write_preferences`` writes."""
    for pair in pairs:
        record = {
            "prompt": _messages(pair.prompt),
            "chosen": _messages(pair.chosen),
            "rejected": _messages(pair.rejected),
            "split": pair.split.value,
        }
        yield json.dumps(record, ensure_ascii=False)


def _messages(turns: tuple[Turn, ...]) -> list[dict[str, str]]:
    return [{"role": turn.role.value, "content": turn.content} for turn in turns]


def _parse_row(row: Row, held_out_share: float) -> PreferencePair:
    if row.problem:
        raise RowRejected(RejectReason.NOT_JSON, row.problem)
    if not isinstance(row.value, Mapping):
        raise RowRejected(RejectReason.NOT_AN_OBJECT, "The row is not an object with fields.")
    prompt, chosen, rejected = _triple(row.value)
    check_prompt(prompt)
    check_answer(chosen, field="chosen")
    check_answer(rejected, field="rejected")
    if turns_key(chosen) == turns_key(rejected):
        raise RowRejected(RejectReason.SAME_ANSWERS, "Both answers are the same.")
    return PreferencePair(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        split=split_of(row, prompt, held_out_share),
        row=row.number,
    )


def _triple(value: Mapping[str, object]) -> Triple:
    """Prompt, chosen and rejected of a row of any known format."""
    if "output_A" in value or "output_B" in value:
        return _halos(value)
    missing = [field for field in ("chosen", "rejected") if value.get(field) is None]
    if missing:
        raise RowRejected(RejectReason.MISSING_FIELD, f"No field {missing[0]!r}.")
    _check_scores(value.get("score_chosen"), value.get("score_rejected"))
    if value.get("prompt") is None:
        return _implicit(value["chosen"], value["rejected"])
    return _explicit(value["prompt"], value["chosen"], value["rejected"])


def _explicit(prompt: object, chosen: object, rejected: object) -> Triple:
    """A given prompt; answers are texts, messages, or whole conversations that repeat it."""
    if isinstance(chosen, str) or isinstance(rejected, str):
        return (
            _prompt(prompt),
            text_turn(chosen, role=Role.ASSISTANT, field="chosen"),
            text_turn(rejected, role=Role.ASSISTANT, field="rejected"),
        )
    answers = parse_messages(chosen, field="chosen"), parse_messages(rejected, field="rejected")
    if all(answer and answer[0].role is not Role.ASSISTANT for answer in answers):
        found = _split_shared(*answers)  # UltraFeedback-binarized: prompt is repeated in both
        _check_repeated(prompt, found[0])
        return found
    return _prompt(prompt), *answers


def _check_repeated(prompt: object, shared: tuple[Turn, ...]) -> None:
    """Refuse a prompt that has nothing to do with what both conversations begin with."""
    asked = " ".join(" ".join(t.content for t in _prompt(prompt)).split())
    said = [" ".join(turn.content.split()) for turn in shared if turn.role is Role.USER]
    if not any(text in asked or asked in text for text in said):
        raise RowRejected(
            RejectReason.NO_SHARED_PROMPT, "The prompt is not what the conversations begin with."
        )


def _prompt(prompt: object) -> tuple[Turn, ...]:
    """A prompt given as messages, as text, or as Anthropic's text that ends in "Assistant:"."""
    if not isinstance(prompt, str):
        return parse_messages(prompt, field="prompt")
    if not is_hh(prompt):
        return text_turn(prompt, role=Role.USER, field="prompt")
    turns = parse_hh(prompt)
    return turns[:-1] if not turns[-1].content else turns


def _implicit(chosen: object, rejected: object) -> Triple:
    """No prompt field: it is what both answers begin with."""
    if isinstance(chosen, str) and isinstance(rejected, str):
        if is_hh(chosen) and is_hh(rejected):
            return _split_shared(parse_hh(chosen), parse_hh(rejected))
        return _split_text(chosen, rejected)
    return _split_shared(
        parse_messages(chosen, field="chosen"), parse_messages(rejected, field="rejected")
    )


def _split_shared(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> Triple:
    shared = shared_turns(chosen, rejected)
    if shared == len(chosen) == len(rejected):
        raise RowRejected(RejectReason.SAME_ANSWERS, "Both conversations are the same.")
    while shared and chosen[shared - 1].role is not Role.USER:
        shared -= 1
    if not shared:
        raise RowRejected(
            RejectReason.NO_SHARED_PROMPT, "The conversations begin with different turns."
        )
    return chosen[:shared], chosen[shared:], rejected[shared:]


def _split_text(chosen: str, rejected: str) -> Triple:
    """The common beginning of two texts, cut back to the end of a word."""
    if chosen == rejected:
        raise RowRejected(RejectReason.SAME_ANSWERS, "Both texts are the same.")
    count = 0
    for left, right in zip(chosen, rejected, strict=False):
        if left != right:
            break
        count += 1
    while count and not chosen[count - 1].isspace():
        count -= 1
    if not chosen[:count].strip():
        raise RowRejected(RejectReason.NO_SHARED_PROMPT, "The texts begin differently.")
    return (
        text_turn(chosen[:count].rstrip(), role=Role.USER, field="prompt"),
        text_turn(chosen[count:], role=Role.ASSISTANT, field="chosen"),
        text_turn(rejected[count:], role=Role.ASSISTANT, field="rejected"),
    )


def _halos(value: Mapping[str, object]) -> Triple:
    """HALOs pairwise feedback: label 1 prefers output_A, 0 prefers output_B."""
    for field in ("prompt", "output_A", "output_B", "label"):
        if value.get(field) is None:
            raise RowRejected(RejectReason.MISSING_FIELD, f"No field {field!r}.")
    if value["label"] not in (0, 1):
        raise RowRejected(RejectReason.WRONG_TYPE, f"label is {value['label']!r}, not 0 or 1.")
    prompt = parse_messages(value["prompt"], field="prompt")
    answers = [parse_messages(value[field], field=field) for field in ("output_A", "output_B")]
    scores = [value.get("reward_A"), value.get("reward_B")]
    best = 0 if value["label"] == 1 else 1
    _check_scores(scores[best], scores[1 - best])
    return prompt, answers[best], answers[1 - best]


def _check_scores(chosen: object, rejected: object) -> None:
    if isinstance(chosen, int | float) and isinstance(rejected, int | float) and chosen < rejected:
        raise RowRejected(
            RejectReason.SCORES_DISAGREE, f"chosen scored {chosen}, rejected {rejected}."
        )


def _check_new(pair: PreferencePair, seen: dict[tuple[str, str, str], int]) -> None:
    prompt, chosen, rejected = map(turns_key, (pair.prompt, pair.chosen, pair.rejected))
    twin = seen.get((prompt, chosen, rejected))
    if twin is not None:
        raise RowRejected(RejectReason.DUPLICATE, f"Row {twin} says the same.")
    opposite = seen.get((prompt, rejected, chosen))
    if opposite is not None:
        raise RowRejected(RejectReason.CONTRADICTION, f"Row {opposite} prefers the opposite.")
    seen[prompt, chosen, rejected] = pair.row


def split_of(row: Row, turns: tuple[Turn, ...], held_out_share: float) -> Split:
    """The split that a row, its file or a folder above it names, or else its prompt's hash.

    >>> row = Row(number=0, value={}, preview="", part="data/test_prefs-00000-of-00001")
    >>> split_of(row, (), 0.0).value
    'eval'
    """
    named = row.value.get("split") if isinstance(row.value, Mapping) else None
    words = [_first_word(name) for name in reversed(row.part.split("/"))]
    word = next((word for word in words if word in _SPLITS), None)
    if isinstance(named, str):
        word = _first_word(named)
    if word is not None:
        return Split.EVAL if word in _EVAL_SPLITS else Split.TRAIN
    digest = hashlib.sha256(turns_key(turns).encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return Split.EVAL if position < held_out_share else Split.TRAIN


def _first_word(name: str) -> str:
    found = _FIRST_WORD.match(name.lower())
    return found.group() if found else ""
