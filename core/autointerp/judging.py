"""Detection and fuzzing: a judge says which contexts, or which marks, fit an explanation."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from core.autointerp.answers import Verdict, read_verdicts
from core.autointerp.highlights import active_positions, marked_text, mean_active, wrong_positions
from core.autointerp.sampling import SpecimenSplit
from core.autointerp.text import one_line, unused_delimiters, visible
from core.autointerp.wording import Language, PromptName, Wording, few_shot_judged, wording
from core.domain.activation import ActivationRecord
from core.domain.explanation import Answer, Failure, Outcome, ScoreKind
from core.domain.llm import (
    AnswerSchema,
    ChatRequest,
    Message,
    Plan,
    Purpose,
    Question,
    Reply,
)
from core.domain.preference import Role
from core.errors import Invalid

BATCH = 5
VERDICT_LOGPROBS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedContext:
    """A context put before a judge.

    Attributes:
        label: the right answer: whether the feature fires here, or whether all marks are right.
        marked: marked positions for fuzzing; None for detection.
    """

    record: ActivationRecord
    context_index: int
    label: bool
    marked: frozenset[int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """One outcome a context, in the contexts' order, and who judged."""

    verdicts: tuple[Outcome[Verdict], ...]
    judge: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeSetting:
    """How to judge with one endpoint.

    Attributes:
        batch: contexts in one prompt; the last batch may be shorter.
        with_logprobs: ask for log-probabilities, so that AUROC exists.
        with_schema: ask for JSON by a schema instead of a plain list.
    """

    language: Language = Language.EN
    batch: int = BATCH
    with_logprobs: bool = True
    with_schema: bool = False


def detection_contexts(split: SpecimenSplit, *, rng: random.Random) -> tuple[JudgedContext, ...]:
    """Firing and silent contexts in random order; the right answer is whether it fires."""
    contexts = [
        JudgedContext(record=s.record, context_index=s.context_index, label=s.firing)
        for s in (*split.positives, *split.negatives)
    ]
    rng.shuffle(contexts)
    return tuple(contexts)


def fuzzing_contexts(
    split: SpecimenSplit, *, rng: random.Random, hard: bool = False
) -> tuple[JudgedContext, ...]:
    """Contexts with right marks and contexts with wrong marks, in random order.

    Wrong marks are as many as right ones on average and stand at positions drawn anew for each
    context; in silent contexts, or, when ``hard``, in the firing contexts themselves.
    """
    positives = [
        JudgedContext(
            record=s.record,
            context_index=s.context_index,
            label=True,
            marked=active_positions(s.record),
        )
        for s in split.positives
    ]
    n_wrong = mean_active([s.record for s in split.positives])
    negatives = [
        JudgedContext(
            record=s.record,
            context_index=s.context_index,
            label=False,
            marked=wrong_positions(s.record, n_wrong, rng=rng),
        )
        for s in (split.positives if hard else split.negatives)
    ]
    contexts = [*positives, *(c for c in negatives if c.marked)]
    rng.shuffle(contexts)
    return tuple(contexts)


def judging_plan(
    kind: ScoreKind, setting: JudgeSetting, explanation: str, contexts: Sequence[JudgedContext]
) -> Plan[Judgement]:
    """What to ask so as to have every context judged; one question a batch.

    A batch that fails fails for each of its contexts, with the same code. Without contexts nothing
    is asked.

    Raises:
        Invalid: batches of no contexts.
    """
    if setting.batch < 1:
        raise Invalid("A batch holds at least one context.", hint="Choose a larger batch.")
    name = PromptName.DETECT if kind is ScoreKind.DETECTION else PromptName.FUZZ
    words = wording(name, setting.language)
    line = one_line(explanation)
    batches = [contexts[i : i + setting.batch] for i in range(0, len(contexts), setting.batch)]
    questions = tuple(_question(words, setting, line, batch) for batch in batches)

    def join(outcomes: Sequence[Outcome[_Batch]]) -> Outcome[Judgement]:
        verdicts: list[Outcome[Verdict]] = []
        judge = ""
        for batch, outcome in zip(batches, outcomes, strict=True):
            match outcome:
                case Answer(answered):
                    verdicts += [Answer(verdict) for verdict in answered.verdicts]
                    judge = answered.judge
                case Failure() as failed:
                    verdicts += [failed] * len(batch)
        return Answer(Judgement(verdicts=tuple(verdicts), judge=judge))

    return Plan(questions=questions, join=join)


def judging_label(kind: ScoreKind, language: Language) -> str:
    """Name, version and hash of the template that judges this kind."""
    name = PromptName.DETECT if kind is ScoreKind.DETECTION else PromptName.FUZZ
    return wording(name, language).label


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    verdicts: tuple[Verdict, ...]
    judge: str


def _question(
    words: Wording, setting: JudgeSetting, explanation: str, batch: Sequence[JudgedContext]
) -> Question[_Batch]:
    form = words.verdicts["json" if setting.with_schema else "list"]
    plain = [visible("".join(context.record.tokens)) for context in batch]
    marks = unused_delimiters("".join(plain))
    pairs = zip(batch, plain, strict=True)
    texts = [
        text
        if context.marked is None
        else marked_text(context.record.tokens, context.marked, marks)
        for context, text in pairs
    ]
    asked = _documents(words, explanation, texts)
    system = words.system(shown=asked, format=form, open=marks[0], close=marks[1])
    request = ChatRequest(
        purpose=Purpose.DETECT if words.name is PromptName.DETECT else Purpose.FUZZ,
        messages=(
            Message(role=Role.SYSTEM, content=system),
            *_few_shot(words.name, words.language, marks, with_schema=setting.with_schema),
            Message(role=Role.USER, content=asked),
        ),
        max_tokens=32 + 4 * len(batch),
        schema=_verdict_schema(len(batch)) if setting.with_schema else None,
        top_logprobs=VERDICT_LOGPROBS if setting.with_logprobs else 0,
        template=words.label,
    )

    def read(reply: Reply) -> Outcome[_Batch]:
        match read_verdicts(reply, len(batch)):
            case Answer(verdicts):
                return Answer(_Batch(verdicts=verdicts, judge=reply.model))
            case Failure() as failed:
                return failed

    return Question(request=request, read=read, repair=words.ask_again)


@lru_cache(maxsize=64)
def _few_shot(
    name: PromptName, language: Language, marks: tuple[str, str], *, with_schema: bool
) -> tuple[Message, ...]:
    """The few-shot turns; the same in every prompt but for the marks."""
    words = wording(name, language)
    turns: list[Message] = []
    for example in few_shot_judged(name):
        texts = [t.replace("{", marks[0]).replace("}", marks[1]) for t in example.texts]
        asked = _documents(words, example.explanation[language], texts)
        answer = str(list(example.verdicts))
        turns.append(Message(role=Role.USER, content=asked))
        turns.append(
            Message(
                role=Role.ASSISTANT,
                content=f'{{"verdicts": {answer}}}' if with_schema else answer,
            )
        )
    return tuple(turns)


def _documents(words: Wording, explanation: str, texts: Sequence[str]) -> str:
    numbered = [words.fill("document", number=i, text=t) for i, t in enumerate(texts, start=1)]
    return words.fill("user", explanation=explanation, documents="\n".join(numbered))


@lru_cache(maxsize=64)
def _verdict_schema(n: int) -> AnswerSchema:
    verdicts = {
        "type": "array",
        "items": {"type": "integer", "enum": [0, 1]},
        "minItems": n,
        "maxItems": n,
    }
    schema = {
        "type": "object",
        "properties": {"verdicts": verdicts},
        "required": ["verdicts"],
        "additionalProperties": False,
    }
    return AnswerSchema.of("verdicts", schema)
