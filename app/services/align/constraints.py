"""Constraint sets from chosen features: lists, words of explanations, the top of a contrast."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, assert_never

from pydantic import BaseModel, ConfigDict, Field

from app.services.align import finder as align_finder
from core.db.session import Session
from core.domain.alignment import ConstraintSae
from core.domain.feature_choice import Side, with_chosen

_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
Index = Annotated[int, Field(ge=0, lt=2**31)]


class ListChoice(BaseModel):
    """Features by their index."""

    model_config = _FROZEN

    by: Literal["list"] = "list"
    indices: tuple[Index, ...] = Field(
        min_length=1, max_length=20_000, description="Indices.", examples=[[2511]]
    )


class WordsChoice(BaseModel):
    """Features whose present explanations hold all these words, the best first."""

    model_config = _FROZEN

    by: Literal["words"] = "words"
    words: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="Words.",
        examples=["apologies"],
    )
    limit: int = Field(default=20, ge=1, le=align_finder.MOST, description="So many at most.")


class ContrastChoice(BaseModel):
    """Features of a contrast with the largest effect."""

    model_config = _FROZEN

    by: Literal["contrast"] = "contrast"
    contrast_id: Annotated[int, Field(ge=1, lt=2**31)] = Field(
        description="Number of the contrast.", examples=[2]
    )
    side: Side = Field(
        default=Side.BOTH, description="On which answers they are more active.", examples=["both"]
    )
    limit: int = Field(default=20, ge=1, le=align_finder.MOST, description="So many at most.")


Choice: TypeAlias = Annotated[ListChoice | WordsChoice | ContrastChoice, Field(discriminator="by")]


def find(session: Session, choice: Choice, *, model_id: str, sae_id: str) -> tuple[int, ...]:
    """The features that a choice means.

    Raises:
        NotFound: no such contrast, or it does not hold the SAE.
        Invalid: nothing is found.
    """
    match choice:
        case ListChoice():
            return tuple(dict.fromkeys(choice.indices))
        case WordsChoice():
            return align_finder.by_words(
                session, choice.words, model_id=model_id, sae_id=sae_id, limit=choice.limit
            )
        case ContrastChoice():
            return align_finder.foremost(
                session,
                choice.contrast_id,
                sae_id=sae_id,
                side=choice.side.value,
                limit=choice.limit,
            )
        case _:
            assert_never(choice)


def constrain(
    session: Session,
    entry: ConstraintSae,
    *,
    model_id: str,
    hold: Sequence[Choice] = (),
    free: Sequence[Choice] = (),
    weight: float = 1.0,
    only_held: bool = False,
) -> ConstraintSae:
    """A constraint on one SAE with the features that choices mean, held or free.

    Raises:
        NotFound: no such contrast, or it does not hold the SAE.
        Invalid: nothing is found, or a feature is chosen for both.
    """
    holding, freeing = (
        [
            feature
            for choice in choices
            for feature in find(session, choice, model_id=model_id, sae_id=entry.sae_id)
        ]
        for choices in (hold, free)
    )
    return with_chosen(entry, held=holding, free=freeing, weight=weight, only_held=only_held)
