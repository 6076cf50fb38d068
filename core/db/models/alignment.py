"""Tables of alignment: preference sets, contrasts on them, drifts of aligned models, samples."""

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, UtcDateTime


class StoredPreferences(Base):
    """An uploaded preference set, whose pairs lie in a file that its content hash names.

    lines: lengths of the file's lines and their splits (core.db.packing.lines), by which one page
    of pairs is read.
    """

    __tablename__ = "preference_set"
    __table_args__ = (UniqueConstraint("content_hash", "rejected_hash"),)

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    source: Mapped[str] = mapped_column(Text)
    formats: Mapped[dict[str, int]] = mapped_column(JSONB)
    content_hash: Mapped[str] = mapped_column(Text)
    rejected_hash: Mapped[str] = mapped_column(Text)
    n_rows: Mapped[int]
    n_train: Mapped[int]
    n_held_out: Mapped[int]
    held_out_share: Mapped[float] = mapped_column(Double)
    rejected_by_reason: Mapped[dict[str, int]] = mapped_column(JSONB)
    n_bytes: Mapped[int] = mapped_column(BigInteger)
    lines: Mapped[bytes]
    created_by: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class RejectedPreference(Base):
    """A row of an upload that is not used, with its reason."""

    __tablename__ = "preference_rejected"

    set_id: Mapped[int] = mapped_column(
        ForeignKey("preference_set.id", ondelete="CASCADE"), primary_key=True
    )
    row: Mapped[int] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    preview: Mapped[str] = mapped_column(Text)


class Contrast(Base):
    """A model's features on the chosen and rejected answers of one preference set.

    identity: sha256 over everything that decides the result.
    """

    __tablename__ = "contrast"
    __table_args__ = (UniqueConstraint("identity"), Index(None, "preference_hash"))

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    job_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("job.id", ondelete="SET NULL")
    )
    identity: Mapped[str] = mapped_column(Text)
    model_id: Mapped[str] = mapped_column(Text)
    model_revision: Mapped[str] = mapped_column(Text)
    preference_name: Mapped[str] = mapped_column(Text)
    preference_hash: Mapped[str] = mapped_column(Text)
    n_pairs: Mapped[int]
    n_tokens_chosen: Mapped[int] = mapped_column(BigInteger)
    n_tokens_rejected: Mapped[int] = mapped_column(BigInteger)
    spec: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class ContrastPart(Base):
    """One SAE of a contrast."""

    __tablename__ = "contrast_sae"
    __table_args__ = (UniqueConstraint("contrast_id", "sae_id"),)

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    contrast_id: Mapped[int] = mapped_column(ForeignKey("contrast.id", ondelete="CASCADE"))
    sae_id: Mapped[str] = mapped_column(Text)
    revision: Mapped[str] = mapped_column(Text)
    hook_name: Mapped[str] = mapped_column(Text)
    layer: Mapped[int]
    d_sae: Mapped[int]
    n_active: Mapped[int]


class ContrastFeature(Base):
    """One feature that fires on at least one response position of a contrast."""

    __tablename__ = "contrast_feature"

    contrast_sae_id: Mapped[int] = mapped_column(
        ForeignKey("contrast_sae.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    mean_chosen: Mapped[float] = mapped_column(Double)
    mean_rejected: Mapped[float] = mapped_column(Double)
    difference: Mapped[float] = mapped_column(Double)
    effect_size: Mapped[float | None] = mapped_column(Double)
    share_chosen: Mapped[float] = mapped_column(Double)
    share_rejected: Mapped[float] = mapped_column(Double)
    density: Mapped[float] = mapped_column(Double)


class Drift(Base):
    """One comparison of an aligned model with its base.

    identity: sha256 over everything that decides the result.
    method: of the run, empty where only a folder is known.
    """

    __tablename__ = "drift"
    __table_args__ = (UniqueConstraint("identity"), Index(None, "run_job_id"))

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    job_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("job.id", ondelete="SET NULL")
    )
    run_job_id: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("job.id", ondelete="SET NULL")
    )
    identity: Mapped[str] = mapped_column(Text)
    model_id: Mapped[str] = mapped_column(Text)
    aligned_id: Mapped[str] = mapped_column(Text)
    base_revision: Mapped[str] = mapped_column(Text)
    aligned_revision: Mapped[str] = mapped_column(Text)
    aligned_dir: Mapped[str] = mapped_column(Text)
    method: Mapped[str] = mapped_column(Text)
    preference_name: Mapped[str] = mapped_column(Text)
    preference_hash: Mapped[str] = mapped_column(Text)
    n_pairs: Mapped[int]
    dtype: Mapped[str] = mapped_column(Text)
    sampling: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB)
    spec: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class DriftPart(Base):
    """One SAE of a drift.

    part_id: the SAE in the harvest whose contexts were read again.
    places: facts of base and aligned model by place.
    """

    __tablename__ = "drift_sae"
    __table_args__ = (UniqueConstraint("drift_id", "sae_id"), Index(None, "part_id"))

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    drift_id: Mapped[int] = mapped_column(ForeignKey("drift.id", ondelete="CASCADE"))
    part_id: Mapped[int | None] = mapped_column(ForeignKey("harvest_sae.id", ondelete="SET NULL"))
    sae_id: Mapped[str] = mapped_column(Text)
    revision: Mapped[str] = mapped_column(Text)
    hook_name: Mapped[str] = mapped_column(Text)
    layer: Mapped[int]
    d_sae: Mapped[int]
    n_moved: Mapped[int]
    places: Mapped[dict[str, dict[str, float | int | None]]] = mapped_column(JSONB)
    random_contexts: Mapped[bytes]


class DriftFeature(Base):
    """One feature in both models; columns of the corpus are NULL where none was read.

    density: the largest of the densities; 0 where the feature fires nowhere.
    """

    __tablename__ = "drift_feature"

    drift_sae_id: Mapped[int] = mapped_column(
        ForeignKey("drift_sae.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    base_chosen: Mapped[float] = mapped_column(Double)
    aligned_chosen: Mapped[float] = mapped_column(Double)
    base_density_chosen: Mapped[float] = mapped_column(Double)
    aligned_density_chosen: Mapped[float] = mapped_column(Double)
    cosine_chosen: Mapped[float | None] = mapped_column(Double)
    base_rejected: Mapped[float] = mapped_column(Double)
    aligned_rejected: Mapped[float] = mapped_column(Double)
    base_density_rejected: Mapped[float] = mapped_column(Double)
    aligned_density_rejected: Mapped[float] = mapped_column(Double)
    cosine_rejected: Mapped[float | None] = mapped_column(Double)
    base_corpus: Mapped[float | None] = mapped_column(Double)
    aligned_corpus: Mapped[float | None] = mapped_column(Double)
    base_density_corpus: Mapped[float | None] = mapped_column(Double)
    aligned_density_corpus: Mapped[float | None] = mapped_column(Double)
    cosine_corpus: Mapped[float | None] = mapped_column(Double)
    treatment: Mapped[str] = mapped_column(Text)
    density: Mapped[float] = mapped_column(Double)


class DriftEvidence(Base):
    """The aligned model's activations on a feature's stored contexts, packed as the harvest's."""

    __tablename__ = "drift_evidence"

    drift_sae_id: Mapped[int] = mapped_column(
        ForeignKey("drift_sae.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    contexts: Mapped[bytes]
    random: Mapped[bytes]


class DriftSample(Base):
    """What base and aligned model wrote to one prompt."""

    __tablename__ = "drift_sample"

    drift_id: Mapped[int] = mapped_column(
        ForeignKey("drift.id", ondelete="CASCADE"), primary_key=True
    )
    position: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[int]
    prompt: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    chosen: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    rejected: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    n_prompt_tokens: Mapped[int]
    base_text: Mapped[str] = mapped_column(Text)
    base_tokens: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    base_ended: Mapped[bool]
    aligned_text: Mapped[str] = mapped_column(Text)
    aligned_tokens: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    aligned_ended: Mapped[bool]
