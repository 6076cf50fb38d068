"""Samples as a page shows them: what two models wrote, with the differing words marked."""

from collections.abc import Sequence
from dataclasses import dataclass

from app.web.answers import Piece, shown_pair
from core.domain.preference import PreferencePair, Role, Split, Turn
from core.domain.views_drift import Sample, SamplePair


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSample:
    """What one model wrote, in pieces; none where it wrote nothing."""

    pieces: tuple[Piece, ...]
    n_tokens: int
    ended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSamples:
    """Both models on the same prompt, with the data's own answers.

    Attributes:
        same: whether both wrote the same text.
        compared: whether differing words are marked.
    """

    position: int
    row: int
    prompt: tuple[Turn, ...]
    chosen: tuple[Turn, ...]
    rejected: tuple[Turn, ...]
    base: ShownSample
    aligned: ShownSample
    same: bool
    compared: bool


def shown_samples(pairs: Sequence[SamplePair]) -> tuple[ShownSamples, ...]:
    """Pairs of samples with the differing words of both marked."""
    return tuple(_shown(pair) for pair in pairs)


def _shown(pair: SamplePair) -> ShownSamples:
    marked = shown_pair(
        PreferencePair(
            prompt=pair.prompt,
            chosen=(Turn(role=Role.ASSISTANT, content=pair.aligned.text),),
            rejected=(Turn(role=Role.ASSISTANT, content=pair.base.text),),
            split=Split.EVAL,
            row=pair.row,
        ),
        pair.position,
    )
    return ShownSamples(
        position=pair.position,
        row=pair.row,
        prompt=pair.prompt,
        chosen=pair.chosen,
        rejected=pair.rejected,
        base=_sample(pair.base, marked.rejected[0].pieces),
        aligned=_sample(pair.aligned, marked.chosen[0].pieces),
        same=pair.base.text == pair.aligned.text,
        compared=marked.compared,
    )


def _sample(sample: Sample, pieces: tuple[Piece, ...]) -> ShownSample:
    return ShownSample(
        pieces=pieces if sample.text else (), n_tokens=len(sample.token_ids), ended=sample.ended
    )
