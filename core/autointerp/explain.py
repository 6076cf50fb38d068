"""Prompts that ask for an explanation, in three styles of evidence."""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache

from core.autointerp.answers import read_explanation
from core.autointerp.highlights import active_positions, marked_text
from core.autointerp.lookup import explain_by_lookup
from core.autointerp.records import (
    SPARSE_BELOW,
    format_scaled,
    max_activation,
    normalise_openai,
    scaled_records,
    scaled_share,
)
from core.autointerp.text import one_line, unused_delimiters, visible
from core.autointerp.wording import (
    Language,
    PromptName,
    Wording,
    few_shot_features,
    few_shot_neurons,
    few_shot_top_tokens,
    token_list,
    wording,
)
from core.domain.activation import ActivationRecord
from core.domain.explanation import (
    Answer,
    EvidenceStyle,
    Explanation,
    ExplanationMethod,
    Failure,
    Outcome,
)
from core.domain.llm import ChatRequest, Message, Plan, Purpose, Question, Reply
from core.domain.preference import Role
from core.errors import Invalid

MAX_TOKENS = 100
MAX_LISTED = 11

_Turn = tuple[str, str]  # what the user asks, what the assistant answers


def explain_from_records(
    records: Sequence[ActivationRecord],
    *,
    language: Language = Language.EN,
    temperature: float = 1.0,
    sample: int = 0,
) -> Question[Explanation]:
    """Ask from rows ``token<tab>activation``, with the non-zero rows repeated when they are sparse.

    The largest activation of these records becomes 10. ``sample`` numbers repeated questions.

    Raises:
        Invalid: no record has a positive activation.
    """
    _check_firing(records)
    words = wording(PromptName.EXPLAIN_RECORDS, language)
    turns = _record_examples(language)
    last = _record_turn(words, len(turns) + 1, records)
    messages = _conversation(words.system(shown=last), turns, last)
    return _question(
        messages, words, EvidenceStyle.RECORDS, len(records), temperature=temperature, sample=sample
    )


def explain_from_highlights(
    records: Sequence[ActivationRecord],
    *,
    language: Language = Language.EN,
    temperature: float = 1.0,
    sample: int = 0,
) -> Question[Explanation]:
    """Ask from running text with marked tokens, in delphi's manner.

    Marks are ``<<`` and ``>>``, or others where the text holds one of these.

    Raises:
        Invalid: no record has a positive activation.
    """
    _check_firing(records)
    words = wording(PromptName.EXPLAIN_HIGHLIGHTS, language)
    marks = unused_delimiters(visible("".join(t for record in records for t in record.tokens)))
    last = _highlight_turn(words, records, marks)
    system = words.system(shown=last, open=marks[0], close=marks[1])
    return _question(
        _conversation(system, _highlight_examples(language, marks), last),
        words,
        EvidenceStyle.HIGHLIGHTS,
        len(records),
        temperature=temperature,
        sample=sample,
    )


def explain_from_tokens(
    tokens: Sequence[str],
    *,
    promoted: Sequence[str],
    suppressed: Sequence[str],
    language: Language = Language.EN,
    temperature: float = 1.0,
    sample: int = 0,
) -> Question[Explanation]:
    """Ask from the tokens a feature fires on most and the tokens it makes more and less likely.

    Raises:
        Invalid: no tokens at all.
    """
    if not tokens and not promoted:
        raise Invalid("No token to explain from.", hint="Choose a feature that fires.")
    words = wording(PromptName.EXPLAIN_TOKENS, language)
    last = _token_turn(words, tokens, promoted, suppressed)
    return _question(
        _conversation(words.system(shown=last), _token_examples(language), last),
        words,
        EvidenceStyle.TOKENS_AND_LOGITS,
        0,
        temperature=temperature,
        sample=sample,
    )


def explain_offline(records: Sequence[ActivationRecord]) -> Plan[Explanation]:
    """The token-lookup explanation as a plan without questions: no endpoint is needed."""
    return Plan(questions=(), join=lambda _: Answer(explain_by_lookup(records)))


@cache
def _record_examples(language: Language) -> tuple[_Turn, ...]:
    """The few-shot turns of rows; the same in every prompt."""
    words = wording(PromptName.EXPLAIN_RECORDS, language)
    turns = []
    for number, neuron in enumerate(few_shot_neurons(), start=1):
        shown = [record.record() for record in neuron.records]
        answer = words.fill("answer", explanation=neuron.explanation[language])
        turns.append((_record_turn(words, number, shown), answer))
    return tuple(turns)


@lru_cache(maxsize=32)
def _highlight_examples(language: Language, marks: tuple[str, str]) -> tuple[_Turn, ...]:
    """The few-shot turns of marked documents, by the marks in use."""
    words = wording(PromptName.EXPLAIN_HIGHLIGHTS, language)
    turns = []
    for feature in few_shot_features():
        shown = [record.record() for record in feature.records]
        answer = words.fill("answer", explanation=feature.explanation[language])
        turns.append((_highlight_turn(words, shown, marks), answer))
    return tuple(turns)


@cache
def _token_examples(language: Language) -> tuple[_Turn, ...]:
    """The few-shot turns of top tokens; the same in every prompt."""
    words = wording(PromptName.EXPLAIN_TOKENS, language)
    return tuple(
        (
            _token_turn(words, feature.tokens, feature.promoted, feature.suppressed),
            words.fill("answer", explanation=feature.explanation[language]),
        )
        for feature in few_shot_top_tokens()
    )


def _token_turn(
    words: Wording, tokens: Sequence[str], promoted: Sequence[str], suppressed: Sequence[str]
) -> str:
    return words.fill(
        "user",
        tokens=token_list(tuple(tokens)),
        promoted=token_list(tuple(promoted)),
        suppressed=token_list(tuple(suppressed)),
    )


def _record_turn(words: Wording, number: int, records: Sequence[ActivationRecord]) -> str:
    numbers = scaled_records(records)
    rows = format_scaled(records, numbers)
    repeated = 0 < scaled_share(numbers) < SPARSE_BELOW
    sparse = format_scaled(records, numbers, only_nonzero=True) if repeated else ""
    nonzero = words.fill("nonzero", records=sparse) if repeated else ""
    return words.fill("user", number=number, records=rows, nonzero=nonzero)


def _highlight_turn(
    words: Wording, records: Sequence[ActivationRecord], marks: tuple[str, str]
) -> str:
    top = max_activation(records)
    documents = []
    for number, record in enumerate(records, start=1):
        active = active_positions(record)
        values = normalise_openai(record.activations, max_activation=top)
        listed = [f"{visible(record.tokens[i])} = {values[i]}" for i in sorted(active)]
        text = marked_text(record.tokens, active, marks)
        documents.append(
            words.fill(
                "document",
                number=number,
                text=text,
                activations="; ".join(listed[:MAX_LISTED]) or "-",
            )
        )
    return words.fill("user", documents="\n\n".join(documents))


def _conversation(system: str, turns: Sequence[_Turn], last: str) -> tuple[Message, ...]:
    messages = [Message(role=Role.SYSTEM, content=system)]
    for user, answer in turns:
        messages.append(Message(role=Role.USER, content=user))
        messages.append(Message(role=Role.ASSISTANT, content=answer))
    return (*messages, Message(role=Role.USER, content=last))


def _question(
    messages: tuple[Message, ...],
    words: Wording,
    style: EvidenceStyle,
    n_records: int,
    *,
    temperature: float,
    sample: int,
) -> Question[Explanation]:
    request = ChatRequest(
        purpose=Purpose.EXPLAIN,
        messages=messages,
        max_tokens=MAX_TOKENS,
        temperature=temperature,
        template=words.label,
        sample=sample,
    )
    read = _reader(words.label, style, n_records)
    return Question(request=request, read=read, repair=words.ask_again)


def _reader(
    label: str, style: EvidenceStyle, n_records: int
) -> Callable[[Reply], Outcome[Explanation]]:
    def read(reply: Reply) -> Outcome[Explanation]:
        match read_explanation(reply):
            case Failure() as failed:
                return failed
            case Answer(text):
                return Answer(
                    Explanation(
                        text=text,
                        method=ExplanationMethod.LLM,
                        author=one_line(reply.model),
                        style=style,
                        template=label,
                        n_records=n_records,
                    )
                )

    return read


def _check_firing(records: Sequence[ActivationRecord]) -> None:
    if max_activation(records) <= 0:
        raise Invalid(
            "The feature fires in none of these records.",
            hint="Choose a feature that fires, or other records.",
        )
