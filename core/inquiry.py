"""Inquiries: simulations and judgements of one explanation carried out against one endpoint.

Where ``core.autointerp`` (what to ask) and ``core.llm`` (how to ask) meet. With an offline setting
nothing is sent and no client is needed.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from core.autointerp.embedding import Similarities, embedding_plan
from core.autointerp.judging import JudgedContext, Judgement, JudgeSetting, judging_plan
from core.autointerp.lookup import TokenLookup
from core.autointerp.scoring import SimulatedRecord
from core.autointerp.simulate import (
    SimulatorSetting,
    pieces_to_tokenise,
    simulation_plan,
)
from core.autointerp.wording import Language
from core.domain.activation import ActivationRecord
from core.domain.explanation import (
    Answer,
    Failure,
    FailureCode,
    Outcome,
    ScoreKind,
    Simulation,
    SimulationMode,
)
from core.domain.llm import ModelRequest, Reply
from core.errors import LlmUnsupported
from core.llm.ask import carry_out
from core.llm.capabilities import Capabilities, PromptLogprobs
from core.llm.client import ChatModel, LlmClient
from core.llm.tokenizer import TokenTable


class NoModel:
    """The model of somebody who has none: every request fails; offline plans never make one."""

    async def reply(self, request: ModelRequest, *, item: str = "") -> Outcome[Reply]:  # noqa: ARG002
        """A failure."""
        return Failure(code=FailureCode.OFFLINE, message="No endpoint is configured.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulator:
    """A model with the setting by which it simulates.

    Attributes:
        table: token ids of the prompt's pieces, for prompts by id; None for the other modes.
    """

    model: ChatModel
    setting: SimulatorSetting
    table: TokenTable | None = None


def simulator(
    client: LlmClient,
    capabilities: Capabilities,
    *,
    language: Language = Language.EN,
    mode: SimulationMode | None = None,
    table: TokenTable | None = None,
) -> Simulator:
    """The best simulator that an endpoint can be, or the one of the mode that is asked for.

    Args:
        client: asks the endpoint.
        capabilities: what it can do.
        language: of the prompts.
        mode: None takes the best.
        table: token ids of that client; share it between simulators, since they ask for the same.

    Raises:
        LlmUnsupported: the endpoint cannot simulate, or not in this mode.
    """
    if not capabilities.modes or (mode is not None and mode not in capabilities.modes):
        able = ", ".join(capabilities.modes) or "none"
        raise LlmUnsupported(
            f"The endpoint cannot simulate by {mode or 'any mode'}.",
            hint=f"Modes that work there: {able}.",
        )
    chosen = mode or capabilities.modes[0]
    by_ids = chosen is SimulationMode.ALL_AT_ONCE and capabilities.tokenizer
    if table is None or not by_ids:
        table = TokenTable(client) if by_ids else None
    setting = SimulatorSetting(
        mode=chosen,
        language=language,
        scale_top=capabilities.scale_top,
        ids=table if table is not None else {},
        bos=capabilities.bos,
        native=capabilities.prompt_logprobs is PromptLogprobs.NATIVE,
    )
    return Simulator(model=client, setting=setting, table=table)


def offline_simulator(lookup: TokenLookup) -> Simulator:
    """The token-lookup baseline as a simulator."""
    setting = SimulatorSetting(mode=SimulationMode.TOKEN_LOOKUP, lookup=lookup)
    return Simulator(model=NoModel(), setting=setting)


async def simulate(
    simulator: Simulator, explanation: str, records: Sequence[ActivationRecord], *, item: str = ""
) -> tuple[SimulatedRecord, ...]:
    """Every record with the outcome of simulating it, in their order."""
    outcomes = await asyncio.gather(
        *(simulate_tokens(simulator, explanation, record.tokens, item=item) for record in records)
    )
    return tuple(
        SimulatedRecord(record=record, outcome=outcome)
        for record, outcome in zip(records, outcomes, strict=True)
    )


async def simulate_tokens(
    simulator: Simulator, explanation: str, tokens: Sequence[str], *, item: str = ""
) -> Outcome[Simulation]:
    """Predicted activations of these tokens, or why there are none."""
    setting = simulator.setting
    if simulator.table is not None:
        try:
            await simulator.table.learn(pieces_to_tokenise(setting, explanation, tokens))
        except LlmUnsupported as error:
            return Failure(code=FailureCode.UNSUPPORTED, message=error.message)
    return await carry_out(
        simulation_plan(setting, explanation, tokens), simulator.model, item=item
    )


async def compare(
    model: ChatModel, explanation: str, contexts: Sequence[JudgedContext], *, item: str = ""
) -> Similarities:
    """The similarity of every context with an explanation, in their order."""
    outcome = await carry_out(embedding_plan(explanation, contexts), model, item=item)
    match outcome:
        case Answer(found):
            return found
        case Failure() as failed:
            return Similarities(cosines=(failed,) * len(contexts), embedder="")


async def judge(
    kind: ScoreKind,
    model: ChatModel,
    setting: JudgeSetting,
    explanation: str,
    contexts: Sequence[JudgedContext],
    *,
    item: str = "",
) -> Judgement:
    """One outcome a context, in their order."""
    outcome = await carry_out(judging_plan(kind, setting, explanation, contexts), model, item=item)
    match outcome:
        case Answer(judgement):
            return judgement
        case Failure() as failed:
            return Judgement(verdicts=(failed,) * len(contexts), judge="")
