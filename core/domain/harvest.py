"""Harvests: what to run over which corpus, and what one run was."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from core.domain.corpus import CorpusSpec
from core.domain.model import Dtype, ModelSource
from core.domain.sae import SaeSource
from core.domain.spec import Spec


class SaeEntry(Spec):
    """One SAE of a harvest: the id it will have here, and where it comes from."""

    sae_id: str = Field(description="Id in URLs: layer, dash, set name; 12-gemmascope-res-16k.")
    source: SaeSource


class HarvestSpec(Spec):
    """One pass of a model and its SAEs over a corpus."""

    kind: Literal["harvest"] = "harvest"
    model_id: str = Field(description="Id of the model in URLs, e.g. gemma-2-2b.")
    model: ModelSource
    saes: Annotated[tuple[SaeEntry, ...], Field(min_length=1)] = Field(
        description="SAEs to read; several layers share one forward pass."
    )
    corpus: CorpusSpec = Field(description="Where the text comes from.")
    dtype: Dtype = Field(
        default=Dtype.BFLOAT16, description="Number format of the model; SAEs are float32."
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:1 or mps.")
    context_size: int = Field(
        default=128, ge=8, le=32_768, description="Tokens a context, BOS included."
    )
    max_norm_multiple: float | None = Field(
        default=10.0,
        ge=2.0,
        allow_inf_nan=False,
        description="Tokens whose residual is longer than so many times the median do not count: "
        "attention sinks, on which nearly every feature fires. None lets all count.",
    )
    n_top: int = Field(default=20, ge=1, le=200, description="Top contexts kept a feature.")
    n_sampled: int = Field(
        default=100,
        ge=4,
        le=2_000,
        description="Firing contexts sampled a feature, by whose ranks the quantile bands are cut.",
    )
    n_per_band: int = Field(
        default=6, ge=0, le=100, description="Contexts kept of each of the four quantile bands."
    )
    n_random: int = Field(
        default=128,
        ge=0,
        le=5_000,
        description="Contexts drawn uniformly from the corpus and stored for every feature.",
    )
    n_coactivation: int = Field(
        default=512,
        ge=0,
        le=20_000,
        description="Contexts drawn uniformly from the corpus on which co-activation is counted.",
    )
    n_neighbours: int = Field(default=10, ge=0, le=100, description="Neighbours kept a feature.")
    n_logits: int = Field(default=10, ge=0, le=100, description="Promoted and suppressed tokens.")
    seed: int = Field(default=0, ge=0, le=2**53 - 1, description="Seed of every sample.")
    tile_contexts: int = Field(
        default=8,
        ge=1,
        le=1_024,
        description="Contexts of one forward pass; part of the result's identity, since "
        "floating-point sums depend on it.",
    )
    batch_tiles: int = Field(
        default=4, ge=1, le=1_024, description="Tiles between two merges; never changes a result."
    )
    shard_contexts: int = Field(
        default=512, ge=1, description="Contexts of one resumable shard; never changes a result."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HarvestInfo:
    """One harvest as pages and exports name it.

    Attributes:
        corpus_name: short name of the corpus.
        corpus_hash: sha256 over its documents.
        n_scored: tokens that count.
        spec_hash: sha256 over everything that decides the result.
    """

    harvest_id: int
    job_id: int | None
    model_id: str
    model_revision: str
    corpus_name: str
    corpus_hash: str
    context_size: int
    n_contexts: int
    n_tokens: int
    n_scored: int
    seed: int
    spec_hash: str
    finished_at: datetime | None
