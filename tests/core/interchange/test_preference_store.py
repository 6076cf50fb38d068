"""Stored sets: one file a content, read whole, by place, and never otherwise than its name says."""

import pytest

from core.domain.preference import (
    PreferenceFormat,
    PreferencePair,
    Role,
    Split,
    Turn,
    content_hash,
)
from core.errors import Conflict, NotFound
from core.interchange.preference_store import (
    load_pairs,
    read_demo,
    read_some,
    remove_pairs,
    save_pairs,
)
from core.interchange.preferences import parse_preferences
from core.interchange.rows import rows_of


def pairs_of(*texts):
    return tuple(
        PreferencePair(
            prompt=(Turn(role=Role.USER, content=f"{text}?\n— “ünits” 東京 \u2028 end"),),
            chosen=(Turn(role=Role.ASSISTANT, content=text),),
            rejected=(Turn(role=Role.ASSISTANT, content=f"not {text}"),),
            split=Split.EVAL if place % 3 == 1 else Split.TRAIN,
            row=place * 10,
        )
        for place, text in enumerate(texts)
    )


def test_pairs_come_back_whole_with_the_rows_they_came_from(tmp_path):
    pairs = pairs_of("a", "bb", "ccc", "日本")
    saved = save_pairs(pairs, tmp_path)
    found = load_pairs(tmp_path, saved.content_hash)
    assert found.pairs == pairs
    assert saved.content_hash == content_hash(pairs)
    assert saved.held_out.tolist() == [False, True, False, False]
    path = tmp_path / "preferences" / f"{saved.content_hash}.jsonl"
    assert saved.n_bytes == path.stat().st_size


def test_any_pairs_are_read_by_their_place(tmp_path):
    pairs = pairs_of("a", "bb", "ccc", "日本")
    saved = save_pairs(pairs, tmp_path)
    for places in ([], [3], [2, 0], [0, 1, 2, 3]):
        found = read_some(tmp_path, saved.content_hash, lengths=saved.lengths, positions=places)
        assert list(found) == [pairs[place] for place in places]


def test_equal_pairs_share_a_file_and_other_splits_do_not(tmp_path):
    pairs = pairs_of("a", "b")
    first, second = save_pairs(pairs, tmp_path), save_pairs(pairs, tmp_path)
    other = save_pairs(pairs_of("a"), tmp_path)
    assert first.content_hash == second.content_hash != other.content_hash
    assert len(list((tmp_path / "preferences").iterdir())) == 2
    remove_pairs(tmp_path, other.content_hash)
    remove_pairs(tmp_path, other.content_hash)
    assert len(list((tmp_path / "preferences").iterdir())) == 1


def test_a_file_that_was_changed_or_is_gone_is_refused(tmp_path):
    saved = save_pairs(pairs_of("a", "b"), tmp_path)
    path = tmp_path / "preferences" / f"{saved.content_hash}.jsonl"
    path.write_text(path.read_text(encoding="utf-8").replace("not a", "but a"), encoding="utf-8")
    with pytest.raises(Conflict, match="changed on disk"):
        load_pairs(tmp_path, saved.content_hash)
    path.unlink()
    with pytest.raises(NotFound, match="not in the data folder") as caught:
        load_pairs(tmp_path, saved.content_hash)
    assert caught.value.hint


def test_a_half_written_file_is_written_anew(tmp_path):
    pairs = pairs_of("a", "b")
    saved = save_pairs(pairs, tmp_path)
    path = tmp_path / "preferences" / f"{saved.content_hash}.jsonl"
    path.write_bytes(path.read_bytes()[:20])
    save_pairs(pairs, tmp_path)
    assert load_pairs(tmp_path, saved.content_hash).pairs == pairs


def test_the_shipped_set_has_both_splits():
    found = read_demo()
    assert found.train
    assert found.held_out
    assert not found.rejected


def message(role, content):
    return {"role": role, "content": content}


def test_every_format_is_recognised_and_counted():
    prompt, yes, no = message("user", "q"), message("assistant", "y"), message("assistant", "n")
    found = parse_preferences(
        rows_of(
            [
                {"prompt": "q", "chosen": [prompt, yes], "rejected": [prompt, no]},
                {"prompt": "q1", "chosen": "y", "rejected": "n"},
                {"prompt": [message("user", "q2")], "chosen": [yes], "rejected": [no]},
                {"chosen": "q3 is y", "rejected": "q3 is n"},
                {
                    "chosen": [message("user", "q4"), yes],
                    "rejected": [message("user", "q4"), no],
                },
                {
                    "chosen": "\n\nHuman: q5\n\nAssistant: y",
                    "rejected": "\n\nHuman: q5\n\nAssistant: n",
                },
                {
                    "prompt": [message("user", "q6")],
                    "output_A": [yes],
                    "output_B": [no],
                    "label": 1,
                },
                {"prompt": "q7"},
            ]
        )
    )
    assert len(found.pairs) == 7
    assert len(found.rejected) == 1
    assert found.formats == {
        PreferenceFormat.TRL_EXPLICIT: 2,
        PreferenceFormat.TRL_IMPLICIT: 2,
        PreferenceFormat.ULTRAFEEDBACK: 1,
        PreferenceFormat.HH: 1,
        PreferenceFormat.HALOS: 1,
    }
