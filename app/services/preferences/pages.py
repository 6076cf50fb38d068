"""Preference sets as pages show them: the shipped one and the stored ones, page by page."""

from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np

from app.services.preferences.uploads import Upload, UploadReport, discard
from app.services.problems import FieldProblem, FieldsInvalid
from core.db.repositories import contrasts, preference_sets
from core.db.session import Session
from core.domain.alignment import DemoPreferences, PreferenceSource, StoredPreferences
from core.domain.preference import PreferencePair, PreferenceSet, RejectReason, Split, content_hash
from core.domain.views_align import (
    NumberedPair,
    PairList,
    PreferenceSetCard,
    PreferenceSetPage,
    RejectedList,
)
from core.interchange.preference_store import (
    load_pairs,
    read_demo,
    read_some,
    remove_pairs,
    save_pairs,
)
from core.interchange.preferences import preference_lines

DEMO = "demo"  # the shipped set, which has no row
NAME_LENGTH = 120

SetId = int | None


def list_sets(session: Session) -> tuple[PreferenceSetCard, ...]:
    """The shipped set, then the stored ones, the newest first."""
    return (demo_card(), *preference_sets.list_sets(session))


def count_contrasts(session: Session) -> dict[str, int]:
    """Contrasts by the content hash of the set that they read."""
    return dict(Counter(card.preference_hash for card in contrasts.list_contrasts(session)))


def get_card(session: Session, set_id: SetId) -> PreferenceSetCard:
    """One set; None names the shipped one.

    Raises:
        NotFound: no such set.
    """
    return demo_card() if set_id is None else preference_sets.get_set(session, set_id)


def get_page(
    session: Session,
    set_id: SetId,
    *,
    data_dir: Path,
    split: Split | None,
    reason: RejectReason | None,
    offset: int,
    limit: int,
    rejected: bool,
) -> PreferenceSetPage:
    """One page of a set: of its pairs, or of its rejected rows.

    Raises:
        NotFound: no such set, or its file is gone.
    """
    card = get_card(session, set_id)
    pairs = PairList(pairs=(), n_matching=0, next_offset=None)
    rows = RejectedList(rows=(), n_matching=0, next_offset=None)
    if rejected and set_id is not None:
        rows = preference_sets.list_rejected(
            session, set_id, reason=reason, offset=offset, limit=limit
        )
    elif not rejected:
        pairs = _pair_list(session, card, data_dir, split=split, offset=offset, limit=limit)
    return PreferenceSetPage(
        card=card,
        split=split,
        pairs=pairs,
        reason=reason,
        rejected=rows,
        contrasts=contrasts.list_contrasts(session, preference_hash=card.content_hash),
    )


def save_upload(
    session: Session, report: UploadReport, *, name: str, held_out_share: float, data_dir: Path
) -> tuple[int, bool]:
    """Stores what was read of an upload, and throws the upload away.

    Returns:
        The id of the set, and False where this very set was there already.

    Raises:
        FieldsInvalid: no name, or no pair to store.
    """
    problems = list(_name_problems(name))
    if not report.found.pairs:
        message = "No row can be used, so there is nothing to store."
        problems.append(FieldProblem(path="name", message=message))
    if problems:
        raise FieldsInvalid(tuple(problems))
    saved = save_pairs(report.found.pairs, data_dir)
    set_id, is_new = preference_sets.add(
        session,
        name=name.strip(),
        source=report.upload.source,
        found=report.found,
        saved=saved,
        held_out_share=held_out_share,
    )
    discard(data_dir, report.upload.token)
    return set_id, is_new


def rename(session: Session, set_id: int, name: str) -> None:
    """Calls a set something else.

    Raises:
        NotFound: no such set.
        FieldsInvalid: the name is empty or too long.
    """
    problems = tuple(_name_problems(name))
    if problems:
        raise FieldsInvalid(problems)
    preference_sets.rename(session, set_id, name.strip())


def delete(session: Session, set_id: int, *, data_dir: Path) -> None:
    """Removes a set with its rejected rows, and its file where no other set has the same pairs.

    Raises:
        NotFound: no such set.
    """
    unused = preference_sets.delete(session, set_id)
    if unused is not None:
        remove_pairs(data_dir, unused)


def export(session: Session, set_id: SetId, *, data_dir: Path) -> Iterator[str]:
    """Every pair as a line of JSON: TRL's explicit prompt as messages, with its split.

    Raises:
        NotFound: no such set, or its file is gone.
    """
    card = get_card(session, set_id)
    found = read_demo() if set_id is None else load_pairs(data_dir, card.content_hash)
    return (line + "\n" for line in preference_lines(found.pairs))


def source_of(card: PreferenceSetCard) -> PreferenceSource:
    """A set as settings of a job name it."""
    if card.set_id is None:
        return DemoPreferences()
    return StoredPreferences(content_hash=card.content_hash, name=card.name)


@lru_cache(maxsize=1)
def demo_card() -> PreferenceSetCard:
    """The set that ships with Sparsight."""
    found = _demo()
    return PreferenceSetCard(
        set_id=None,
        name=DEMO,
        source="core/presets/align/demo_preferences.jsonl",
        formats={kind.value: n for kind, n in found.formats.items()},
        content_hash=content_hash(found.pairs),
        n_rows=found.n_rows,
        n_train=len(found.train),
        n_held_out=len(found.held_out),
        held_out_share=0.0,
        rejected_by_reason={},
        n_bytes=sum(len(line.encode()) + 1 for line in preference_lines(found.pairs)),
        created_by=None,
        created_at=None,
    )


def default_name(upload: Upload) -> str:
    """What a set is called after its file, unless somebody says otherwise.

    >>> default_name(Upload(token="", source="/data/my_pairs.jsonl.gz", path=Path()))
    'my_pairs'
    """
    return Path(upload.source).name.split(".")[0][:NAME_LENGTH] or "pairs"


@lru_cache(maxsize=1)
def _demo() -> PreferenceSet:
    return read_demo()


def _pair_list(
    session: Session,
    card: PreferenceSetCard,
    data_dir: Path,
    *,
    split: Split | None,
    offset: int,
    limit: int,
) -> PairList:
    if card.set_id is None:
        pairs = _demo().pairs
        positions = [i for i, pair in enumerate(pairs) if split in (None, pair.split)]
        chosen = positions[offset : offset + limit]
        found = iter([pairs[i] for i in chosen])
    else:
        lengths, held_out = preference_sets.get_lines(session, card.set_id)
        mine = held_out if split is Split.EVAL else ~held_out
        positions = list(range(len(held_out)))
        if split is not None:
            positions = np.flatnonzero(mine).tolist()
        chosen = positions[offset : offset + limit]
        found = read_some(data_dir, card.content_hash, lengths=lengths, positions=chosen)
    end = offset + len(chosen)
    return PairList(
        pairs=_numbered(chosen, found),
        n_matching=len(positions),
        next_offset=end if end < len(positions) else None,
    )


def _numbered(positions: list[int], pairs: Iterator[PreferencePair]) -> tuple[NumberedPair, ...]:
    both = zip(positions, pairs, strict=True)
    return tuple(NumberedPair(position=position, pair=pair) for position, pair in both)


def _name_problems(name: str) -> Iterator[FieldProblem]:
    if not name.strip():
        yield FieldProblem(path="name", message="Give the set a name.")
    elif len(name.strip()) > NAME_LENGTH:
        yield FieldProblem(
            path="name", message=f"The name is longer than {NAME_LENGTH} characters."
        )
