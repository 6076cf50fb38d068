"""Tables of explanations: endpoints, explanations, scores, raw answers and what they cost."""

from datetime import datetime

from pydantic import JsonValue
from sqlalchemy import (
    BigInteger,
    Computed,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy import text as sql
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, UtcDateTime


class LlmEndpoint(Base):
    """One model at one OpenAI-compatible address.

    key_sealed is encrypted; the key that opens it is not in the database.
    """

    __tablename__ = "endpoint"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)
    base_url: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    key_sealed: Mapped[bytes | None]
    key_variable: Mapped[str] = mapped_column(Text)
    concurrency: Mapped[int]
    timeout_seconds: Mapped[float] = mapped_column(Double)
    attempts: Mapped[int]
    tokens_field: Mapped[str] = mapped_column(Text)
    extra_tokens: Mapped[int]
    with_sampling: Mapped[bool]
    price_prompt: Mapped[float | None] = mapped_column(Double)
    price_completion: Mapped[float | None] = mapped_column(Double)
    price_cached: Mapped[float | None] = mapped_column(Double)
    capabilities: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB)
    probed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class FeatureExplanation(Base):
    """One explanation of one feature; an edit adds a row and marks the old one superseded.

    item_key: what it is in its job, so that an attempt that is repeated writes nothing twice.
    choice: how it did among several samples; NULL where nothing was chosen.
    """

    __tablename__ = "explanation"
    __table_args__ = (
        UniqueConstraint("job_id", "item_key"),
        Index(None, "model_id", "sae_id", "feature_index"),
        Index(None, "words", postgresql_using="gin"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    model_id: Mapped[str] = mapped_column(Text)
    sae_id: Mapped[str] = mapped_column(Text)
    feature_index: Mapped[int]
    harvest_id: Mapped[int | None] = mapped_column(BigInteger)
    text: Mapped[str] = mapped_column(Text)
    method: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(Text)
    style: Mapped[str | None] = mapped_column(Text)
    language: Mapped[str] = mapped_column(Text)
    template: Mapped[str] = mapped_column(Text)
    n_records: Mapped[int]
    messages: Mapped[list[dict[str, str]]] = mapped_column(JSONB)
    context_indices: Mapped[list[int]] = mapped_column(ARRAY(Integer))
    endpoint_id: Mapped[int | None] = mapped_column(ForeignKey("endpoint.id", ondelete="SET NULL"))
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    item_key: Mapped[str | None] = mapped_column(Text)
    sample: Mapped[int]
    version: Mapped[int] = mapped_column(server_default=sql("1"))
    superseded_by: Mapped[int | None] = mapped_column(
        BigInteger, ForeignKey("explanation.id", ondelete="SET NULL")
    )
    choice: Mapped[dict[str, JsonValue] | None] = mapped_column(JSONB)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    words: Mapped[str] = mapped_column(
        TSVECTOR, Computed("to_tsvector('simple'::regconfig, text)", persisted=True)
    )


class ExplanationScore(Base):
    """How well one explanation did in one test; headline is NULL where there is no value.

    details: every example as compressed JSON, since tokens may hold what a text column refuses.
    """

    __tablename__ = "score"
    __table_args__ = (
        UniqueConstraint("job_id", "item_key"),
        Index(None, "explanation_id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    explanation_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("explanation.id", ondelete="CASCADE")
    )
    endpoint_id: Mapped[int | None] = mapped_column(ForeignKey("endpoint.id", ondelete="SET NULL"))
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    item_key: Mapped[str | None] = mapped_column(Text)
    kind: Mapped[str] = mapped_column(Text)
    mode: Mapped[str | None] = mapped_column(Text)
    judge: Mapped[str] = mapped_column(Text)
    headline: Mapped[float | None] = mapped_column(Double)
    missing: Mapped[str | None] = mapped_column(Text)
    score: Mapped[dict[str, JsonValue]] = mapped_column(JSONB)
    shuffled_with: Mapped[str] = mapped_column(Text)
    details: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class LlmAnswer(Base):
    """A raw answer under the hash of everything that decides it (core.llm.cache)."""

    __tablename__ = "answer"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    reply: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())


class LlmSpending(Base):
    """One row a request, sent or served from the cache (core.llm.ledger)."""

    __tablename__ = "ledger"
    __table_args__ = (Index(None, "job_id"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    job_id: Mapped[int | None] = mapped_column(BigInteger)
    endpoint_id: Mapped[int | None] = mapped_column(ForeignKey("endpoint.id", ondelete="SET NULL"))
    purpose: Mapped[str] = mapped_column(Text)
    item: Mapped[str] = mapped_column(Text)
    model: Mapped[str] = mapped_column(Text)
    prompt_tokens: Mapped[int] = mapped_column(BigInteger)
    cached_tokens: Mapped[int] = mapped_column(BigInteger)
    completion_tokens: Mapped[int] = mapped_column(BigInteger)
    reasoning_tokens: Mapped[int] = mapped_column(BigInteger)
    estimated: Mapped[bool]
    attempts: Mapped[int]
    seconds: Mapped[float] = mapped_column(Double)
    cost: Mapped[float | None] = mapped_column(Double)
    price_version: Mapped[str] = mapped_column(Text)
    code: Mapped[str | None] = mapped_column(Text)
    request_id: Mapped[str] = mapped_column(Text)
    from_cache: Mapped[bool]
