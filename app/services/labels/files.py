"""Labels as files: written as JSON lines or CSV, and read back with a reason for each refused row.

What is written and read again is the same, author and time too. Reading is one transaction.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from itertools import groupby
from typing import IO, Any

from app.services.features.export import ExportFormat, Row, write_rows
from app.services.labels.texts import checked, checked_author, split_tags
from app.services.problems import FieldsInvalid
from core.db.repositories import catalog, labels
from core.db.session import Session, SessionScope
from core.domain.ids import FeatureId
from core.domain.label import ChangeKind, Existing, Label, LabelQuery, LabelRecord, LabelText
from core.errors import Invalid, NotFound

MAX_FILE_BYTES = 250_000_000
COLUMNS = ("feature", "name", "note", "tags", "author", "changed_at")
_BATCH = 1_000
_SHOWN_CHARS = 200


class RowFault(StrEnum):
    """Why a row of a file is refused."""

    NOT_JSON = "not_json"
    NOT_AN_OBJECT = "not_an_object"
    ENCODING = "encoding"  # not UTF-8
    COLUMNS = "columns"  # more cells than the header has names
    FEATURE = "feature"  # names no feature
    UNKNOWN_SAE = "unknown_sae"
    NO_SUCH_FEATURE = "no_such_feature"
    TEXT = "text"  # a name, note or tag that may not be
    TIME = "time"
    EMPTY = "empty"  # neither name, note nor tags
    DUPLICATE = "duplicate"  # a row before says something of the same feature


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedRow:
    """A row that was refused: its line, from 1, the reason, and how it begins."""

    line: int
    fault: RowFault
    message: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What a file did, or would do.

    Attributes:
        dry_run: nothing was written.
        n_rows: rows read, refused ones too; the sum of all that follows.
        n_new: of features that had no label.
        n_same: that say what the label says already.
        n_replaced: that took another label's place, which the history has.
        kept: features whose other label was left as it is.
        rejected: every refused row, in order.
        ignored: columns that mean nothing here.
    """

    dry_run: bool
    n_rows: int = 0
    n_new: int = 0
    n_same: int = 0
    n_replaced: int = 0
    kept: tuple[FeatureId, ...] = ()
    rejected: tuple[RejectedRow, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def n_written(self) -> int:
        """Labels that changed, or would."""
        return self.n_new + self.n_replaced


def export_labels(scope: SessionScope, query: LabelQuery, form: ExportFormat) -> Iterator[bytes]:
    """Labels as a file, by model, SAE and index; a short session for each piece."""
    return write_rows(_rows(scope, query), COLUMNS, form)


def import_labels(
    session: Session,
    file: IO[bytes],
    form: ExportFormat,
    *,
    existing: Existing = Existing.KEEP,
    dry_run: bool = False,
) -> ImportReport:
    """Puts the labels of a file in, or tells what that would do.

    Args:
        session: the database; all of the file goes in, or nothing.
        file: UTF-8, with or without a byte order mark.
        form: jsonl or csv, as export_labels writes them.
        existing: what becomes of features with another label.
        dry_run: only tell.

    Raises:
        Invalid: the file as a whole cannot be read.
    """
    reading = _Reading(session=session)
    lines = _json_lines(file) if form is ExportFormat.JSONL else _csv_lines(file)
    records = [record for line in lines if (record := reading.take(line)) is not None]
    report = ImportReport(
        dry_run=dry_run,
        n_rows=reading.n_rows,
        rejected=tuple(reading.rejected),
        ignored=tuple(sorted(reading.ignored)),
    )
    records.sort(key=lambda record: record.feature)
    for _, group in groupby(records, key=lambda r: (r.feature.model_id, r.feature.sae_id)):
        of_sae = list(group)
        for start in range(0, len(of_sae), _BATCH):
            batch = of_sae[start : start + _BATCH]
            report = _put_in(session, batch, report, existing=existing)
    return report


def form_of(name: str) -> ExportFormat:
    """What a file is by its name.

    Raises:
        Invalid: another kind of file.
    """
    for form in (ExportFormat.JSONL, ExportFormat.CSV):
        if name.lower().endswith(f".{form.value}"):
            return form
    raise Invalid(
        f"{name[:100]!r} is neither .jsonl nor .csv.",
        hint="Name the file by what it is: labels.jsonl or labels.csv.",
    )


def _rows(scope: SessionScope, query: LabelQuery) -> Iterator[Row]:
    page = replace(query, limit=_BATCH)
    while True:
        with scope() as session:
            found = labels.list_labels(session, page)
        yield from map(_row, found)
        if len(found) < _BATCH:
            return
        page = replace(page, after=found[-1].feature)


def _row(label: Label) -> Row:
    return {
        "feature": str(label.feature),
        "name": label.text.name,
        "note": label.text.note,
        "tags": list(label.text.tags),
        "author": label.author,
        "changed_at": label.changed_at.isoformat() if label.changed_at else None,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """One row of a file; values are None with a fault where it cannot be read."""

    number: int
    text: str
    values: Mapping[str, Any] | None
    fault: tuple[RowFault, str] = (RowFault.NOT_JSON, "")


class _RefusedError(Exception):
    """A row that may not go in."""

    def __init__(self, fault: RowFault, message: str) -> None:
        self.fault, self.message = fault, message
        super().__init__(message)


@dataclass(slots=True, kw_only=True)
class _Reading:
    """Rows as they are read: what was refused, and what was seen before."""

    session: Session
    n_rows: int = 0
    rejected: list[RejectedRow] = field(default_factory=list)
    ignored: set[str] = field(default_factory=set)
    _seen: dict[FeatureId, int] = field(default_factory=dict)
    _sizes: dict[tuple[str, str], int | None] = field(default_factory=dict)

    def take(self, line: _Line) -> LabelRecord | None:
        """The label of a row; None where it is refused."""
        self.n_rows += 1
        try:
            return self._record(line)
        except _RefusedError as refused:
            shown = line.text[:_SHOWN_CHARS]
            self.rejected.append(
                RejectedRow(
                    line=line.number, fault=refused.fault, message=refused.message, text=shown
                )
            )
            return None

    def _record(self, line: _Line) -> LabelRecord:
        if line.values is None:
            raise _RefusedError(*line.fault)
        self.ignored |= set(line.values) - set(COLUMNS)
        feature = self._feature(line.values)
        before = self._seen.get(feature)
        if before is not None:
            raise _RefusedError(RowFault.DUPLICATE, f"Line {before} is of the same feature.")
        record = LabelRecord(
            feature=feature,
            text=_text(line.values),
            author=checked_author(_string(line.values, "author")),
            changed_at=_time(line.values.get("changed_at")),
        )
        if record.text.empty:
            raise _RefusedError(RowFault.EMPTY, "It has neither a name, a note nor tags.")
        self._seen[feature] = line.number
        return record

    def _feature(self, values: Mapping[str, Any]) -> FeatureId:
        try:
            feature = FeatureId.parse(_string(values, "feature"))
        except Invalid as error:
            raise _RefusedError(RowFault.FEATURE, f"{error.message} {error.hint}") from error
        size = self._size(feature.model_id, feature.sae_id)
        if size is None:
            name = f"{feature.model_id}/{feature.sae_id}"
            raise _RefusedError(RowFault.UNKNOWN_SAE, f"There is no SAE {name} here.")
        if feature.index >= size:
            raise _RefusedError(RowFault.NO_SUCH_FEATURE, f"Its features are 0 to {size - 1}.")
        return feature

    def _size(self, model_id: str, sae_id: str) -> int | None:
        key = (model_id, sae_id)
        if key not in self._sizes:
            try:
                sae = catalog.get_sae(self.session, model_id=model_id, sae_id=sae_id)
                self._sizes[key] = sae.n_features
            except NotFound:
                self._sizes[key] = None
        return self._sizes[key]


def _text(values: Mapping[str, Any]) -> LabelText:
    tags = values.get("tags")
    try:
        return checked(name=_string(values, "name"), note=_string(values, "note"), tags=_tags(tags))
    except FieldsInvalid as error:
        said = " ".join(f"{p.message} {p.hint}" for p in error.problems)
        raise _RefusedError(RowFault.TEXT, said) from error


def _tags(value: object) -> list[str]:
    """Tags of a row: a list, a list as JSON in a cell, or words with commas between them."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise _RefusedError(RowFault.TEXT, "Its tags are no list.") from error
    if value is None or isinstance(value, str):
        return split_tags(value or "")
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise _RefusedError(RowFault.TEXT, "Its tags are no list of texts.")
    return value


def _string(values: Mapping[str, Any], name: str) -> str:
    value = values.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _RefusedError(RowFault.TEXT, f"Its {name} is no text.")
    return value


def _time(value: object) -> datetime | None:
    if value in (None, ""):
        return None
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise _RefusedError(RowFault.TIME, "Its changed_at is no time with a zone, as in ISO 8601.")
    return found.astimezone(UTC)


def _json_lines(file: IO[bytes]) -> Iterator[_Line]:
    for number, raw in enumerate(file, start=1):
        raw = raw.removeprefix(b"\xef\xbb\xbf") if number == 1 else raw
        if not raw.strip():
            continue
        yield _json_line(number, raw.rstrip(b"\r\n"))


def _json_line(number: int, raw: bytes) -> _Line:
    text = raw.decode("utf-8", errors="replace")
    try:
        values = json.loads(raw.decode())
    except UnicodeDecodeError:
        fault = (RowFault.ENCODING, "It is not UTF-8.")
        return _Line(number=number, text=text, values=None, fault=fault)
    except (ValueError, RecursionError):
        fault = (RowFault.NOT_JSON, "It is not JSON.")
        return _Line(number=number, text=text, values=None, fault=fault)
    if not isinstance(values, dict):
        fault = (RowFault.NOT_AN_OBJECT, "It is no JSON object.")
        return _Line(number=number, text=text, values=None, fault=fault)
    return _Line(number=number, text=text, values=values)


def _csv_lines(file: IO[bytes]) -> Iterator[_Line]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield from _csv_rows(csv.reader(text, strict=True))
    except UnicodeDecodeError as error:
        raise Invalid("The file is not UTF-8.", hint="Save it as CSV in UTF-8.") from error
    except csv.Error as error:
        raise Invalid(
            f"The file is not CSV: {error}.", hint="Write it as an export of labels looks."
        ) from error
    finally:
        text.detach()


def _csv_rows(reader: Any) -> Iterator[_Line]:
    header = next(reader, None)
    if header is None or "feature" not in header:
        raise Invalid(
            "The file has no column 'feature'.", hint=f"Its first line names {', '.join(COLUMNS)}."
        )
    line = reader.line_num + 1
    for cells in reader:
        if cells:
            said = ",".join(cells)
            if len(cells) > len(header):
                fault = (RowFault.COLUMNS, f"It has {len(cells)} cells, not {len(header)}.")
                yield _Line(number=line, text=said, values=None, fault=fault)
            else:
                values = dict(zip(header, cells, strict=False))
                yield _Line(number=line, text=said, values=values)
        line = reader.line_num + 1


def _put_in(
    session: Session, records: list[LabelRecord], report: ImportReport, *, existing: Existing
) -> ImportReport:
    first = records[0].feature
    key = {"model_id": first.model_id, "sae_id": first.sae_id}
    if not report.dry_run:
        labels.hold(session, **key)
    present = labels.of_features(session, **key, indices=[r.feature.index for r in records])
    writing: list[LabelRecord] = []
    n_new, n_same, kept = 0, 0, []
    for record in records:
        label = present.get(record.feature.index)
        if label is None or label.text.empty:
            n_new += 1
            writing.append(record)
        elif label.text == record.text:
            n_same += 1
        elif existing is Existing.REPLACE:
            writing.append(record)
        else:
            kept.append(record.feature)
    if not report.dry_run:
        labels.write(session, writing, kind=ChangeKind.IMPORT)
    return replace(
        report,
        n_new=report.n_new + n_new,
        n_same=report.n_same + n_same,
        n_replaced=report.n_replaced + len(writing) - n_new,
        kept=(*report.kept, *kept),
    )
