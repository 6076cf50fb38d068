"""Datasets fetched by a job: saved folders, folders of files, splits, and clear refusals."""

import json
from typing import Any

import huggingface_hub
import pytest

from core.db.repositories import preference_sets
from core.domain.align_jobs import FetchSpec
from core.domain.alignment import HubPreferences
from core.domain.preference import RejectReason, Split
from core.errors import Cancelled, CorpusUnreadable, DownloadFailed, Invalid, NotFound
from core.interchange.preference_store import load_pairs, upload_rows
from core.interchange.preferences import read_preferences
from tests.support.jobs import claimed_job
from worker.align.data.fetch import run_fetch
from worker.align.data.sources import load_preferences

TOKEN = "0" * 32


def rows(tag, n=3):
    return [{"prompt": f"{tag} {i}?", "chosen": "Yes.", "rejected": "Perhaps."} for i in range(n)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The same rows as a saved dataset of two splits, as one, and as files of splits."""
    import datasets

    datasets.disable_progress_bars()
    root = tmp_path_factory.mktemp("datasets")
    train, test = (datasets.Dataset.from_list(rows(tag)) for tag in ("train", "test"))
    datasets.DatasetDict({"train_prefs": train, "test_prefs": test}).save_to_disk(root / "saved")
    train.save_to_disk(root / "one")
    (root / "files").mkdir()
    for name, split in (("train", train), ("test", test)):
        split.to_parquet(root / "files" / f"{name}-00000-of-00001.parquet")
    return root


def spec_of(folder, *, save_as="", **changes) -> FetchSpec:
    return FetchSpec(
        data=HubPreferences(name=str(folder), **changes), upload=TOKEN, save_as=save_as
    )


def run(scope, data_dir, spec) -> dict[str, Any]:
    with claimed_job(scope, spec, data_dir) as job:
        return dict(run_fetch(spec, job))


@pytest.mark.parametrize(
    ("folder", "splits"),
    [
        ("saved", {"train_split": "train_prefs", "eval_split": "test_prefs"}),
        ("files", {"train_split": "train", "eval_split": "test"}),
    ],
)
def test_splits_of_a_local_folder_wait_as_an_upload(
    folders, session_scope, tmp_path, folder, splits
):
    spec = spec_of(folders / folder, **splits)
    assert run(session_scope, tmp_path, spec) == {"upload": TOKEN, "n_rows": 6}
    found = read_preferences(upload_rows(tmp_path, TOKEN), held_out_share=0.5)
    assert [pair.prompt[0].content[:5] for pair in found.held_out] == ["test "] * 3
    assert [pair.prompt[0].content[:5] for pair in found.train] == ["train"] * 3
    again = load_preferences(spec.data)
    assert sorted(p.prompt[0].content for p in again.held_out) == [f"test {i}?" for i in range(3)]


def test_one_split_leaves_the_held_out_part_to_the_prompts(folders, session_scope, tmp_path):
    assert run(session_scope, tmp_path, spec_of(folders / "one"))["n_rows"] == 3
    found = read_preferences(upload_rows(tmp_path, TOKEN), held_out_share=0.999)
    assert {pair.split for pair in found.pairs} == {Split.EVAL}


def test_a_named_set_is_saved_with_its_rejected_rows(session_scope, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    lines = [*rows("a"), rows("a")[0]]
    (folder / "train.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    result = run(session_scope, tmp_path, spec_of(folder, save_as="mine", held_out_share=0.0))
    with session_scope() as session:
        card = preference_sets.get_set(session, result["set_id"])
    assert (card.name, card.source, card.n_train) == ("mine", str(folder), 3)
    assert card.rejected_by_reason == {RejectReason.DUPLICATE: 1}
    assert len(load_pairs(tmp_path, card.content_hash).pairs) == 3
    assert not upload_rows(tmp_path, TOKEN).parent.exists()


@pytest.mark.parametrize(
    ("folder", "changes", "error", "word"),
    [
        ("saved", {"train_split": "train"}, CorpusUnreadable, "train_prefs, test_prefs"),
        ("one", {"eval_split": "test"}, CorpusUnreadable, "without splits"),
        ("files", {"train_split": "train_prefs"}, CorpusUnreadable, "train_prefs"),
        ("nowhere", {}, NotFound, "no dataset"),
    ],
)
def test_what_is_not_there_is_named(folders, session_scope, tmp_path, folder, changes, error, word):
    with pytest.raises(error) as caught:
        run(session_scope, tmp_path, spec_of(folders / folder, **changes))
    assert word in f"{caught.value.message} {caught.value.hint}"
    assert not upload_rows(tmp_path, TOKEN).exists()


def test_a_hub_that_cannot_be_reached_is_said_so(session_scope, tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DownloadFailed, match="could not be reached"):
        run(session_scope, tmp_path, spec_of("some-owner/some-preferences"))


def test_rows_of_which_none_is_a_pair_are_not_saved(session_scope, tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "train.jsonl").write_text('{"text": "no pair"}\n', encoding="utf-8")
    with pytest.raises(Invalid, match="row 0"):
        run(session_scope, tmp_path, spec_of(folder, save_as="bad"))


def test_a_stopped_fetch_leaves_nothing_half_written(session_scope, tmp_path):
    folder = tmp_path / "long"
    folder.mkdir()
    lines = map(json.dumps, rows("long", 1_000))
    (folder / "train.jsonl").write_text("\n".join(lines), encoding="utf-8")
    spec = spec_of(folder)
    with claimed_job(session_scope, spec, tmp_path) as job:

        def stop() -> None:
            raise Cancelled("Stop.")

        job.check = stop  # type: ignore[method-assign]
        with pytest.raises(Cancelled):
            run_fetch(spec, job)
    assert not list(upload_rows(tmp_path, TOKEN).parent.iterdir())
