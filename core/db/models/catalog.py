"""Tables of what there is: models with their vocabularies, and SAEs."""

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import BigInteger, ForeignKey, Identity, Integer, Text, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, UtcDateTime


class Model(Base):
    """The exact weights of a language model, under an id."""

    __tablename__ = "model"
    __table_args__ = (UniqueConstraint("model_id", "revision"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    model_id: Mapped[str] = mapped_column(Text)
    revision: Mapped[str] = mapped_column(Text)
    source: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    architecture: Mapped[str] = mapped_column(Text)
    n_layers: Mapped[int]
    d_model: Mapped[int]
    vocab_size: Mapped[int]
    context_limit: Mapped[int] = mapped_column(BigInteger)
    bos_rule: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class ModelVocabulary(Base):
    """The exact bytes of a model's tokens (core.db.packing.words)."""

    __tablename__ = "vocabulary"

    model_pk: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("model.id", ondelete="CASCADE"), primary_key=True
    )
    tokens: Mapped[bytes]
    special_ids: Mapped[list[int]] = mapped_column(ARRAY(Integer))


class Sae(Base):
    """The exact weights of a sparse autoencoder, under an id."""

    __tablename__ = "sae"
    __table_args__ = (UniqueConstraint("model_id", "sae_id", "revision"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    model_id: Mapped[str] = mapped_column(Text)
    sae_id: Mapped[str] = mapped_column(Text)
    revision: Mapped[str] = mapped_column(Text)
    source: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    hook_name: Mapped[str] = mapped_column(Text)
    layer: Mapped[int]
    d_in: Mapped[int]
    d_sae: Mapped[int]
    architecture: Mapped[str] = mapped_column(Text)
    normalize_activations: Mapped[str] = mapped_column(Text)
    record: Mapped[dict[str, float]] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
