"""Tables of features: narrow rows to sort and filter by, wide rows read by their key."""

from sqlalchemy import BigInteger, Double, ForeignKey, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base


class Feature(Base):
    """What one feature did over a corpus.

    max_activation is a float32 kept as double, so that text and binary reads give the same.
    peak_text is the peak token's text with its case folded; empty for a dead feature.
    """

    __tablename__ = "feature"
    __table_args__ = (
        Index(None, "harvest_sae_id", "density", "index"),
        Index(None, "harvest_sae_id", "max_activation", "index"),
        Index(None, "harvest_sae_id", "mean_activation", "index"),
    )

    harvest_sae_id: Mapped[int] = mapped_column(
        ForeignKey("harvest_sae.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    peak_token: Mapped[int]
    n_active: Mapped[int] = mapped_column(BigInteger)
    n_contexts: Mapped[int] = mapped_column(BigInteger)
    density: Mapped[float] = mapped_column(Double)
    sum_activation: Mapped[float] = mapped_column(Double)
    max_activation: Mapped[float] = mapped_column(Double)
    mean_activation: Mapped[float] = mapped_column(Double)
    peak_text: Mapped[str] = mapped_column(Text)


class FeatureEvidence(Base):
    """What a feature's page shows, packed (core.db.packing); stored without compression."""

    __tablename__ = "feature_evidence"

    harvest_sae_id: Mapped[int] = mapped_column(
        ForeignKey("harvest_sae.id", ondelete="CASCADE"), primary_key=True
    )
    index: Mapped[int] = mapped_column(primary_key=True)
    summary: Mapped[bytes]
    contexts: Mapped[bytes]
    random: Mapped[bytes]
