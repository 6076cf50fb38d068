"""Bodies about preference sets: counts, pairs, refused rows."""

from datetime import datetime
from typing import Self

from pydantic import Field

from app.api.schemas.base import Request, Schema
from core.domain.alignment import HubPreferences
from core.domain.preference import RejectReason, Role, Split
from core.domain.views_align import NumberedPair, PairList, PreferenceSetCard, RejectedList

_HASH = "9c1185a5c5e9fc54612808977ee8f548b2258d31b4a5a1e5c5a3f1d6d3e0a7b2"


class PreferenceSetBody(Schema):
    """A preference set: an upload, or the one that ships with Sparsight."""

    set_id: int | None = Field(
        description="Number of the set; null for the shipped one, which is called demo.",
        examples=[3],
    )
    name: str = Field(description="What it is called.", examples=["house-style"])
    source: str = Field(description="File it was read from.", examples=["pairs.jsonl"])
    formats: dict[str, int] = Field(
        description="Pairs of each format that was recognised.", examples=[{"trl_explicit": 480}]
    )
    content_hash: str = Field(
        description="sha256 over the pairs and their splits: what a run names.", examples=[_HASH]
    )
    n_rows: int = Field(description="Rows read.", examples=[500])
    n_pairs: int = Field(description="Usable pairs.", examples=[480])
    n_train: int = Field(description="Pairs to train on.", examples=[456])
    n_held_out: int = Field(description="Pairs to evaluate on.", examples=[24])
    held_out_share: float = Field(
        description="Share held out where rows named no split.", examples=[0.05]
    )
    n_rejected: int = Field(description="Rows that are not used.", examples=[20])
    rejected_by_reason: dict[RejectReason, int] = Field(
        description="The same by reason.", examples=[{"duplicate": 15, "empty_answer": 5}]
    )
    n_bytes: int = Field(description="Size of the stored pairs.", examples=[301_223])
    created_at: datetime | None = Field(
        description="When it was uploaded; null for the shipped one.",
        examples=["2026-11-20T10:00:00Z"],
    )

    @classmethod
    def of(cls, card: PreferenceSetCard) -> Self:
        """The body of a set."""
        return cls.model_validate(card)


class PreferenceSetList(Schema):
    """Every set, the shipped one first, then the newest."""

    sets: list[PreferenceSetBody] = Field(description="The sets.")


class UploadedBody(Schema):
    """A set that was uploaded."""

    set: PreferenceSetBody = Field(description="The set.")
    is_new: bool = Field(
        description="false: this very set was there already, and nothing was stored.",
        examples=[True],
    )


class RenameRequest(Request):
    """A new name."""

    name: str = Field(
        min_length=1, max_length=120, description="What it is called.", examples=["house-style"]
    )


class FetchRequest(Request):
    """A dataset whose pairs are to be stored."""

    data: HubPreferences = Field(
        description="Dataset of the hub, or a folder of the worker's machine, with its splits.",
        examples=[
            {
                "kind": "hub",
                "name": "HuggingFaceH4/ultrafeedback_binarized",
                "train_split": "train_prefs",
                "eval_split": "test_prefs",
            }
        ],
    )
    name: str = Field(
        min_length=1,
        max_length=120,
        pattern=r"^[^\x00]*$",
        description="What the set is called.",
        examples=["ultrafeedback"],
    )


class TurnBody(Schema):
    """One message of a conversation."""

    role: Role = Field(description="Who speaks.", examples=["user"])
    content: str = Field(description="What is said.", examples=["What is the capital of France?"])


class PairBody(Schema):
    """A prompt with the answer that is preferred and the one that is not."""

    position: int = Field(description="Place in the set, from 0.", examples=[0])
    row: int = Field(description="Row of the source, from 0.", examples=[0])
    split: Split = Field(description="train or eval.", examples=["train"])
    prompt: list[TurnBody] = Field(description="Turns up to the answer.")
    chosen: list[TurnBody] = Field(description="The preferred answer.")
    rejected: list[TurnBody] = Field(description="The other one.")

    @classmethod
    def of(cls, numbered: NumberedPair) -> Self:
        """The body of a pair."""
        pair = numbered.pair
        return cls(
            position=numbered.position,
            row=pair.row,
            split=pair.split,
            prompt=[TurnBody.model_validate(turn) for turn in pair.prompt],
            chosen=[TurnBody.model_validate(turn) for turn in pair.chosen],
            rejected=[TurnBody.model_validate(turn) for turn in pair.rejected],
        )


class PairPage(Schema):
    """Some pairs of a set, in source order."""

    pairs: list[PairBody] = Field(description="The pairs.")
    n_matching: int = Field(description="Pairs of the split that was asked for.", examples=[456])
    next_offset: int | None = Field(
        description="Send it back as offset; null on the last page.", examples=[50]
    )

    @classmethod
    def of(cls, found: PairList) -> Self:
        """The body of a page of pairs."""
        return cls(
            pairs=[PairBody.of(pair) for pair in found.pairs],
            n_matching=found.n_matching,
            next_offset=found.next_offset,
        )


class RejectedBody(Schema):
    """A row that is not used."""

    row: int = Field(description="Row of the source, from 0.", examples=[17])
    reason: RejectReason = Field(description="Why, as a stable code.", examples=["duplicate"])
    detail: str = Field(description="Why, in a sentence.", examples=["Row 3 says the same."])
    preview: str = Field(description="The beginning of the row.", examples=["prompt: What is"])


class RejectedPage(Schema):
    """Some rejected rows of a set, in source order."""

    rows: list[RejectedBody] = Field(description="The rows.")
    n_matching: int = Field(description="Rows of the reason that was asked for.", examples=[20])
    next_offset: int | None = Field(
        description="Send it back as offset; null on the last page.", examples=[50]
    )

    @classmethod
    def of(cls, found: RejectedList) -> Self:
        """The body of a page of rejected rows."""
        return cls.model_validate(found)
