"""Harvests: what there is, what one would cost, and running one."""

from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Body, Path, Query, Response
from pydantic import AfterValidator

from app.api.answers import failures
from app.api.params import HarvestIdPath
from app.api.schemas.catalog import Harvest, HarvestPage
from app.api.schemas.harvests import EstimateBody, PresetBody, PresetPage
from app.api.schemas.jobs import JobBody
from app.deps import ResourcesDep, SessionDep
from app.services.features import catalog
from app.services.harvest import harvests
from app.services.jobs import jobs
from core.domain.ids import check_model_id

router = APIRouter(tags=["harvests"])

_SPEC = harvests.get_preset("demo").spec.model_dump(mode="json")
# Checked by the service, which names every wrong field and looks at local files.
SpecBody = Annotated[
    dict[str, Any],
    Body(
        description="Settings of a harvest: the fields of HarvestSpec.",
        examples=[_SPEC],
        json_schema_extra={"$ref": "#/components/schemas/HarvestSpec"},
    ),
]


@router.get("/presets", responses=failures())
def list_presets() -> PresetPage:
    """Harvest settings that are shipped with Sparsight."""
    found = harvests.presets()
    return PresetPage(presets=[PresetBody.model_validate(preset) for preset in found])


@router.get("/presets/{name}", responses=failures(404, 422))
def get_preset(
    name: Annotated[
        str, Path(max_length=100, description="Name of the preset.", examples=["demo"])
    ],
) -> PresetBody:
    """One preset."""
    return PresetBody.model_validate(harvests.get_preset(name))


@router.get("/harvests", responses=failures(422))
def list_harvests(
    session: SessionDep,
    model_id: Annotated[
        str | None,
        AfterValidator(lambda value: value if value is None else check_model_id(value)),
        Query(description="Only those of this model.", examples=["smollm2-135m-instruct"]),
    ] = None,
) -> HarvestPage:
    """Finished harvests, the newest first."""
    found = catalog.list_harvests(session, model_id=model_id)
    return HarvestPage(harvests=[Harvest.model_validate(harvest) for harvest in found])


@router.post("/harvests", status_code=HTTPStatus.ACCEPTED, responses=failures(422))
def submit_harvest(session: SessionDep, values: SpecBody, response: Response) -> JobBody:
    """Queues a harvest. The job that runs it is answered; watch it under /jobs/{job_id}."""
    job_id = harvests.submit(session, harvests.check(values))
    response.headers["Location"] = f"/api/v1/jobs/{job_id}"
    return JobBody.of(jobs.get_job(session, job_id).card)


@router.post("/harvests/estimate", responses=failures(422))
def estimate_harvest(
    session: SessionDep, resources: ResourcesDep, values: SpecBody
) -> EstimateBody:
    """What a harvest would cost: time, memory and disk, each with what the number rests on."""
    spec = harvests.check(values)
    machine = harvests.this_machine(resources.data_dir)
    return EstimateBody.of(harvests.estimate(session, spec, machine=machine))


@router.get("/harvests/{harvest_id}", responses=failures(404, 422))
def get_harvest(session: SessionDep, harvest_id: HarvestIdPath) -> Harvest:
    """One finished harvest."""
    return Harvest.model_validate(catalog.get_harvest(session, harvest_id))


@router.delete(
    "/harvests/{harvest_id}", status_code=HTTPStatus.NO_CONTENT, responses=failures(404, 422)
)
def delete_harvest(session: SessionDep, harvest_id: HarvestIdPath) -> None:
    """Deletes a harvest with all its features; its models and SAEs stay."""
    catalog.delete_harvest(session, harvest_id)
