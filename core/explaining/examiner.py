"""One explanation tested: simulated or judged, beside its floors, with every example kept."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from core import inquiry
from core.autointerp.embedding import Similarities, embedding_measures, only_auroc
from core.autointerp.judging import (
    JudgedContext,
    Judgement,
    JudgeSetting,
    detection_contexts,
    fuzzing_contexts,
    judging_label,
)
from core.autointerp.lookup import TokenLookup, build_lookup
from core.autointerp.sampling import Specimen, SpecimenSplit
from core.autointerp.scoring import (
    SimulatedRecord,
    classification_floors,
    classification_score,
    simulation_floors,
    simulation_score,
    with_floors,
)
from core.autointerp.simulate import simulation_label
from core.autointerp.wording import Language
from core.domain.activation import ActivationRecord
from core.domain.explain_job import ScorerSetting
from core.domain.explanation import Answer, Failure, Floor, Score, ScoreKind
from core.domain.views_explain import JudgedExample, SimulatedExample
from core.errors import LlmUnsupported
from core.explaining.connection import Connection
from core.explaining.material import Material, draw_of
from core.llm.client import ChatModel

GROUPS = ("top", "random", "calibration")
_RAW_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """A score with everything behind it.

    Attributes:
        shuffled_with: the other feature's explanation; empty without that floor.
    """

    score: Score
    simulated: tuple[SimulatedExample, ...] = ()
    judged: tuple[JudgedExample, ...] = ()
    shuffled_with: str = ""

    @property
    def examples(self) -> tuple[SimulatedExample, ...] | tuple[JudgedExample, ...]:
        """Every example, simulated or judged."""
        return self.simulated or self.judged

    @property
    def has_failures(self) -> bool:
        """Whether anything failed, in the score or in its floors."""
        floors = self.score.floors.values()
        missing = (example.failure for example in self.examples)
        return any(missing) or any(under.failures for under in floors)


def simulator_of(setting: ScorerSetting, connection: Connection) -> inquiry.Simulator:
    """The endpoint as a simulator.

    Raises:
        LlmUnsupported: it cannot simulate, or not in the mode that is asked for.
    """
    return inquiry.simulator(
        connection.client,
        connection.capabilities,
        language=Language(setting.language),
        mode=setting.mode,
        table=connection.table,
    )


def embedder_of(connection: Connection | None) -> ChatModel:
    """The endpoint as a model that embeds.

    Raises:
        LlmUnsupported: there is none, or it embeds no texts.
    """
    if connection is None:
        raise LlmUnsupported("No endpoint embeds texts.", hint="Choose one with such a model.")
    if not connection.capabilities.embedding_size:
        raise LlmUnsupported(
            f"{connection.client.endpoint.model} embeds no texts.",
            hint="Serve an embedding model, then test the endpoint's connection anew.",
        )
    return connection.client


def judge_setting(setting: ScorerSetting, connection: Connection) -> JudgeSetting:
    """How the endpoint judges: with probabilities where it tells them, by a schema where it can.

    Raises:
        LlmUnsupported: it cannot chat.
    """
    able = connection.capabilities
    if not able.chat:
        raise LlmUnsupported(
            "The endpoint does not chat, so it cannot judge.", hint="Score by simulation."
        )
    return JudgeSetting(
        language=Language(setting.language),
        with_logprobs=able.chat_logprobs > 0,
        with_schema=able.json_schema,
    )


async def examine(
    kind: ScoreKind,
    text: str,
    split: SpecimenSplit,
    *,
    material: Material,
    setting: ScorerSetting,
    connection: Connection | None,
    shuffled: str | None,
    seed: int,
    embedder: Connection | None = None,
) -> Examination:
    """Test one explanation in one way.

    Args:
        kind: simulation, detection, fuzzing or embedding.
        text: the explanation.
        split: contexts that it was not made from.
        material: its feature.
        setting: how to score.
        connection: who simulates or judges; None is the token lookup table.
        shuffled: another feature's explanation; None leaves that floor out.
        seed: of the draws.
        embedder: who embeds texts; None where that is not asked for.

    Raises:
        LlmUnsupported: the endpoint lacks an ability.
    """
    item = str(material.feature)
    if kind is ScoreKind.SIMULATION:
        return await _by_simulation(
            text, split, setting=setting, connection=connection, shuffled=shuffled, item=item
        )
    rng = draw_of(seed, material.feature, kind.value)
    if kind is ScoreKind.EMBEDDING:
        contexts = detection_contexts(split, rng=rng)
        model = embedder_of(embedder)
        return await _by_embedding(text, contexts, split, model, shuffled=shuffled, item=item)
    if connection is None:
        raise LlmUnsupported("No endpoint judges.", hint="Choose an endpoint.")
    make = detection_contexts if kind is ScoreKind.DETECTION else fuzzing_contexts
    return await _by_judging(
        kind,
        text,
        make(split, rng=rng),
        split=split,
        setting=setting,
        connection=connection,
        shuffled=shuffled,
        item=item,
    )


async def _by_simulation(
    text: str,
    split: SpecimenSplit,
    *,
    setting: ScorerSetting,
    connection: Connection | None,
    shuffled: str | None,
    item: str,
) -> Examination:
    calibration = (*split.calibrate_top, *split.calibrate_random)
    scored = (*split.score_top, *split.score_random)
    lookup = build_lookup(s.record for s in split.held_out_from((*scored, *calibration)))
    if connection is None:
        simulator, shuffled = inquiry.offline_simulator(lookup), None
    else:
        simulator = simulator_of(setting, connection)
    groups = (split.score_top, split.score_random, calibration)
    simulated = await inquiry.simulate(
        simulator, text, [s.record for group in groups for s in group], item=item
    )
    top, rand, fit = _apart(simulated, [len(group) for group in groups])
    label = simulation_label(simulator.setting)
    score = simulation_score(top=top, random=rand, calibration=fit, template=label)
    floors = _table_floors(split, calibration, lookup)
    if shuffled is not None:
        other = await inquiry.simulate(simulator, shuffled, [s.record for s in scored], item=item)
        other_top, other_random = _apart(other, [len(top), len(rand)])
        floors[Floor.SHUFFLED] = simulation_score(
            top=other_top, random=other_random, template=label
        )
    specimens = [(name, s) for name, group in zip(GROUPS, groups, strict=True) for s in group]
    return Examination(
        score=with_floors(score, floors),
        simulated=tuple(
            _simulated(name, specimen, found)
            for (name, specimen), found in zip(specimens, simulated, strict=True)
        ),
        shuffled_with=shuffled or "",
    )


async def _by_embedding(
    text: str,
    contexts: Sequence[JudgedContext],
    split: SpecimenSplit,
    model: ChatModel,
    *,
    shuffled: str | None,
    item: str,
) -> Examination:
    found = await inquiry.compare(model, text, contexts, item=item)
    floors = _judged_floors(ScoreKind.EMBEDDING, contexts, split)
    floors = {floor: only_auroc(under) for floor, under in floors.items()}
    if shuffled is not None:
        other = await inquiry.compare(model, shuffled, contexts, item=item)
        floors[Floor.SHUFFLED] = embedding_measures(contexts, other)
    return Examination(
        score=with_floors(embedding_measures(contexts, found), floors),
        judged=_compared(contexts, found),
        shuffled_with=shuffled or "",
    )


async def _by_judging(
    kind: ScoreKind,
    text: str,
    contexts: Sequence[JudgedContext],
    *,
    split: SpecimenSplit,
    setting: ScorerSetting,
    connection: Connection,
    shuffled: str | None,
    item: str,
) -> Examination:
    how = judge_setting(setting, connection)
    label = judging_label(kind, how.language)
    judgement = await inquiry.judge(kind, connection.client, how, text, contexts, item=item)
    floors = _judged_floors(kind, contexts, split)
    if shuffled is not None:
        other = await inquiry.judge(kind, connection.client, how, shuffled, contexts, item=item)
        floors[Floor.SHUFFLED] = classification_score(kind, contexts, other, template=label)
    score = classification_score(kind, contexts, judgement, template=label)
    return Examination(
        score=with_floors(score, floors),
        judged=_judged(contexts, judgement),
        shuffled_with=shuffled or "",
    )


def _judged_floors(
    kind: ScoreKind, contexts: Sequence[JudgedContext], split: SpecimenSplit
) -> dict[Floor, Score]:
    taken = {context.context_index for context in contexts}
    held_out = (s.record for s in split.kept if s.context_index not in taken)
    return classification_floors(kind, contexts, build_lookup(held_out))


def _table_floors(
    split: SpecimenSplit, calibration: Sequence[Specimen], lookup: TokenLookup
) -> dict[Floor, Score]:
    def records(specimens: Sequence[Specimen]) -> list[ActivationRecord]:
        return [specimen.record for specimen in specimens]

    return simulation_floors(
        top=records(split.score_top),
        random=records(split.score_random),
        calibration=records(calibration),
        lookup=lookup,
    )


def _apart(
    simulated: Sequence[SimulatedRecord], sizes: Sequence[int]
) -> list[Sequence[SimulatedRecord]]:
    parts, start = [], 0
    for size in sizes:
        parts.append(simulated[start : start + size])
        start += size
    return parts


def _simulated(group: str, specimen: Specimen, found: SimulatedRecord) -> SimulatedExample:
    answer = found.outcome.value if isinstance(found.outcome, Answer) else None
    return SimulatedExample(
        context_index=specimen.context_index,
        band=specimen.band,
        group=group,
        tokens=specimen.record.tokens,
        real=specimen.record.activations,
        simulated=None if answer is None else answer.values,
        scale_top=10 if answer is None else answer.scale_top,
        failure=_storable(found.outcome) if isinstance(found.outcome, Failure) else None,
    )


def _judged(contexts: Sequence[JudgedContext], judgement: Judgement) -> tuple[JudgedExample, ...]:
    examples = []
    for context, outcome in zip(contexts, judgement.verdicts, strict=True):
        verdict = outcome.value if isinstance(outcome, Answer) else None
        examples.append(
            JudgedExample(
                context_index=context.context_index,
                tokens=context.record.tokens,
                real=context.record.activations,
                marked=None if context.marked is None else tuple(sorted(context.marked)),
                label=context.label,
                verdict=None if verdict is None else verdict.fires,
                probability=None if verdict is None else verdict.probability,
                failure=_storable(outcome) if isinstance(outcome, Failure) else None,
            )
        )
    return tuple(examples)


def _compared(contexts: Sequence[JudgedContext], found: Similarities) -> tuple[JudgedExample, ...]:
    return tuple(
        JudgedExample(
            context_index=context.context_index,
            tokens=context.record.tokens,
            real=context.record.activations,
            marked=None,
            label=context.label,
            verdict=None,
            probability=None,
            failure=_storable(cosine) if isinstance(cosine, Failure) else None,
            similarity=cosine.value if isinstance(cosine, Answer) else None,
        )
        for context, cosine in zip(contexts, found.cosines, strict=True)
    )


def _storable(failed: Failure) -> Failure:
    """The failure with a raw answer that any encoding can hold."""
    return replace(failed, raw=failed.raw[:_RAW_CHARS].encode(errors="replace").decode())
