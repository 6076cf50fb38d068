"""Tables of harvests: the run, the SAEs it read, and the contexts it keeps."""

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    ForeignKey,
    Identity,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, UtcDateTime


class Harvest(Base):
    """One finished pass over a corpus; spec_hash names everything that decides its result."""

    __tablename__ = "harvest"
    __table_args__ = (UniqueConstraint("spec_hash"), Index(None, "model_pk"))

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    model_pk: Mapped[int] = mapped_column(BigInteger, ForeignKey("model.id"))
    spec: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    spec_hash: Mapped[str] = mapped_column(Text)
    corpus_name: Mapped[str] = mapped_column(Text)
    corpus_hash: Mapped[str] = mapped_column(Text)
    context_size: Mapped[int]
    n_contexts: Mapped[int] = mapped_column(BigInteger)
    n_tokens: Mapped[int] = mapped_column(BigInteger)
    n_scored: Mapped[int] = mapped_column(BigInteger)
    seed: Mapped[int] = mapped_column(BigInteger)
    sources: Mapped[list[str]] = mapped_column(ARRAY(Text))
    finished_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class HarvestSae(Base):
    """One SAE in one harvest, with the sums that its card shows.

    n_scored: of the harvest's scored tokens those that are no outliers of this SAE.
    max_norm: a token with a longer residual is an outlier; NULL when none was looked for.
    random_contexts: contexts stored for every feature, written once (core.db.packing.rows).
    """

    __tablename__ = "harvest_sae"
    __table_args__ = (UniqueConstraint("harvest_id", "sae_pk"), Index(None, "sae_pk"))

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    harvest_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("harvest.id", ondelete="CASCADE")
    )
    sae_pk: Mapped[int] = mapped_column(BigInteger, ForeignKey("sae.id"))
    n_features: Mapped[int]
    n_dead: Mapped[int]
    n_scored: Mapped[int] = mapped_column(BigInteger)
    max_norm: Mapped[float | None]
    n_active: Mapped[int] = mapped_column(BigInteger)
    random_contexts: Mapped[bytes]


class HarvestContext(Base):
    """One kept context of a harvest; tokens are packed (core.db.packing.words)."""

    __tablename__ = "context"

    harvest_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("harvest.id", ondelete="CASCADE"), primary_key=True
    )
    context_index: Mapped[int] = mapped_column(primary_key=True)
    document: Mapped[int] = mapped_column(BigInteger)
    start: Mapped[int]
    source_index: Mapped[int] = mapped_column(SmallInteger)
    tokens: Mapped[bytes]
