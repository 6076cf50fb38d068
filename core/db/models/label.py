"""Tables of labels: what people call features, the tags they sort them by, and every change."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    Computed,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import ARRAY, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from core.db.base import Base, UtcDateTime


class LabelledSae(Base):
    """An SAE whose features bear labels; a number in place of two texts keeps its rows narrow.

    It is named by ids, not by a harvest or by weights, so that labels outlive both. Every change
    of its labels holds its row, so that changes of one SAE happen one after another.
    """

    __tablename__ = "labelled_sae"
    __table_args__ = (UniqueConstraint("model_id", "sae_id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    model_id: Mapped[str] = mapped_column(Text)
    sae_id: Mapped[str] = mapped_column(Text)


class LabelRow(Base):
    """What people say of one feature at present; without a name where it has tags only.

    A deleted label stays as an empty row, so that its version goes on. Pages are filled by half:
    a change of a tag is a new state of each of its labels, which then fits on the same page.
    """

    __tablename__ = "label"
    __table_args__ = (
        Index(None, "words", postgresql_using="gin"),
        {"postgresql_with": {"fillfactor": 50}},
    )

    labelled_sae_id: Mapped[int] = mapped_column(ForeignKey("labelled_sae.id"), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    version: Mapped[int]
    name: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    author: Mapped[str] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
    words: Mapped[str] = mapped_column(
        TSVECTOR,
        Computed("to_tsvector('simple'::regconfig, name || ' ' || note)", persisted=True),
    )


class Tag(Base):
    """A word by which features are sorted; it is there for people while a feature bears it."""

    __tablename__ = "tag"
    __table_args__ = (UniqueConstraint("name"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(Text)


class LabelTag(Base):
    """One tag of one feature."""

    __tablename__ = "label_tag"
    __table_args__ = (
        ForeignKeyConstraint(
            ["labelled_sae_id", "index"],
            ["label.labelled_sae_id", "label.index"],
            ondelete="CASCADE",
        ),
        Index(None, "labelled_sae_id", "index"),
    )

    tag_id: Mapped[int] = mapped_column(ForeignKey("tag.id"), primary_key=True)
    labelled_sae_id: Mapped[int] = mapped_column(primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)


class LabelChangeRow(Base):
    """A label as a change left it; kind is a core.domain.label.ChangeKind by its number.

    Copied from labels, whose foreign key makes one of these, looked up row by row, needless.
    """

    __tablename__ = "label_change"
    __table_args__ = (Index(None, "labelled_sae_id", "index"),)

    id: Mapped[int] = mapped_column(BigInteger, Identity(), primary_key=True)
    labelled_sae_id: Mapped[int]
    index: Mapped[int]
    version: Mapped[int]
    kind: Mapped[int] = mapped_column(SmallInteger)
    name: Mapped[str] = mapped_column(Text)
    note: Mapped[str] = mapped_column(Text)
    tags: Mapped[list[str]] = mapped_column(ARRAY(Text))
    author: Mapped[str] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime, server_default=func.now())
