"""Features as files: lists and single features, streamed as JSON lines, JSON or CSV.

Nothing is held but one page of rows: a stream opens a short session for each, so that a slow
reader never holds a database connection.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from app.services.features import catalog, features
from app.services.features.paged import ROWS_A_PAGE, every_page
from core.db.repositories import labels
from core.db.session import Session, SessionScope
from core.domain.activation import ContextActivations
from core.domain.ids import FeatureId
from core.domain.views import FeatureCard, FeaturePage, FeatureQuery, Vocabulary

_BLOCK_BYTES = 65_536

Row = Mapping[str, object]
_Exported = tuple[FeatureCard, dict[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    exported: tuple[_Exported, ...]
    next_after: str | None


class ExportFormat(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"  # one JSON object a line
    JSON = "json"  # one array of objects
    CSV = "csv"  # RFC 4180, UTF-8, with a header; lists inside a cell are JSON


MEDIA_TYPES = {
    ExportFormat.JSONL: "application/x-ndjson",
    ExportFormat.JSON: "application/json",
    ExportFormat.CSV: "text/csv; charset=utf-8",
}

LIST_COLUMNS = (
    "feature",
    "harvest_id",
    "index",
    "density",
    "n_active",
    "n_contexts",
    "max_activation",
    "mean_activation",
    "peak_token_id",
    "peak_token",
    "promoted",
    "label",
    "note",
    "tags",
)
CONTEXT_COLUMNS = (
    "feature",
    "harvest_id",
    "context_index",
    "band",
    "source",
    "document",
    "start",
    "token_ids",
    "tokens",
    "tokens_hex",
    "activations",
)


def list_export(
    scope: SessionScope,
    *,
    model_id: str,
    sae_id: str,
    query: FeatureQuery,
    harvest_id: int | None = None,
    form: ExportFormat,
) -> Iterator[bytes]:
    """Every feature that matches a list's filters, in its order; the query's limit is ignored.

    Raises (before the first piece):
        NotFound: no such model, SAE or harvest.
        Invalid: the query's keyset cannot be read.
    """
    with scope() as session:
        sae = catalog.get_sae(session, model_id=model_id, sae_id=sae_id, harvest_id=harvest_id)
        harvest = sae.harvest
        chosen = harvest.harvest_id if harvest else harvest_id
        revision = harvest.model_revision if harvest else None
        words = catalog.vocabulary(session, model_id=model_id, revision=revision)

    def read(after: str | None) -> _Page:
        page = replace(query, after=after, limit=ROWS_A_PAGE)
        with scope() as session:
            found = features.list_features(
                session, model_id=model_id, sae_id=sae_id, harvest_id=chosen, query=page
            )
            said = tuple(_said(session, model_id, sae_id, found.cards))
        exported = tuple(zip(found.cards, said, strict=True))
        return _Page(exported=exported, next_after=found.next_after)

    first = read(query.after)
    rows = (
        _list_row(FeatureId(model_id=model_id, sae_id=sae_id, index=0), chosen, card, words) | said
        for page in every_page(first, read)
        for card, said in page.exported
    )
    return write_rows(rows, LIST_COLUMNS, form)


def feature_export(
    session: Session,
    *,
    feature: FeatureId,
    harvest_id: int | None = None,
    include_random: bool = False,
    form: ExportFormat,
) -> Iterator[bytes]:
    """Every stored context of a feature, with exact bytes of its tokens and all activations.

    Raises:
        NotFound: no such model, SAE, harvest or index.
    """
    page = features.feature_page(
        session, feature=feature, harvest_id=harvest_id, include_random=include_random
    )
    words = catalog.page_vocabulary(session, page)
    rows = (context_row(feature, page, context, words) for context in page.contexts)
    return write_rows(rows, CONTEXT_COLUMNS, form)


def write_rows(
    rows: Iterable[Row], columns: tuple[str, ...], form: ExportFormat
) -> Iterator[bytes]:
    r"""Rows in a format, piece by piece.

    >>> b"".join(write_rows([{"a": 1, "b": "x,y"}], ("a", "b"), ExportFormat.CSV))
    b'a,b\r\n1,"x,y"\r\n'
    >>> b"".join(write_rows([{"a": 1}, {"a": 2}], ("a",), ExportFormat.JSON))
    b'[\n{"a":1},\n{"a":2}\n]\n'
    """
    match form:
        case ExportFormat.JSONL:
            return in_blocks(_dump(row) + b"\n" for row in rows)
        case ExportFormat.JSON:
            return in_blocks(_json_array(rows))
        case ExportFormat.CSV:
            return in_blocks(_csv(rows, columns))


def in_blocks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of at least 64 kB but the last: each costs the server a hop.

    >>> [len(block) for block in in_blocks([b"x" * 40_000] * 3)]
    [80000, 40000]
    """
    block = bytearray()
    for piece in pieces:
        block += piece
        if len(block) >= _BLOCK_BYTES:
            yield bytes(block)
            block.clear()
    if block:
        yield bytes(block)


def _said(
    session: Session, model_id: str, sae_id: str, cards: tuple[FeatureCard, ...]
) -> Iterator[dict[str, object]]:
    """What people say of features, as columns."""
    indices = [card.stats.index for card in cards]
    named = labels.of_features(session, model_id=model_id, sae_id=sae_id, indices=indices)
    for index in indices:
        text = named[index].text if index in named else None
        yield {
            "label": text.name or None if text else None,
            "note": text.note or None if text else None,
            "tags": list(text.tags) if text else [],
        }


def _list_row(
    sae: FeatureId, harvest_id: int | None, card: FeatureCard, words: Vocabulary
) -> dict[str, object]:
    stats = card.stats
    return {
        "feature": str(replace(sae, index=stats.index)),
        "harvest_id": harvest_id,
        "index": stats.index,
        "density": stats.density,
        "n_active": stats.n_active,
        "n_contexts": stats.n_contexts,
        "max_activation": features.shortest(stats.max_activation),
        "mean_activation": stats.mean_activation,
        "peak_token_id": None if stats.dead else card.peak_token,
        "peak_token": None if stats.dead else catalog.token_text(words, card.peak_token),
        "promoted": [catalog.token_text(words, token_id) for token_id in card.promoted],
    }


def context_row(
    feature: FeatureId, page: FeaturePage, context: ContextActivations, words: Vocabulary
) -> Row:
    """A stored context as a row of CONTEXT_COLUMNS."""
    ids = context.token_ids.tolist()
    found = [catalog.token(words, token_id) for token_id in ids]
    return {
        "feature": str(feature),
        "harvest_id": page.harvest.harvest_id,
        "context_index": context.context_index,
        "band": context.band.name.lower(),
        "source": context.source,
        "document": context.document,
        "start": context.start,
        "token_ids": ids,
        "tokens": [token.text for token in found],
        "tokens_hex": [token.raw.hex() for token in found],
        "activations": [features.shortest(value) for value in context.activations.tolist()],
    }


def _dump(row: Row) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _json_array(rows: Iterable[Row]) -> Iterator[bytes]:
    before = b"[\n"
    for row in rows:
        yield before + _dump(row)
        before = b",\n"
    yield b"[]\n" if before == b"[\n" else b"\n]\n"


def _csv(rows: Iterable[Row], columns: tuple[str, ...]) -> Iterator[bytes]:
    yield _csv_line(columns)
    for row in rows:
        yield _csv_line(_cell(row[column]) for column in columns)


def _csv_line(cells: Iterable[str]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)
    return text.getvalue().encode()


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
