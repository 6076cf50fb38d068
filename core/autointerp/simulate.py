"""Plans that predict a context's activations from an explanation.

all at once
    One prompt whose rows all say ``unknown``; the log-probabilities of the prompt's own tokens
    tell what would have stood there. One request a context; needs prompt log-probabilities.
one at a time
    One request a token, answered by a single number with its alternatives. Dear, but most servers
    can do it.
schema
    One request a context, answered in JSON by token index. No distribution is known.
token lookup
    No request at all: the offline baseline.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from core.autointerp.answers import read_one_token, read_sparse_activations
from core.autointerp.beliefs import Belief
from core.autointerp.lookup import AUTHOR, TokenLookup
from core.autointerp.records import SCALE_TOP
from core.autointerp.text import one_line, visible
from core.autointerp.unknowns import UnknownRows, read_prompt, unknown_rows
from core.autointerp.wording import (
    Language,
    PromptName,
    few_shot_documents,
    few_shot_tokens,
    wording,
)
from core.domain.explanation import (
    MIN_COVERAGE,
    Answer,
    Failure,
    FailureCode,
    Outcome,
    Simulation,
    SimulationMode,
)
from core.domain.llm import (
    AnswerSchema,
    ChatRequest,
    Message,
    Plan,
    PromptRequest,
    Purpose,
    Question,
    Reply,
)
from core.domain.preference import Role
from core.errors import Invalid

TOP_LOGPROBS = 20
PROMPT_LOGPROBS = 15
_TOKENS_PER_ENTRY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSetting:
    """How to simulate with one endpoint.

    Attributes:
        scale_top: 10, or 9 for a tokenizer in which "10" is two tokens.
        ids: token ids of pieces of text, by the simulator's tokenizer; needed for prompts by id.
            ``pieces_to_tokenise`` names those that a context needs.
        bos: ids that start a prompt.
        native: prompts go by SGLang's own interface.
        lookup: the table behind mode token_lookup.
    """

    mode: SimulationMode
    language: Language = Language.EN
    scale_top: int = SCALE_TOP
    ids: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    bos: tuple[int, ...] = ()
    native: bool = False
    lookup: TokenLookup | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """Beliefs read out of one reply, and who replied."""

    beliefs: tuple[Belief, ...]
    judge: str


def simulation_plan(
    setting: SimulatorSetting, explanation: str, tokens: Sequence[str]
) -> Plan[Simulation]:
    """What to ask so as to predict the activations of these tokens.

    The explanation is made one harmless line first, wherever it came from.

    Raises:
        Invalid: no tokens, or the setting lacks what its mode needs.
    """
    if not tokens:
        raise Invalid("A context without tokens cannot be simulated.", hint="Leave it out.")
    line = one_line(explanation).removesuffix(".").removesuffix("。")
    match setting.mode:
        case SimulationMode.ALL_AT_ONCE:
            return _all_at_once(setting, line, tokens)
        case SimulationMode.ONE_AT_A_TIME:
            return _one_at_a_time(setting, line, tokens)
        case SimulationMode.SCHEMA:
            return _by_schema(setting, line, tokens)
        case SimulationMode.TOKEN_LOOKUP:
            return _by_lookup(setting, tokens)


def pieces_to_tokenise(
    setting: SimulatorSetting, explanation: str, tokens: Sequence[str]
) -> tuple[str, ...]:
    """Texts whose ids an all-at-once prompt needs and the setting does not have yet."""
    if setting.mode is not SimulationMode.ALL_AT_ONCE:
        return ()
    rows = _rows(setting, one_line(explanation).removesuffix(".").removesuffix("。"), tokens)
    return tuple(piece for piece in rows.pieces if piece not in setting.ids)


def simulation_label(setting: SimulatorSetting) -> str:
    """Name, version and hash of the template that this setting uses; empty for the lookup."""
    names = {
        SimulationMode.ALL_AT_ONCE: PromptName.SIMULATE_TEXT,
        SimulationMode.ONE_AT_A_TIME: PromptName.SIMULATE_TOKEN,
        SimulationMode.SCHEMA: PromptName.SIMULATE_SCHEMA,
    }
    name = names.get(setting.mode)
    return wording(name, setting.language).label if name else ""


def _rows(setting: SimulatorSetting, line: str, tokens: Sequence[str]) -> UnknownRows:
    words = wording(PromptName.SIMULATE_TEXT, setting.language)
    return unknown_rows(words, line, tokens, scale_top=setting.scale_top)


def _all_at_once(setting: SimulatorSetting, line: str, tokens: Sequence[str]) -> Plan[Simulation]:
    rows = _rows(setting, line, tokens)
    placed = rows.by_ids(setting.ids, bos=setting.bos) if setting.ids else None
    request = PromptRequest(
        purpose=Purpose.SIMULATE,
        token_ids=placed.token_ids if placed else None,
        text=rows.text,
        top_logprobs=PROMPT_LOGPROBS,
        places=placed.places if placed else (),
        native=setting.native,
        template=simulation_label(setting),
    )

    def read(reply: Reply) -> Outcome[Believed]:
        return _believed(read_prompt(reply, rows, placed, scale_top=setting.scale_top), reply)

    return _context_plan(setting, Question(request=request, read=read))


def _by_schema(setting: SimulatorSetting, line: str, tokens: Sequence[str]) -> Plan[Simulation]:
    words = wording(PromptName.SIMULATE_SCHEMA, setting.language)
    turns: list[Message] = []
    for document in few_shot_documents():
        record = document.record.record()
        asked = _document_json(document.explanation[setting.language], record.tokens)
        pairs = [(i, round(a)) for i, a in enumerate(record.activations) if a > 0]
        answer = json.dumps({"nonzero": [{"i": i, "a": a} for i, a in pairs]})
        turns.append(Message(role=Role.USER, content=asked))
        turns.append(Message(role=Role.ASSISTANT, content=answer))
    last = _document_json(line, tokens)
    request = ChatRequest(
        purpose=Purpose.SIMULATE,
        messages=(
            Message(role=Role.SYSTEM, content=words.system(shown=last)),
            *turns,
            Message(role=Role.USER, content=last),
        ),
        max_tokens=64 + _TOKENS_PER_ENTRY * len(tokens),
        schema=_activation_schema(len(tokens)),
        template=words.label,
    )

    def read(reply: Reply) -> Outcome[Believed]:
        return _believed(read_sparse_activations(reply, len(tokens)), reply)

    return _context_plan(setting, Question(request=request, read=read, repair=words.ask_again))


def _one_at_a_time(setting: SimulatorSetting, line: str, tokens: Sequence[str]) -> Plan[Simulation]:
    words = wording(PromptName.SIMULATE_TOKEN, setting.language)
    turns: list[Message] = []
    for example in few_shot_tokens():
        text, token = visible("".join(example.tokens)), visible(example.tokens[-1])
        explained = example.explanation[setting.language]
        asked = words.fill("user", explanation=explained, text=text, token=token)
        number = str(min(example.activation, setting.scale_top))
        turns.append(Message(role=Role.USER, content=asked))
        turns.append(Message(role=Role.ASSISTANT, content=number))
    system = words.system(shown=visible("".join(tokens)), top=setting.scale_top)
    head = (Message(role=Role.SYSTEM, content=system), *turns)

    def question(place: int) -> Question[Believed]:
        text = visible("".join(tokens[: place + 1]))
        asked = words.fill("user", explanation=line, text=text, token=visible(tokens[place]))
        request = ChatRequest(
            purpose=Purpose.SIMULATE,
            messages=(*head, Message(role=Role.USER, content=asked)),
            max_tokens=2 if setting.scale_top == SCALE_TOP else 1,
            top_logprobs=TOP_LOGPROBS,
            template=words.label,
        )
        return Question(request=request, read=_token_reader(setting.scale_top))

    questions = tuple(question(place) for place in range(len(tokens)))
    return Plan(questions=questions, join=lambda outcomes: _join_tokens(setting, outcomes))


def _by_lookup(setting: SimulatorSetting, tokens: Sequence[str]) -> Plan[Simulation]:
    table = setting.lookup
    if table is None:
        raise Invalid("Token lookup needs a table.", hint="Build one from held-out records.")
    values = tuple(belief.expected for belief in table.simulate(tokens))
    simulation = Simulation(
        values=values,
        mode=SimulationMode.TOKEN_LOOKUP,
        scale_top=SCALE_TOP,
        mass=None,
        judge=AUTHOR,
    )
    return Plan(questions=(), join=lambda _: Answer(simulation))


def _token_reader(top: int) -> Callable[[Reply], Outcome[Believed]]:
    def read(reply: Reply) -> Outcome[Believed]:
        outcome = read_one_token(reply, top=top)
        match outcome:
            case Answer(belief):
                return Answer(Believed(beliefs=(belief,), judge=reply.model))
            case Failure() as failed:
                return failed

    return read


def _believed(outcome: Outcome[tuple[Belief, ...]], reply: Reply) -> Outcome[Believed]:
    match outcome:
        case Answer(beliefs):
            return Answer(Believed(beliefs=beliefs, judge=reply.model))
        case Failure() as failed:
            return failed


def _context_plan(setting: SimulatorSetting, question: Question[Believed]) -> Plan[Simulation]:
    def join(outcomes: Sequence[Outcome[Believed]]) -> Outcome[Simulation]:
        match outcomes[0]:
            case Answer(believed):
                return Answer(_simulation(setting, believed.beliefs, believed.judge))
            case Failure() as failed:
                return failed

    return Plan(questions=(question,), join=join)


def _join_tokens(
    setting: SimulatorSetting, outcomes: Sequence[Outcome[Believed]]
) -> Outcome[Simulation]:
    answered = [o.value for o in outcomes if isinstance(o, Answer)]
    failed = [o for o in outcomes if isinstance(o, Failure)]
    if len(answered) < MIN_COVERAGE * len(outcomes):
        code = Counter(f.code for f in failed).most_common(1)[0][0]
        first = next(f for f in failed if f.code is code)
        return Failure(
            code=FailureCode(code),
            message=f"{len(failed)} of {len(outcomes)} tokens failed; {first.message}",
            raw=first.raw,
        )
    beliefs = [o.value.beliefs[0] if isinstance(o, Answer) else None for o in outcomes]
    return Answer(_simulation(setting, beliefs, answered[0].judge))


def _simulation(
    setting: SimulatorSetting, beliefs: Sequence[Belief | None], judge: str
) -> Simulation:
    masses = [b.mass for b in beliefs if b is not None and b.mass is not None]
    return Simulation(
        values=tuple(None if b is None else b.expected for b in beliefs),
        mode=setting.mode,
        scale_top=setting.scale_top if setting.mode is not SimulationMode.SCHEMA else SCALE_TOP,
        mass=sum(masses) / len(masses) if masses else None,
        judge=judge,
    )


def _document_json(explanation: str, tokens: Sequence[str]) -> str:
    document = {
        "explanation": explanation,
        "tokens": [{"i": i, "token": visible(token)} for i, token in enumerate(tokens)],
    }
    return json.dumps(document, ensure_ascii=False)


def _activation_schema(n: int) -> AnswerSchema:
    entry = {
        "type": "object",
        "properties": {
            "i": {"type": "integer", "minimum": 0, "maximum": n - 1},
            "a": {"type": "integer", "minimum": 1, "maximum": SCALE_TOP},
        },
        "required": ["i", "a"],
        "additionalProperties": False,
    }
    schema = {
        "type": "object",
        "properties": {"nonzero": {"type": "array", "items": entry, "maxItems": n}},
        "required": ["nonzero"],
        "additionalProperties": False,
    }
    return AnswerSchema.of("activations", schema)
