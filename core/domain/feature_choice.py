"""Chosen features in a constraint set: held or free, from lists, explanations or a contrast."""

from collections.abc import Collection, Iterable, Sequence
from enum import StrEnum

from core.domain.alignment import ConstraintSae, HeldFeature, TagSource, Treated
from core.domain.views_align import ContrastRow
from core.errors import Invalid


class Side(StrEnum):
    """On which answers features of a contrast are more active."""

    BOTH = "both"
    CHOSEN = "chosen"
    REJECTED = "rejected"


def with_chosen(
    entry: ConstraintSae,
    *,
    held: Iterable[int] = (),
    free: Iterable[int] = (),
    weight: float = 1.0,
    only_held: bool = False,
    d_sae: int | None = None,
    tags: Iterable[TagSource] = (),
) -> ConstraintSae:
    """A constraint on one SAE with further features held or free.

    A feature that was held gets the new weight; one that was free becomes held, and the other way
    round, so the last choice counts.

    Args:
        entry: what was chosen before.
        held: features that are constrained whatever their rank.
        free: features that may move at no cost.
        weight: of the held ones, at least 1.
        only_held: constrain nothing but what is held.
        d_sae: number of the SAE's features, if known.
        tags: tags that some of the features came from.

    Raises:
        Invalid: a feature is both held and free, is not one of the SAE's, or nothing is left to
            constrain.
    """
    holding, freeing = list(dict.fromkeys(held)), list(dict.fromkeys(free))
    both = sorted(set(holding) & set(freeing))
    if both:
        raise Invalid(f"Feature {both[0]} is both held and free.", hint="Choose one of the two.")
    _check_range(entry.sae_id, [*holding, *freeing], d_sae)
    if not weight >= 1.0:
        raise Invalid(f"A held feature's weight of {weight} is below 1.", hint="Choose 1 or more.")
    weights = {one.feature: one.weight for one in entry.held} | dict.fromkeys(holding, weight)
    kept = {feature: w for feature, w in weights.items() if feature not in set(freeing)}
    free_now = [*(f for f in entry.free if f not in set(holding) | set(freeing)), *freeing]
    others = 0.0 if only_held else entry.others
    if others == 0.0 and not kept:
        raise Invalid(
            "No feature is held, and the others are not constrained either.",
            hint="Hold a feature, or constrain the others too.",
        )
    return ConstraintSae(
        sae_id=entry.sae_id,
        source=entry.source,
        k=entry.k,
        index_set=entry.index_set,
        others=others,
        held=tuple(HeldFeature(feature=f, weight=w) for f, w in sorted(kept.items())),
        free=tuple(sorted(free_now)),
        weight=entry.weight,
        tags=sources_left([*entry.tags, *tags], held=kept, free=free_now),
    )


def sources_left(
    sources: Iterable[TagSource], *, held: Collection[int], free: Collection[int]
) -> tuple[TagSource, ...]:
    """Tags with those of their features that are still treated so; of equal ones the last."""
    chosen = {Treated.HELD: set(held), Treated.FREE: set(free)}
    left: dict[tuple[str, Treated], TagSource] = {}
    for source in sources:
        features = tuple(sorted(chosen[source.treatment].intersection(source.features)))
        left.pop((source.tag, source.treatment), None)
        if features:
            left[source.tag, source.treatment] = source.model_copy(update={"features": features})
    return tuple(left.values())


def foremost(rows: Sequence[ContrastRow], n: int, *, side: Side) -> tuple[int, ...]:
    """The features of a contrast with the largest effect on a side, the largest first.

    A feature without an effect size counts by the sign of its difference alone, and comes last.
    """

    def size(row: ContrastRow) -> float:
        return abs(row.effect_size or 0.0)

    wanted = [
        row
        for row in rows
        if row.difference and (side is Side.BOTH or (row.difference > 0) == (side is Side.CHOSEN))
    ]
    ranked = sorted(wanted, key=lambda row: (-size(row), row.index))
    return tuple(row.index for row in ranked[:n])


def _check_range(sae_id: str, features: Sequence[int], d_sae: int | None) -> None:
    limit = 2**31 if d_sae is None else d_sae
    beyond = next((f for f in features if not 0 <= f < limit), None)
    if beyond is not None:
        raise Invalid(
            f"{sae_id} has features 0 to {limit - 1}; {beyond} is not one.",
            hint="Take the features of this SAE.",
        )
