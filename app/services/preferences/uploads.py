"""Uploads that were read but not saved yet: kept as files, so that a report can be read first."""

import json
import re
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from app.services.harvest.sources import is_there
from core.db.session import Session
from core.domain.align_jobs import FetchSpec
from core.domain.alignment import HubPreferences
from core.domain.preference import PreferenceSet, RejectReason
from core.errors import Invalid, NotFound
from core.interchange.preference_store import UPLOADS, upload_rows
from core.interchange.preferences import read_preferences
from core.jobs import control

MAX_UPLOAD_BYTES = 250_000_000
ENDINGS = (".jsonl", ".jsonl.gz", ".json", ".parquet")
_NOTE = "upload.json"
_TOKEN = re.compile(r"[0-9a-f]{32}")
_KEPT_SECONDS = 24 * 3600
_CACHED = 2  # an upload is looked at by one person, several pages in a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Something to read pairs from that waits to be saved.

    Attributes:
        token: names it in addresses.
        source: name of the file as it was uploaded, a path of this machine, or a dataset.
        path: what is read.
        job_id: the job that fetches it; None for files.
    """

    token: str
    source: str
    path: Path
    job_id: int | None = None

    @property
    def is_here(self) -> bool:
        """Whether a fetched upload has come."""
        return self.job_id is None or is_there(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class UploadReport:
    """What reading an upload found; nothing of it is saved.

    Attributes:
        by_reason: rejected rows of each reason that occurs, the commonest first.
    """

    upload: Upload
    found: PreferenceSet
    by_reason: Mapping[RejectReason, int]

    @property
    def n_twins(self) -> int:
        """Rows that say what another row says, or its opposite."""
        repeated = (RejectReason.DUPLICATE, RejectReason.CONTRADICTION)
        return sum(self.by_reason.get(reason, 0) for reason in repeated)


def stage_file(data_dir: Path, name: str, content: IO[bytes]) -> Upload:
    """Keeps an uploaded file until it is saved or a day has passed.

    Raises:
        Invalid: its name has no ending that is known.
    """
    base = Path(name.replace("\\", "/")).name
    ending = next((e for e in sorted(ENDINGS, key=len, reverse=True) if base.endswith(e)), None)
    if ending is None:
        raise Invalid(
            f"{base or 'The file'} is of no known kind.", hint=f"Give one of {', '.join(ENDINGS)}."
        )
    folder = _new_folder(data_dir)
    path = upload_rows(data_dir, folder.name) / _plain(base, ending)  # a name may name a split
    path.parent.mkdir()
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
    return _note(folder, Upload(token=folder.name, source=base, path=path))


def stage_path(data_dir: Path, location: str) -> Upload:
    """Notes a file or folder of this machine; it is read where it is.

    Raises:
        NotFound: there is none.
    """
    path = Path(location).expanduser()
    if not is_there(path):
        raise NotFound(
            f"There is no file or folder {location}.",
            hint="Name one on the machine that Sparsight runs on.",
        )
    folder = _new_folder(data_dir)
    return _note(folder, Upload(token=folder.name, source=location, path=path))


def stage_dataset(
    session: Session, data_dir: Path, data: HubPreferences, *, save_as: str = ""
) -> Upload:
    """Notes a dataset, and queues the job that fetches its rows when the transaction commits."""
    folder = _new_folder(data_dir)
    job_id = control.submit(session, FetchSpec(data=data, upload=folder.name, save_as=save_as))
    path = upload_rows(data_dir, folder.name)
    upload = Upload(token=folder.name, source=data.name, path=path, job_id=job_id)
    return _note(folder, upload)


def get_upload(data_dir: Path, token: str) -> Upload:
    """An upload that waits.

    Raises:
        NotFound: it was saved, thrown away, or a day has passed.
    """
    folder = data_dir / UPLOADS / token
    if not _TOKEN.fullmatch(token) or not is_there(folder / _NOTE):
        raise NotFound("This upload is not kept any more.", hint="Upload the file again.")
    note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
    return Upload(
        token=token, source=note["source"], path=Path(note["path"]), job_id=note.get("job_id")
    )


def read_upload(upload: Upload, *, held_out_share: float) -> UploadReport:
    """Every pair and every rejected row of an upload.

    Raises:
        NotFound, Invalid: the file is gone, or is not what its ending says.
    """
    found = _read(upload.path, upload.token, held_out_share)
    counts = Counter(row.reason for row in found.rejected)
    return UploadReport(upload=upload, found=found, by_reason=dict(counts.most_common()))


def discard(data_dir: Path, token: str) -> None:
    """Throws an upload away; what was saved of it stays."""
    if _TOKEN.fullmatch(token):
        shutil.rmtree(data_dir / UPLOADS / token, ignore_errors=True)


@lru_cache(maxsize=_CACHED)
def _read(path: Path, token: str, held_out_share: float) -> PreferenceSet:  # noqa: ARG001 - part of the key
    return read_preferences(path, held_out_share=held_out_share)


def _plain(base: str, ending: str) -> str:
    """A file's name without what a disk might not bear."""
    stem = re.sub(r"[^\w.-]+", "_", base.removesuffix(ending))[:100]
    return f"{stem or 'rows'}{ending}"


def _new_folder(data_dir: Path) -> Path:
    root = data_dir / UPLOADS
    root.mkdir(parents=True, exist_ok=True)
    for old in root.iterdir():
        if time.time() - old.stat().st_mtime > _KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    folder = root / secrets.token_hex(16)
    folder.mkdir()
    return folder


def _note(folder: Path, upload: Upload) -> Upload:
    note = {"source": upload.source, "path": str(upload.path), "job_id": upload.job_id}
    (folder / _NOTE).write_text(json.dumps(note), encoding="utf-8")
    return upload
