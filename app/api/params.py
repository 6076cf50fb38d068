"""Parameters that many operations share."""

from typing import Annotated

from fastapi import Depends, Path, Query
from pydantic import AfterValidator, Field

from app.services.features.features import MAX_LIST_LIMIT
from app.services.labels.texts import checked_tags
from core.domain.ids import MODEL_ID, SAE_ID, FeatureId, check_model_id, check_sae_id
from core.domain.place import NewestPlace
from core.domain.views import FeatureQuery, FeatureSort

MAX_ID = 2**31 - 1  # of a harvest, a job, a feature: PostgreSQL's integer

ModelIdPath = Annotated[
    str,
    AfterValidator(check_model_id),
    Path(
        description="Id of a model.",
        examples=["smollm2-135m-instruct"],
        json_schema_extra={"pattern": f"^{MODEL_ID.pattern}$"},
    ),
]
SaeIdPath = Annotated[
    str,
    AfterValidator(check_sae_id),
    Path(
        description="Id of an SAE of the model.",
        examples=["15-demo-res-4k"],
        json_schema_extra={"pattern": f"^{SAE_ID.pattern}$"},
    ),
]
IndexPath = Annotated[
    int, Path(ge=0, le=MAX_ID, description="Index of the feature, from 0.", examples=[2_511])
]
HarvestIdPath = Annotated[
    int, Path(ge=1, le=MAX_ID, description="Number of the harvest.", examples=[3])
]
JobIdPath = Annotated[int, Path(ge=1, le=MAX_ID, description="Number of the job.", examples=[7])]
HarvestQuery = Annotated[
    int | None,
    Query(
        ge=1,
        le=MAX_ID,
        description="Number of a harvest; without it the newest finished one with this SAE.",
        examples=[3],
    ),
]
LimitQuery = Annotated[
    int, Query(ge=1, le=MAX_LIST_LIMIT, description="At most so many.", examples=[50])
]
Share = Annotated[float | None, Query(ge=0, le=1, allow_inf_nan=False)]
Activation = Annotated[float | None, Query(ge=0, allow_inf_nan=False)]


def job_place(
    before: Annotated[
        int | None,
        Query(ge=1, le=MAX_ID, description="Older than this job: next_before.", examples=[7]),
    ] = None,
    after: Annotated[
        int | None,
        Query(ge=1, le=MAX_ID, description="Newer than this job: previous_after.", examples=[9]),
    ] = None,
) -> NewestPlace:
    """Where a page of jobs lies; without either it begins with the newest."""
    return NewestPlace(before=before, after=after)


JobPlaceDep = Annotated[NewestPlace, Depends(job_place)]


def feature_id(model_id: ModelIdPath, sae_id: SaeIdPath, index: IndexPath) -> FeatureId:
    """The feature that a path names."""
    return FeatureId(model_id=model_id, sae_id=sae_id, index=index)


FeatureDep = Annotated[FeatureId, Depends(feature_id)]
TokenText = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00]*$",
        description="Only features whose peak token contains this text, ignoring case.",
        examples=["sorry"],
    ),
]
ExplainedWords = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="Only features with a present explanation that holds all these words.",
        examples=["river"],
    ),
]
SaidWords = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="Only features whose label, or a present explanation, holds all these words.",
        examples=["apologies"],
    ),
]
TagsQuery = Annotated[
    tuple[Annotated[str, Field(max_length=200)], ...],
    AfterValidator(checked_tags),
    Query(
        alias="tag",
        max_length=50,
        description="Only features that bear this tag; several: every one of them.",
        examples=[["sycophancy"]],
    ),
]
LabelledQuery = Annotated[
    bool | None,
    Query(
        description="true: only features that people named; false: only others.", examples=[True]
    ),
]
SaeQuery = Annotated[
    str | None,
    AfterValidator(lambda value: value if value is None else check_sae_id(value)),
    Query(description="One of its SAEs; without it the first.", examples=["15-demo-res-4k"]),
]
ExplainedQuery = Annotated[
    bool | None,
    Query(description="true: only explained features; false: only others.", examples=[True]),
]
AfterQuery = Annotated[
    str | None,
    Query(
        max_length=200,
        pattern=r"^[^\x00]*$",
        description="next_after or previous_after of a page of the same filters and order.",
        examples=["0.0031_2511"],
    ),
]


def feature_query(
    *,
    sort: Annotated[
        FeatureSort, Query(description="What to sort by.", examples=["max_activation"])
    ] = FeatureSort.INDEX,
    descending: Annotated[bool, Query(description="Largest first.", examples=[True])] = False,
    min_density: Annotated[Share, Query(description="Least density.", examples=[0.0001])] = None,
    max_density: Annotated[Share, Query(description="Greatest density.", examples=[0.01])] = None,
    min_activation: Annotated[
        Activation, Query(description="Least maximum activation.", examples=[1.0])
    ] = None,
    max_activation: Annotated[
        Activation, Query(description="Greatest maximum activation.", examples=[50.0])
    ] = None,
    dead: Annotated[
        bool | None,
        Query(description="true: only dead features; false: only living ones.", examples=[False]),
    ] = None,
    token: TokenText = None,
    explained: ExplainedWords = None,
    words: SaidWords = None,
    tags: TagsQuery = (),
    labelled: LabelledQuery = None,
    after: AfterQuery = None,
    limit: LimitQuery = 50,
) -> FeatureQuery:
    """Filters, order and place of a feature list."""
    return FeatureQuery(
        sort=sort,
        descending=descending,
        min_density=min_density,
        max_density=max_density,
        min_activation=min_activation,
        max_activation=max_activation,
        dead=dead,
        token=token,
        explained=explained,
        words=words,
        tags=tags,
        labelled=labelled,
        after=after,
        limit=limit,
    )


FeatureQueryDep = Annotated[FeatureQuery, Depends(feature_query)]
