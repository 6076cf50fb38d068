"""Bodies about harvests that are to be run: presets and estimates."""

from typing import Self

from pydantic import Field

from app.api.schemas.base import Schema
from app.services.harvest.estimate import Basis, HarvestEstimate, Quantity
from core.domain.harvest import HarvestSpec


class PresetBody(Schema):
    """Harvest settings with a name."""

    name: str = Field(description="Name of the preset.", examples=["demo"])
    spec: HarvestSpec = Field(description="Its settings, ready to be sent to POST /harvests.")


class PresetPage(Schema):
    """The presets that are shipped."""

    presets: list[PresetBody] = Field(description="By name.")


class QuantityBody(Schema):
    """A number of an estimate, and on what it rests."""

    value: float | None = Field(description="The number; null while unknown.", examples=[214.0])
    basis: Basis = Field(
        description="given: by the settings; measured: by earlier harvests here; files: by sizes "
        "and headers of local files; catalog: by an earlier harvest of the same SAE; assumed: by "
        "a stated constant; unknown.",
        examples=["measured"],
    )


class EstimateBody(Schema):
    """What a harvest will cost on this machine."""

    n_tokens: QuantityBody = Field(description="Tokens read.")
    n_features: QuantityBody = Field(description="Features of all SAEs.")
    tokens_per_second: QuantityBody = Field(description="Speed.")
    seconds: QuantityBody = Field(description="Duration of the pass, without downloads.")
    memory_bytes: QuantityBody = Field(description="Peak memory of the process that runs it.")
    disk_bytes: QuantityBody = Field(description="Growth of the database.")
    free_memory_bytes: int = Field(description="Memory free now.", examples=[12_884_901_888])
    free_disk_bytes: int = Field(description="Disk free now.", examples=[64_424_509_440])
    memory_short: bool = Field(description="The memory will probably not do.", examples=[False])
    disk_short: bool = Field(description="The disk will probably not do.", examples=[False])

    @classmethod
    def of(cls, estimate: HarvestEstimate) -> Self:
        """The body of an estimate."""
        return cls(
            n_tokens=_quantity(estimate.n_tokens),
            n_features=_quantity(estimate.n_features),
            tokens_per_second=_quantity(estimate.tokens_per_second),
            seconds=_quantity(estimate.seconds),
            memory_bytes=_quantity(estimate.memory_bytes),
            disk_bytes=_quantity(estimate.disk_bytes),
            free_memory_bytes=estimate.machine.memory_bytes,
            free_disk_bytes=estimate.machine.disk_bytes,
            memory_short=estimate.memory_short,
            disk_short=estimate.disk_short,
        )


def _quantity(quantity: Quantity) -> QuantityBody:
    return QuantityBody.model_validate(quantity)
