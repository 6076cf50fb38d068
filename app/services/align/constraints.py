"""Constraint sets from chosen features: lists, tags, words said of them, tops of contrasts."""

from collections.abc import Sequence
from typing import Annotated, Literal, TypeAlias, assert_never

from pydantic import Field

from app.services.align import finder as align_finder
from app.services.labels import tags
from core.db.session import Session
from core.domain.alignment import ConstraintSae, TagSource, Treated
from core.domain.feature_choice import Side, with_chosen
from core.domain.spec import Spec

Index = Annotated[int, Field(ge=0, lt=2**31)]


class ListChoice(Spec):
    """Features by their index."""

    by: Literal["list"] = "list"
    indices: tuple[Index, ...] = Field(
        min_length=1, max_length=20_000, description="Indices.", examples=[[2511]]
    )


class WordsChoice(Spec):
    """Features whose labels or present explanations hold all these words, labels first."""

    by: Literal["words"] = "words"
    words: str = Field(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="Words.",
        examples=["apologies"],
    )
    limit: int = Field(default=20, ge=1, le=align_finder.MOST, description="So many at most.")


class TagChoice(Spec):
    """Every feature that bears a tag now; what is kept are the features, and the tag's name."""

    by: Literal["tag"] = "tag"
    tag: str = Field(
        min_length=1,
        max_length=40,
        pattern=r"^[^\x00]*$",
        description="Name of the tag.",
        examples=["sycophancy"],
    )


class ContrastChoice(Spec):
    """Features of a contrast with the largest effect."""

    by: Literal["contrast"] = "contrast"
    contrast_id: Annotated[int, Field(ge=1, lt=2**31)] = Field(
        description="Number of the contrast.", examples=[2]
    )
    side: Side = Field(
        default=Side.BOTH, description="On which answers they are more active.", examples=["both"]
    )
    limit: int = Field(default=20, ge=1, le=align_finder.MOST, description="So many at most.")


Choice: TypeAlias = Annotated[
    ListChoice | WordsChoice | TagChoice | ContrastChoice, Field(discriminator="by")
]


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
        case TagChoice():
            return tags.bearers(session, choice.tag, model_id=model_id, sae_id=sae_id)
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
    chosen: dict[Treated, list[int]] = {Treated.HELD: [], Treated.FREE: []}
    sources: list[TagSource] = []
    for treated, choices in ((Treated.HELD, hold), (Treated.FREE, free)):
        for choice in choices:
            found = find(session, choice, model_id=model_id, sae_id=entry.sae_id)
            chosen[treated] += found
            if isinstance(choice, TagChoice):
                sources.append(TagSource(tag=choice.tag, treatment=treated, features=found))
    return with_chosen(
        entry,
        held=chosen[Treated.HELD],
        free=chosen[Treated.FREE],
        weight=weight,
        only_held=only_held,
        tags=sources,
    )
