"""Bodies about labels and tags."""

from datetime import datetime
from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field

from app.api.schemas.base import Schema
from app.services.labels.files import ImportReport, RowFault
from app.services.labels.tags import Tagging
from core.domain.label import ChangeKind, Label, LabelChange, TagCard
from core.domain.spec import Spec
from core.domain.views import FeatureQuery

_AUTHOR = Field(default="", max_length=80, description="Who says so.", examples=["Ann"])
_Tags = Annotated[list[Annotated[str, Field(max_length=200)]], Field(max_length=200)]
Index = Annotated[int, Field(ge=0, lt=2**31)]


class LabelBody(Schema):
    """What people say of a feature."""

    feature: str = Field(
        description="Id of the feature.", examples=["smollm2-135m-instruct/15-demo-res-4k/2511"]
    )
    name: str = Field(description="One line; empty without one.", examples=["apologies"])
    note: str = Field(description="Plain text of any number of lines.", examples=[""])
    tags: list[str] = Field(description="Each once, sorted.", examples=[["sycophancy", "tone"]])
    author: str = Field(description="Who changed it last.", examples=["Ann"])
    version: int = Field(description="A change must name it; 0 before the first.", examples=[2])
    changed_at: datetime | None = Field(
        description="When; null before the first change.", examples=["2026-11-20T10:00:00Z"]
    )

    @classmethod
    def of(cls, label: Label) -> Self:
        """The body of a label."""
        return cls(
            feature=str(label.feature),
            name=label.text.name,
            note=label.text.note,
            tags=list(label.text.tags),
            author=label.author,
            version=label.version,
            changed_at=label.changed_at,
        )


class LabelList(Schema):
    """Labels, by model, SAE and index."""

    labels: list[LabelBody] = Field(description="One a feature.")
    next_after: str | None = Field(
        description="Value of after for the next page; null on the last.",
        examples=["smollm2-135m-instruct/15-demo-res-4k/2511"],
    )


class LabelChangeBody(Schema):
    """A label as one change left it."""

    version: int = Field(description="Version that it made.", examples=[1])
    kind: Literal["edit", "tagging", "import", "rename", "removal", "delete"] = Field(
        description="What changed it: a person here, many features tagged at once, a file, a tag "
        "renamed or merged, a tag deleted, the label deleted.",
        examples=["edit"],
    )
    name: str = Field(description="Its name then.", examples=["apologies"])
    note: str = Field(description="Its note then.", examples=[""])
    tags: list[str] = Field(description="Its tags then.", examples=[["tone"]])
    author: str = Field(description="Who changed it.", examples=["Ann"])
    at: datetime = Field(description="When.", examples=["2026-11-20T10:00:00Z"])

    @classmethod
    def of(cls, change: LabelChange) -> Self:
        """The body of a change."""
        return cls(
            version=change.version,
            kind=ChangeKind(change.kind).name.lower(),
            name=change.text.name,
            note=change.text.note,
            tags=list(change.text.tags),
            author=change.author,
            at=change.at,
        )


class LabelHistory(Schema):
    """Every state that a label has had."""

    changes: list[LabelChangeBody] = Field(description="The newest first.")


class NewLabel(Spec):
    """What a label says from now on: all of it."""

    name: str = Field(
        default="",
        max_length=2_000,
        description="One line of at most 120 characters.",
        examples=["apologies"],
    )
    note: str = Field(
        default="",
        max_length=40_000,
        description="Plain text of at most 4,000 characters.",
        examples=["Fires on 'sorry' at the beginning of an answer."],
    )
    tags: _Tags = Field(
        default=[],
        description="Words in lower case, of any script, each of at most 40 characters; at most "
        "50. Spaces become dashes.",
        examples=[["sycophancy", "tone"]],
    )
    author: str = _AUTHOR
    version: int | None = Field(
        default=None,
        ge=0,
        le=2**31 - 1,
        description="Of the label as it was read, 0 for the first; in place of If-Match.",
        examples=[2],
    )


class TagPlaceBody(Schema):
    """How many features of an SAE bear a tag."""

    model_id: str = Field(description="Id of the model.", examples=["smollm2-135m-instruct"])
    sae_id: str = Field(description="Id of the SAE.", examples=["15-demo-res-4k"])
    n_features: int = Field(description="Features.", examples=[12])


class TagBody(Schema):
    """A tag, which is a list of features too."""

    name: str = Field(description="The word.", examples=["sycophancy"])
    n_features: int = Field(description="Features that bear it.", examples=[12])
    places: list[TagPlaceBody] = Field(description="By model and SAE.")

    @classmethod
    def of(cls, card: TagCard) -> Self:
        """The body of a tag."""
        places = [TagPlaceBody.model_validate(place) for place in card.places]
        return cls(name=card.name, n_features=card.n_features, places=places)


class TagList(Schema):
    """Tags."""

    tags: list[TagBody] = Field(description="By name.")


class RenameTag(Spec):
    """A tag's new name."""

    name: str = Field(max_length=200, description="The new name.", examples=["flattery"])
    author: str = _AUTHOR


class MergeTag(Spec):
    """The tag that takes up another one's features."""

    into: str = Field(max_length=200, description="Name of that tag.", examples=["flattery"])
    author: str = _AUTHOR


class ListedFeatures(Spec):
    """Features by their index."""

    by: Literal["list"] = "list"
    indices: tuple[Index, ...] = Field(
        min_length=1, max_length=500_000, description="Indices.", examples=[[2511]]
    )


class MatchingFeatures(Spec):
    """Every feature that a list's filters leave."""

    by: Literal["filter"] = "filter"
    harvest_id: int | None = Field(
        default=None, ge=1, le=2**31 - 1, description="Harvest; null for the newest."
    )
    min_density: float | None = Field(default=None, ge=0, le=1, description="Least density.")
    max_density: float | None = Field(default=None, ge=0, le=1, description="Greatest density.")
    min_activation: float | None = Field(default=None, ge=0, description="Least maximum.")
    max_activation: float | None = Field(default=None, ge=0, description="Greatest maximum.")
    dead: bool | None = Field(default=None, description="true: only dead; false: only living.")
    token: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="Text of the peak token.",
        examples=["sorry"],
    )
    words: str | None = Field(
        default=None,
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="Words of label or explanation.",
        examples=["apologies"],
    )
    tags: _Tags = Field(default=[], description="Tags, every one of them.")
    labelled: bool | None = Field(default=None, description="Whether people named it.")

    def query(self, tags: tuple[str, ...]) -> FeatureQuery:
        """The filters as a list is asked; tags in their one spelling."""
        plain = self.model_dump(exclude={"by", "harvest_id", "tags"})
        return FeatureQuery(tags=tags, **plain)


FeatureChoice: TypeAlias = Annotated[ListedFeatures | MatchingFeatures, Field(discriminator="by")]


class TagRequest(Spec):
    """Tags to give and to take, and the features."""

    features: FeatureChoice = Field(description="Which features of the SAE.")
    add: _Tags = Field(default=[], description="Tags to give.", examples=[["sycophancy"]])
    remove: _Tags = Field(default=[], description="Tags to take.")
    author: str = _AUTHOR
    dry_run: bool = Field(default=False, description="Only count the features.")


class TaggingBody(Schema):
    """What tagging many features did."""

    n_chosen: int = Field(description="Features chosen.", examples=[120])
    n_changed: int = Field(description="Those whose tags changed; 0 for a dry run.", examples=[117])
    dry_run: bool = Field(description="Whether nothing was written.", examples=[False])

    @classmethod
    def of(cls, done: Tagging) -> Self:
        """The body of what was done."""
        return cls(n_chosen=done.n_chosen, n_changed=done.n_changed, dry_run=False)


class RejectedRowBody(Schema):
    """A row of a file that was refused."""

    line: int = Field(description="Its line, from 1.", examples=[3])
    fault: RowFault = Field(description="Why, as a stable word.", examples=["no_such_feature"])
    message: str = Field(description="Why.", examples=["Its features are 0 to 4607."])
    text: str = Field(description="How it begins.", examples=['{"feature": "m/s/99999"}'])


class ImportBody(Schema):
    """What a file did, or would do; n_rows is the sum of the others."""

    dry_run: bool = Field(description="Whether nothing was written.", examples=[False])
    n_rows: int = Field(description="Rows read.", examples=[120])
    n_new: int = Field(description="Of features without a label.", examples=[110])
    n_same: int = Field(description="That the label says already.", examples=[2])
    n_replaced: int = Field(description="That took another label's place.", examples=[0])
    n_kept: int = Field(description="Whose feature keeps its other label.", examples=[5])
    kept: list[str] = Field(description="Those features.", examples=[["m/1-x/7"]])
    rejected: list[RejectedRowBody] = Field(description="Every refused row.")
    ignored: list[str] = Field(description="Columns that mean nothing here.", examples=[["colour"]])

    @classmethod
    def of(cls, report: ImportReport) -> Self:
        """The body of a report."""
        return cls(
            dry_run=report.dry_run,
            n_rows=report.n_rows,
            n_new=report.n_new,
            n_same=report.n_same,
            n_replaced=report.n_replaced,
            n_kept=len(report.kept),
            kept=[str(feature) for feature in report.kept],
            rejected=[RejectedRowBody.model_validate(row) for row in report.rejected],
            ignored=list(report.ignored),
        )
