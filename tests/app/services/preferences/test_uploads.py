"""Uploads wait as files until they are saved, thrown away or forgotten."""

import io
import os
import time

import pytest

from app.services.preferences import uploads as preference_uploads
from core.errors import Invalid, NotFound

ROW = b'{"prompt": "Late?", "chosen": "Yes.", "rejected": "Perhaps."}\n'


def staged(folder, name="mine.jsonl", content=ROW):
    return preference_uploads.stage_file(folder, name, io.BytesIO(content))


def test_an_upload_is_found_again_by_its_token(tmp_path):
    upload = staged(tmp_path)
    assert preference_uploads.get_upload(tmp_path, upload.token) == upload
    report = preference_uploads.read_upload(upload, held_out_share=0.0)
    assert len(report.found.pairs) == 1
    assert report.n_twins == 0


def test_twins_are_counted(tmp_path):
    opposite = b'{"prompt": "Late?", "chosen": "Perhaps.", "rejected": "Yes."}\n'
    upload = staged(tmp_path, content=ROW + ROW + opposite)
    report = preference_uploads.read_upload(upload, held_out_share=0.0)
    assert report.n_twins == 2
    assert {reason.value: n for reason, n in report.by_reason.items()} == {
        "duplicate": 1,
        "contradiction": 1,
    }


@pytest.mark.parametrize("name", ["../../etc/x.jsonl", "C:\\tmp\\x.jsonl"])
def test_a_name_cannot_leave_the_folder(tmp_path, name):
    upload = staged(tmp_path, name)
    assert upload.source == "x.jsonl"
    assert upload.path.parent.parent.parent == tmp_path / "uploads"


def test_the_name_of_a_file_decides_its_split(tmp_path):
    upload = staged(tmp_path, "test_prefs-00000 of 1.jsonl")
    (pair,) = preference_uploads.read_upload(upload, held_out_share=0.0).found.pairs
    assert pair.split.value == "eval"


def test_a_file_of_no_known_kind_is_refused(tmp_path):
    with pytest.raises(Invalid, match=r"notes\.docx is of no known kind"):
        staged(tmp_path, "notes.docx")


@pytest.mark.parametrize("token", ["", "../x", "0" * 32, "Z" * 32])
def test_any_other_token_is_nothing(tmp_path, token):
    with pytest.raises(NotFound):
        preference_uploads.get_upload(tmp_path, token)
    preference_uploads.discard(tmp_path, token)


def test_a_path_of_this_machine_is_left_in_place(tmp_path):
    path = tmp_path / "here.jsonl"
    path.write_bytes(ROW)
    upload = preference_uploads.stage_path(tmp_path, str(path))
    preference_uploads.discard(tmp_path, upload.token)
    assert path.read_bytes() == ROW
    with pytest.raises(NotFound, match="There is no file or folder"):
        preference_uploads.stage_path(tmp_path, str(tmp_path / "gone"))


def test_what_nobody_saved_in_a_day_is_forgotten(tmp_path):
    old, young = staged(tmp_path), staged(tmp_path)
    yesterday = time.time() - 25 * 3600
    os.utime(old.path.parent.parent, (yesterday, yesterday))
    staged(tmp_path)
    assert not old.path.exists()
    assert young.path.exists()
