"""One explanation of one feature: what is asked, what came back, and how it is stored."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.autointerp.explain import (
    explain_from_highlights,
    explain_from_records,
    explain_from_tokens,
    explain_offline,
)
from core.autointerp.sampling import SpecimenSplit
from core.autointerp.wording import Language
from core.db.repositories.explanations import NewExplanation
from core.domain.activation import ActivationRecord
from core.domain.explain_job import ExplainerSetting
from core.domain.explanation import EvidenceStyle, Explanation, Outcome
from core.domain.ids import FeatureId
from core.domain.llm import ChatRequest, Message, Question
from core.explaining.connection import Connection
from core.explaining.material import Material, strongest_tokens
from core.inquiry import NoModel
from core.llm.ask import ask, carry_out

BASELINE = "token_lookup"


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainItem:
    """One explanation that is to be made; style None is the token lookup table's."""

    feature: FeatureId
    style: EvidenceStyle | None
    sample: int

    @property
    def key(self) -> str:
        """What it is called in its job."""
        return f"explain/{self.feature.index}/{self.style or BASELINE}/{self.sample}"


def explain_items(
    features: Sequence[FeatureId], setting: ExplainerSetting
) -> tuple[ExplainItem, ...]:
    """Every explanation that a setting asks for, feature by feature."""
    offline = setting.endpoint_id is None
    styles: tuple[EvidenceStyle | None, ...] = (None,) if offline else setting.styles
    n_samples = 1 if offline else setting.n_samples
    return tuple(
        ExplainItem(feature=feature, style=style, sample=sample)
        for feature in features
        for style in styles
        for sample in range(n_samples)
    )


def explain_question(
    material: Material,
    split: SpecimenSplit,
    style: EvidenceStyle,
    *,
    setting: ExplainerSetting,
    sample: int,
) -> Question[Explanation]:
    """What an explainer is asked.

    Raises:
        Invalid: nothing to explain from.
    """
    records = [specimen.record for specimen in split.explain]
    language = Language(setting.language)
    match style:
        case EvidenceStyle.RECORDS:
            return explain_from_records(
                records, language=language, temperature=setting.temperature, sample=sample
            )
        case EvidenceStyle.HIGHLIGHTS:
            return explain_from_highlights(
                records, language=language, temperature=setting.temperature, sample=sample
            )
        case EvidenceStyle.TOKENS_AND_LOGITS:
            return explain_from_tokens(
                strongest_tokens(split),
                promoted=material.promoted,
                suppressed=material.suppressed,
                language=language,
                temperature=setting.temperature,
                sample=sample,
            )


def messages_of(question: Question[Explanation]) -> tuple[Message, ...]:
    """Exactly the messages that a question sends."""
    return question.request.messages if isinstance(question.request, ChatRequest) else ()


async def explain(
    item: ExplainItem,
    material: Material,
    split: SpecimenSplit,
    *,
    setting: ExplainerSetting,
    connection: Connection | None,
) -> tuple[Outcome[Explanation], tuple[Message, ...]]:
    """The explanation, or why there is none, and the messages that were sent.

    Raises:
        Invalid: nothing to explain from.
    """
    if item.style is None or connection is None:
        records: list[ActivationRecord] = [specimen.record for specimen in split.explain]
        return await carry_out(explain_offline(records), NoModel()), ()
    question = explain_question(material, split, item.style, setting=setting, sample=item.sample)
    outcome = await ask(question, connection.client, item=str(item.feature))
    return outcome, messages_of(question)


def made_explanation(
    item: ExplainItem,
    explanation: Explanation,
    *,
    messages: Sequence[Message],
    material: Material,
    split: SpecimenSplit,
    setting: ExplainerSetting,
    job_id: int | None,
) -> NewExplanation:
    """An explanation with all it was made from, as it is stored."""
    return NewExplanation(
        feature=item.feature,
        explanation=explanation,
        language="" if item.style is None else setting.language,
        harvest_id=material.harvest_id,
        messages=messages,
        context_indices=sorted(specimen.context_index for specimen in split.explain),
        endpoint_id=setting.endpoint_id,
        job_id=job_id,
        item_key=None if job_id is None else item.key,
        sample=item.sample,
    )
