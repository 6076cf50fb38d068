"""Preference rows of a dataset brought into the data folder, where a report of them can be read."""

import json
import shutil
from collections.abc import Iterator, Sized
from pathlib import Path

from pydantic import JsonValue

from core.db.repositories import preference_sets
from core.domain.align_jobs import FetchSpec
from core.domain.alignment import HubPreferences
from core.interchange.preference_store import save_pairs, upload_rows
from core.interchange.preferences import read_preferences
from worker.align.data.datasets_source import open_split
from worker.align.data.sources import check_enough
from worker.align.storage import new_folder
from worker.progress import JobContext

_LOOK_ROWS = 200  # between two looks at whether to stop


def run_fetch(spec: FetchSpec, job: JobContext) -> dict[str, JsonValue]:
    """Write the rows of each split to a file; a resumed job begins anew.

    Returns:
        ``upload``, ``n_rows``, and ``set_id`` where they were to be saved.
    """
    place = upload_rows(job.data_dir, spec.upload)
    n_rows = 0
    with new_folder(place) as partial:
        for name, split in _parts(spec.data):
            n_rows += _write(spec.data, split, partial / f"{name}.jsonl", job)
    job.tell("rows_fetched", n_rows=n_rows, data=spec.data.name)
    result: dict[str, JsonValue] = {"upload": spec.upload, "n_rows": n_rows}
    if spec.save_as:
        result["set_id"] = _save(spec, place, job)
        shutil.rmtree(place.parent, ignore_errors=True)
    return result


def _parts(data: HubPreferences) -> Iterator[tuple[str, str]]:
    """Names of files and their splits; only where a split is held out do names tell splits."""
    if data.eval_split is None:
        yield "rows", data.train_split
    else:
        yield from (("train", data.train_split), ("test", data.eval_split))


def _write(data: HubPreferences, split: str, path: Path, job: JobContext) -> int:
    job.progress(done=0, total=None, unit="rows", phase="fetching")
    rows = open_split(data, split)
    total = len(rows) if isinstance(rows, Sized) else None
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, default=str) + "\n")
            count += 1
            if count % _LOOK_ROWS == 0:
                job.check()
                job.progress(done=count, total=total, unit="rows", phase="fetching")
    job.progress(done=count, total=total, unit="rows", phase="fetching")
    return count


def _save(spec: FetchSpec, place: Path, job: JobContext) -> int:
    share = 0.0 if spec.data.eval_split else spec.data.held_out_share
    found = read_preferences(place, held_out_share=share)
    check_enough(found, len(found.pairs))
    saved = save_pairs(found.pairs, job.data_dir)
    with job.scope() as session:
        set_id, _ = preference_sets.add(
            session,
            name=spec.save_as,
            source=spec.data.name,
            found=found,
            saved=saved,
            held_out_share=share,
        )
    return set_id
