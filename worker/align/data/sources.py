"""Preference pairs and conversations from where a run's settings say."""

from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

from core.domain.alignment import (
    DemoPreferences,
    FilePreferences,
    HubPreferences,
    PreferenceSource,
    StoredPreferences,
)
from core.domain.preference import ConversationSet, PreferenceSet
from core.errors import Invalid
from core.interchange.conversations import parse_conversations, read_conversations
from core.interchange.preference_store import load_pairs, read_demo
from core.interchange.preferences import parse_preferences, read_preferences
from core.interchange.rows import Row, rows_of
from worker.align.data.datasets_source import open_split


def load_preferences(source: PreferenceSource, *, data_dir: Path | None = None) -> PreferenceSet:
    """Every pair of a source, and every row that is not used with its reason.

    Args:
        source: where they are.
        data_dir: Sparsight's data folder, which holds uploaded sets; needed for those only.

    Raises:
        Invalid, NotFound: the file, folder or dataset is missing or of no known kind.
        Conflict: an uploaded set is not what it was.
        DownloadFailed: the hub cannot be reached.
        CorpusUnreadable: the dataset has no such split, or cannot be read.
    """
    match source:
        case DemoPreferences():
            return read_demo()
        case StoredPreferences():
            return load_pairs(data_dir or Path(), source.content_hash)
        case FilePreferences():
            return read_preferences(Path(source.path), held_out_share=source.held_out_share)
        case HubPreferences():
            share = 0.0 if source.eval_split else source.held_out_share
            return parse_preferences(_hub_rows(source), held_out_share=share)
        case _:
            assert_never(source)


def load_conversations(source: FilePreferences | HubPreferences) -> ConversationSet:
    """Every conversation of a source, and every row that is not used with its reason."""
    match source:
        case FilePreferences():
            return read_conversations(Path(source.path), held_out_share=source.held_out_share)
        case HubPreferences():
            share = 0.0 if source.eval_split else source.held_out_share
            return parse_conversations(_hub_rows(source), held_out_share=share)
        case _:
            assert_never(source)


def check_enough(found: PreferenceSet | ConversationSet, n_train: int) -> None:
    """Refuse a source of which nothing is left to train on.

    Raises:
        Invalid: no usable row; the message names the first reason.
    """
    if n_train:
        return
    if not found.rejected:
        raise Invalid("The data hold no row to train on.", hint="Name a file with pairs.")
    first = found.rejected[0]
    raise Invalid(
        f"None of the {found.n_rows} rows can be trained on; row {first.row}: {first.detail}",
        hint="See the list of refused rows.",
    )


def _hub_rows(source: HubPreferences) -> Iterator[Row]:
    number = 0
    for split in (source.train_split, source.eval_split):
        if split is None:
            continue
        part = "test" if split == source.eval_split else "train"
        for row in rows_of(open_split(source, split)):
            yield Row(number=number, value=row.value, preview=row.preview, part=part)
            number += 1
