"""What is known of a feature, as explainers and judges need it, split so that nothing leaks."""

import random
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from core.autointerp.lookup import build_lookup
from core.autointerp.sampling import Specimen, SpecimenSplit, plain_text, split_specimens
from core.db.repositories.feature_rows import FeatureRows, context_tokens, feature_rows
from core.db.session import Session
from core.domain.activation import Band, ContextRows
from core.domain.explain_job import ExplainerSetting, ExplainSpec, ScorerSetting
from core.domain.ids import FeatureId
from core.errors import NotFound
from core.explaining.context_texts import ContextText, ContextTexts

_LISTED_TOKENS = 20
_BANDS = {band.value: band for band in Band}


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """One feature in one harvest.

    Attributes:
        specimens: every kept context, special tokens left out; none without tokens.
        promoted, suppressed: texts of tokens that the feature makes more and less likely.
    """

    feature: FeatureId
    harvest_id: int
    specimens: tuple[Specimen, ...]
    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFeatures:
    """Features of one SAE as they were read; what is made of them costs no more reading.

    Attributes:
        texts: of their harvest's contexts.
        contexts: those that any of the features keeps, by number.
        rows: the features by index.
    """

    texts: ContextTexts
    contexts: Mapping[int, ContextText]
    rows: Mapping[int, FeatureRows]

    def material(self, feature: FeatureId) -> Material:
        """One of the features.

        Raises:
            NotFound: the SAE has no such feature.
        """
        rows = self.rows.get(feature.index)
        if rows is None:
            raise NotFound(
                f"{feature.model_id}/{feature.sae_id} has no feature {feature.index}.",
                hint="Choose features that the SAE has.",
            )
        made = (*self._specimens(rows.kept), *self._specimens(rows.random))
        return Material(
            feature=feature,
            harvest_id=rows.harvest_id,
            specimens=tuple(specimen for specimen in made if specimen.record.tokens),
            promoted=tuple(self.texts.token(token) for token in rows.promoted),
            suppressed=tuple(self.texts.token(token) for token in rows.suppressed),
        )

    def _specimens(self, rows: ContextRows) -> Iterator[Specimen]:
        numbers, bands = rows.context_index.tolist(), rows.band.tolist()
        for number, band, here in zip(
            numbers, bands, pairwise(rows.nnz_offsets.tolist()), strict=True
        ):
            text = self.contexts[number]
            if here[0] == here[1]:
                yield self.texts.silent(number, _BANDS[band], text)
                continue
            part = slice(*here)
            record = text.record(rows.positions[part], rows.values[part])
            yield Specimen(context_index=number, band=_BANDS[band], record=record)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitSizes:
    """How many contexts a split takes at most, and the seed of its draws."""

    seed: int
    n_explain: int = 5
    n_score: int = 5
    n_judged: int = 20

    @classmethod
    def of(cls, spec: ExplainSpec) -> "SplitSizes":
        """The sizes of a run; its defaults where it only explains or only scores."""
        explainer = spec.explainer or ExplainerSetting()
        scorer = spec.scorer or ScorerSetting()
        return cls(
            seed=spec.seed,
            n_explain=explainer.n_records,
            n_score=scorer.n_score,
            n_judged=scorer.n_judged,
        )


def read_material(
    session: Session, feature: FeatureId, *, harvest_id: int | None, texts: ContextTexts
) -> Material:
    """A feature's contexts and logit effect from the database.

    Args:
        session: the database.
        feature: which one.
        harvest_id: None takes the newest.
        texts: of this harvest's contexts; share it between features.

    Raises:
        NotFound: no such feature or harvest.
    """
    return read_stored(session, [feature], harvest_id=harvest_id, texts=texts).material(feature)


def read_stored(
    session: Session,
    features: Sequence[FeatureId],
    *,
    harvest_id: int | None,
    texts: ContextTexts,
) -> StoredFeatures:
    """Features of one SAE as they are stored, by a few statements whatever their number.

    Raises:
        NotFound: no such SAE or harvest.
    """
    first = features[0]
    found = feature_rows(
        session,
        model_id=first.model_id,
        sae_id=first.sae_id,
        harvest_id=harvest_id,
        indices=[feature.index for feature in features],
    )
    parts = [part for rows in found for part in (rows.kept, rows.random)]
    numbers = sorted({number for part in parts for number in part.context_index.tolist()})
    known = texts.known(numbers)
    missing = [number for number in numbers if number not in known]
    if missing:
        tokens = context_tokens(session, harvest_id=found[0].harvest_id, numbers=missing)
        known |= texts.learn(tokens)
    return StoredFeatures(texts=texts, contexts=known, rows={rows.index: rows for rows in found})


def draw_of(seed: int, feature: FeatureId, purpose: str) -> random.Random:
    """Randomness that depends on seed, feature and purpose alone."""
    return random.Random(f"{seed}/{feature}/{purpose}")  # noqa: S311 - nothing secret


def split_of(material: Material, sizes: SplitSizes, *, seen: Collection[int] = ()) -> SpecimenSplit:
    """Contexts for explaining and for scoring; never the same, by number or text.

    Args:
        material: the feature.
        sizes: how many, drawn by which seed.
        seen: numbers of contexts that an explanation was made from, which must not score it.

    Raises:
        Invalid: too few firing contexts.
    """
    split = _split(material, sizes, material.specimens)
    if set(seen) <= {specimen.context_index for specimen in split.explain}:
        return split
    texts = {_plain(s) for s in material.specimens if s.context_index in set(seen)}
    unseen = tuple(s for s in material.specimens if _plain(s) not in texts)
    return _split(material, sizes, unseen)


def strongest_tokens(split: SpecimenSplit) -> tuple[str, ...]:
    """Tokens of highest mean activation in the contexts to explain from, strongest first."""
    means = build_lookup(specimen.record for specimen in split.explain).means
    firing = [token for token in means if means[token] > 0]
    return tuple(sorted(firing, key=lambda token: (-means[token], token))[:_LISTED_TOKENS])


def _split(material: Material, sizes: SplitSizes, specimens: tuple[Specimen, ...]) -> SpecimenSplit:
    return split_specimens(
        specimens,
        rng=draw_of(sizes.seed, material.feature, "split"),
        n_explain=sizes.n_explain,
        n_score=sizes.n_score,
        n_judged=sizes.n_judged,
    )


def _plain(specimen: Specimen) -> str:
    return plain_text(specimen.record.tokens)
