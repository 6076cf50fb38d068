"""Preference sets: uploads with their counts and refused rows; the pairs lie in files."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import delete as delete_rows
from sqlalchemy import func, select
from sqlalchemy import update as update_rows
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from core.db.models.alignment import RejectedPreference, StoredPreferences
from core.db.packing.lines import pack_lines, unpack_lines
from core.db.repositories.keyset import check_limit
from core.domain.preference import PreferenceSet, RejectedRow, RejectReason
from core.domain.views_align import PreferenceSetCard, RejectedList
from core.errors import NotFound
from core.interchange.preference_store import SavedPairs

_ROW = StoredPreferences
_CARD = (
    *(_ROW.id, _ROW.name, _ROW.source, _ROW.formats, _ROW.content_hash, _ROW.n_rows),
    *(_ROW.n_train, _ROW.n_held_out, _ROW.held_out_share, _ROW.rejected_by_reason),
    *(_ROW.n_bytes, _ROW.created_by, _ROW.created_at),
)


def add(
    session: Session,
    *,
    name: str,
    source: str,
    found: PreferenceSet,
    saved: SavedPairs,
    held_out_share: float,
    created_by: str | None = None,
) -> tuple[int, bool]:
    """A new set; returns its id, and False where this very set was there already.

    Args:
        session: the transaction.
        name: what the set is called.
        source: name of the file that was uploaded.
        found: pairs and refused rows of the file.
        saved: the canonical file of the pairs.
        held_out_share: as it was asked for.
        created_by: who uploaded it.
    """
    reasons = Counter(row.reason.value for row in found.rejected)
    values = {
        "name": name,
        "source": source,
        "formats": {kind.value: n for kind, n in found.formats.items()},
        "content_hash": saved.content_hash,
        "rejected_hash": _rejected_hash(found.rejected),
        "n_rows": found.n_rows,
        "n_train": int(np.count_nonzero(~saved.held_out)),
        "n_held_out": int(np.count_nonzero(saved.held_out)),
        "held_out_share": held_out_share,
        "rejected_by_reason": dict(reasons.most_common()),
        "n_bytes": saved.n_bytes,
        "lines": pack_lines(saved.lengths, saved.held_out),
        "created_by": created_by,
    }
    query = insert(_ROW).values(values).on_conflict_do_nothing().returning(_ROW.id)
    set_id = session.execute(query).scalar_one_or_none()
    if set_id is None:
        same = select(_ROW.id).where(
            _ROW.content_hash == saved.content_hash,
            _ROW.rejected_hash == values["rejected_hash"],
        )
        return session.execute(same).scalar_one(), False
    _add_rejected(session, set_id, found.rejected)
    return set_id, True


def list_sets(session: Session) -> tuple[PreferenceSetCard, ...]:
    """Every stored set, the newest first."""
    return tuple(_card(row) for row in session.execute(select(*_CARD).order_by(_ROW.id.desc())))


def get_set(session: Session, set_id: int) -> PreferenceSetCard:
    """One stored set.

    Raises:
        NotFound: no such set.
    """
    row = session.execute(select(*_CARD).where(_ROW.id == set_id)).one_or_none()
    if row is None:
        raise _missing(set_id)
    return _card(row)


def find_by_hash(session: Session, content_hash: str) -> PreferenceSetCard | None:
    """The newest set with exactly these pairs, if there is one."""
    query = select(*_CARD).where(_ROW.content_hash == content_hash).order_by(_ROW.id.desc())
    row = session.execute(query.limit(1)).one_or_none()
    return None if row is None else _card(row)


def get_lines(session: Session, set_id: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Length of each line of a set's file, and whether its pair is held out.

    Raises:
        NotFound: no such set.
    """
    packed = session.execute(select(_ROW.lines).where(_ROW.id == set_id)).scalar_one_or_none()
    if packed is None:
        raise _missing(set_id)
    return unpack_lines(packed)


def list_rejected(
    session: Session,
    set_id: int,
    *,
    reason: RejectReason | None = None,
    offset: int = 0,
    limit: int = 50,
) -> RejectedList:
    """One page of a set's refused rows, in source order."""
    check_limit(limit)
    mine = [RejectedPreference.set_id == set_id]
    mine += [RejectedPreference.reason == reason.value] if reason is not None else []
    counted = select(func.count()).select_from(RejectedPreference).where(*mine)
    n_matching = session.execute(counted).scalar_one()
    query = (
        select(
            RejectedPreference.row,
            RejectedPreference.reason,
            RejectedPreference.detail,
            RejectedPreference.preview,
        )
        .where(*mine)
        .order_by(RejectedPreference.row)
        .offset(offset)
        .limit(limit)
    )
    rows = tuple(
        RejectedRow(
            row=row.row, reason=RejectReason(row.reason), detail=row.detail, preview=row.preview
        )
        for row in session.execute(query)
    )
    end = offset + len(rows)
    return RejectedList(rows=rows, n_matching=n_matching, next_offset=_next(end, n_matching))


def rename(session: Session, set_id: int, name: str) -> None:
    """Call a set something else.

    Raises:
        NotFound: no such set.
    """
    query = update_rows(_ROW).where(_ROW.id == set_id).values(name=name).returning(_ROW.id)
    if session.execute(query).scalar_one_or_none() is None:
        raise _missing(set_id)


def delete(session: Session, set_id: int) -> str | None:
    """Remove a set; returns the content hash whose file no other set uses, if any.

    Raises:
        NotFound: no such set.
    """
    gone = delete_rows(_ROW).where(_ROW.id == set_id).returning(_ROW.content_hash)
    content_hash = session.execute(gone).scalar_one_or_none()
    if content_hash is None:
        raise _missing(set_id)
    return content_hash if find_by_hash(session, content_hash) is None else None


def _add_rejected(session: Session, set_id: int, rejected: Sequence[RejectedRow]) -> None:
    rows = [
        {
            "set_id": set_id,
            "row": row.row,
            "reason": row.reason.value,
            "detail": _storable(row.detail),
            "preview": _storable(row.preview),
        }
        for row in rejected
    ]
    if rows:
        session.execute(insert(RejectedPreference), rows)


def _storable(text: str) -> str:
    """The text without what PostgreSQL cannot hold."""
    return text.encode("utf-8", "replace").decode().replace("\0", "\N{SYMBOL FOR NULL}")


def _rejected_hash(rejected: Sequence[RejectedRow]) -> str:
    digest = hashlib.sha256()
    for row in rejected:
        told = json.dumps([row.row, row.reason.value, row.detail, row.preview])
        digest.update(told.encode() + b"\n")
    return digest.hexdigest()


def _next(end: int, n_matching: int) -> int | None:
    return end if end < n_matching else None


def _card(row: Any) -> PreferenceSetCard:
    return PreferenceSetCard(
        set_id=row.id,
        name=row.name,
        source=row.source,
        formats=row.formats,
        content_hash=row.content_hash,
        n_rows=row.n_rows,
        n_train=row.n_train,
        n_held_out=row.n_held_out,
        held_out_share=row.held_out_share,
        rejected_by_reason={
            RejectReason(reason): n
            for reason, n in sorted(row.rejected_by_reason.items(), key=lambda item: -item[1])
        },
        n_bytes=row.n_bytes,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def _missing(set_id: int) -> NotFound:
    return NotFound(f"There is no preference set {set_id}.", hint="It may have been deleted.")
