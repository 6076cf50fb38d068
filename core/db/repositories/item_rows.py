"""Rows that items of jobs make: the same item of the same job makes its row once."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db.base import Base, plain_table

_ITEM = ("job_id", "item_key")


class ItemRows:
    """Writes rows of a table with ``id``, ``job_id`` and ``item_key``."""

    def __init__(self, model: type[Base]) -> None:
        table = plain_table(model)
        new = insert(table)
        same = {"item_key": new.excluded.item_key}  # an update, so that the present id comes back
        self._one = new.on_conflict_do_update(index_elements=_ITEM, set_=same).returning(table.c.id)
        self._many = new.on_conflict_do_nothing(index_elements=_ITEM)

    def add(self, session: Session, values: Mapping[str, Any]) -> int:
        """A row; returns its id, new or not."""
        made_id: int = session.connection().execute(self._one, dict(values)).one().id
        return made_id

    def add_many(self, session: Session, values: Sequence[Mapping[str, Any]]) -> None:
        """Many rows in one go."""
        if values:
            session.connection().execute(self._many, [dict(row) for row in values])
