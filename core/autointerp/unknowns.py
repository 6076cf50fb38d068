"""The all-at-once prompt in pieces: each ``unknown`` has a known place in ids and in text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.autointerp.alignment import read_unknowns
from core.autointerp.beliefs import Belief, belief_from_ids, expected_value
from core.autointerp.records import (
    END,
    SCALE_TOP,
    START,
    UNKNOWN,
    max_activation,
    normalise_openai,
)
from core.autointerp.text import visible
from core.autointerp.wording import FewShotNeuron, Wording, few_shot_neurons
from core.domain.activation import ActivationRecord
from core.domain.explanation import Answer, Failure, FailureCode, Outcome
from core.domain.llm import PromptToken, Reply
from core.errors import Invalid

_TAB, _BREAK = "\t", "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedIds:
    """A prompt as token ids, and where its ``unknown`` stand.

    Attributes:
        places: index in token_ids of the first id of each ``unknown``.
        number_ids: ids of each number of the scale.
        unknown_id: first id of ``unknown``.
    """

    token_ids: tuple[int, ...]
    places: tuple[int, ...]
    number_ids: Mapping[int, tuple[int, ...]]
    unknown_id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UnknownRows:
    """A prompt that ends in rows ``token<tab>unknown``.

    Attributes:
        head: everything up to and with the last ``<start>`` and its line break.
        tokens: the rows' tokens, made visible.
    """

    head: str
    tokens: tuple[str, ...]
    scale_top: int

    @property
    def text(self) -> str:
        """The whole prompt."""
        rows = _BREAK.join(f"{token}{_TAB}{UNKNOWN}" for token in self.tokens)
        return f"{self.head}{rows}\n{END}\n"

    @property
    def offsets(self) -> tuple[int, ...]:
        """Character offset of each ``unknown`` in the text."""
        offsets, place = [], len(self.head)
        for token in self.tokens:
            place += len(token) + 1
            offsets.append(place)
            place += len(UNKNOWN) + 1
        return tuple(offsets)

    @property
    def pieces(self) -> tuple[str, ...]:
        """Distinct texts to tokenise, each alone, special tokens off."""
        numbers = (str(number) for number in range(self.scale_top + 1))
        fixed = (self.head, _TAB, UNKNOWN, _BREAK, f"{END}\n", *numbers)
        return tuple(dict.fromkeys(p for p in (*fixed, *self.tokens) if p))

    def by_ids(self, ids: Mapping[str, tuple[int, ...]], *, bos: tuple[int, ...]) -> PlacedIds:
        """The prompt as ids, each row's pieces tokenised alone.

        Raises:
            Invalid: a piece has no ids, or a number is not one token.
        """
        missing = [piece for piece in self.pieces if piece not in ids]
        if missing:
            raise Invalid(f"{len(missing)} pieces are not tokenised.", hint="Tokenise them first.")
        split = [n for n in range(self.scale_top + 1) if len(ids[str(n)]) != 1]
        if split:
            raise Invalid(
                f"{split[0]} is not one token for this simulator.",
                hint="Use the scale 0-9 or another mode.",
            )
        sent = [*bos, *ids[self.head]]
        places = []
        for token in self.tokens:
            sent += [*(ids[token] if token else ()), *ids[_TAB]]
            places.append(len(sent))
            sent += [*ids[UNKNOWN], *ids[_BREAK]]
        sent += ids[f"{END}\n"]
        return PlacedIds(
            token_ids=tuple(sent),
            places=tuple(places),
            number_ids={n: ids[str(n)] for n in range(self.scale_top + 1)},
            unknown_id=ids[UNKNOWN][0],
        )


def unknown_rows(
    words: Wording, explanation: str, tokens: Sequence[str], *, scale_top: int
) -> UnknownRows:
    """The prompt for one context: few-shot neurons with some activations hidden, then the rows."""
    neurons = few_shot_neurons()
    shown = tuple(visible(token) for token in tokens)
    head = words.system(shown="".join(shown), top=scale_top)
    for number, neuron in enumerate(neurons, start=1):
        explained = neuron.explanation[words.language]
        head += words.fill("block", number=number, explanation=explained)
        head += _few_shot_block(neuron, scale_top)
    head += words.fill("block", number=len(neurons) + 1, explanation=explanation)
    return UnknownRows(head=f"{head}\n{START}\n", tokens=shown, scale_top=scale_top)


def read_prompt(
    reply: Reply, rows: UnknownRows, placed: PlacedIds | None, *, scale_top: int = SCALE_TOP
) -> Outcome[tuple[Belief, ...]]:
    """One belief a row, from the log-probabilities of the prompt's own tokens.

    By ids where ids were sent, else by recorded character offsets; the text is never searched.
    """
    if not any(place is not None and (place.by_id or place.by_text) for place in reply.prompt):
        return Failure(
            code=FailureCode.NO_LOGPROBS, message="The server sent no prompt log-probabilities."
        )
    if placed is not None:
        return _read_places(reply, placed)
    texts = [place.token if place is not None else "" for place in reply.prompt]
    candidates = [_on_scale(place, scale_top) for place in reply.prompt]
    return read_unknowns(texts, candidates, rows.offsets)


def _read_places(reply: Reply, placed: PlacedIds) -> Outcome[tuple[Belief, ...]]:
    n_sent, n_got = len(placed.token_ids), len(reply.prompt)
    if not n_sent <= n_got <= n_sent + 1:  # one generated token may follow
        return Failure(
            code=FailureCode.COUNT, message=f"{n_got} places for a prompt of {n_sent} tokens."
        )
    beliefs = []
    for place in placed.places:
        outcome = _belief_at(reply.prompt[place], placed)
        if isinstance(outcome, Failure):
            return outcome
        beliefs.append(outcome.value)
    return Answer(tuple(beliefs))


def _belief_at(token: PromptToken | None, placed: PlacedIds) -> Outcome[Belief]:
    if token is None or not (token.by_id or token.by_text):
        return Failure(code=FailureCode.NO_LOGPROBS, message="A row has no log-probabilities.")
    if not token.by_id:
        return expected_value(_on_scale(token, max(placed.number_ids)) or {})
    if placed.unknown_id not in token.by_id:
        return Failure(
            code=FailureCode.PARSE, message="A row's place does not hold the token that was sent."
        )
    return belief_from_ids(token.by_id, placed.number_ids)


def _on_scale(token: PromptToken | None, scale_top: int) -> Mapping[str, float] | None:
    if token is None or scale_top == SCALE_TOP:
        return None if token is None else token.by_text
    return {text: log for text, log in token.by_text.items() if text.strip() != "10"}


def _few_shot_block(neuron: FewShotNeuron, scale_top: int) -> str:
    records = [record.record() for record in neuron.records]
    top = max_activation(records)
    hidden = zip(records, neuron.first_revealed, strict=True)
    blocks = [_partly_hidden(record, n, top, scale_top) for record, n in hidden]
    return f"\n{START}\n" + f"\n{END}\n{START}\n".join(blocks) + f"\n{END}\n"


def _partly_hidden(record: ActivationRecord, n_hidden: int, top: float, scale_top: int) -> str:
    numbers = normalise_openai(record.activations, max_activation=top)
    cells = [UNKNOWN if i < n_hidden else str(min(n, scale_top)) for i, n in enumerate(numbers)]
    return "\n".join(f"{visible(t)}\t{c}" for t, c in zip(record.tokens, cells, strict=True))
