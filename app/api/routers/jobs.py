"""Jobs: what runs, how far it is, and telling it to stop or go on."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from app.api.answers import failures
from app.api.params import MAX_ID, JobIdPath, JobPlaceDep, LimitQuery
from app.api.schemas.jobs import EventBody, EventPage, JobBody, JobDetail, JobList
from app.deps import ResourcesDep, SessionDep
from app.services.jobs import jobs
from core.domain.job import JobState

router = APIRouter(prefix="/jobs", tags=["jobs"])

_STREAM: dict[str, Any] = {
    "description": "Events as they happen.",
    "content": {
        "text/event-stream": {
            "example": "event: log\nid: 43\ndata: "
            '{"seq":43,"at":"2026-11-20T10:00:05Z","kind":"log",'
            '"payload":{"level":"info","text":"Loaded the model."}}\n\n'
        }
    },
}
SeqQuery = Annotated[
    int, Query(ge=0, le=MAX_ID, description="Only events above this number.", examples=[42])
]


@router.get("", responses=failures(422))
def list_jobs(
    session: SessionDep,
    place: JobPlaceDep,
    state: Annotated[
        JobState | None, Query(description="Only jobs in this state.", examples=["running"])
    ] = None,
    kind: Annotated[
        str | None,
        Query(
            max_length=50,
            pattern="^[a-z_]*$",
            description="Only jobs of this kind.",
            examples=["harvest"],
        ),
    ] = None,
    limit: LimitQuery = 50,
) -> JobList:
    """Jobs, the newest first, page by page with `before` and `after`."""
    found = jobs.list_page(
        session, state=state, kinds=(kind,) if kind else (), place=place, limit=limit
    )
    return JobList(
        jobs=[JobBody.of(card) for card in found.jobs],
        previous_after=found.previous_after,
        next_before=found.next_before,
    )


@router.get("/{job_id}", responses=failures(404, 422))
def get_job(session: SessionDep, job_id: JobIdPath) -> JobDetail:
    """One job with its settings and the end of its log."""
    return JobDetail.of(jobs.get_job(session, job_id))


@router.post("/{job_id}/cancel", responses=failures(404, 409, 422))
def cancel_job(session: SessionDep, job_id: JobIdPath) -> JobBody:
    """Asks a job to stop. A queued one is cancelled at once, a running one soon after."""
    return JobBody.of(jobs.cancel(session, job_id).card)


@router.post("/{job_id}/resume", responses=failures(404, 409, 422))
def resume_job(session: SessionDep, job_id: JobIdPath) -> JobBody:
    """Queues a new attempt of a cancelled, paused or failed job; finished items are skipped."""
    return JobBody.of(jobs.resume(session, job_id).card)


@router.get("/{job_id}/events", responses=failures(404, 422))
def list_events(
    session: SessionDep, job_id: JobIdPath, after: SeqQuery = 0, limit: LimitQuery = 500
) -> EventPage:
    """What happened in a job, from any number on."""
    found = jobs.events_after(session, job_id, seq=after, limit=limit)
    return EventPage(
        events=[EventBody.model_validate(event) for event in found],
        last_seq=found[-1].seq if found else after,
    )


def _known_job(resources: ResourcesDep, job_id: JobIdPath) -> int:
    """The number of a job that exists, looked up before a stream begins."""
    with resources.scope() as session:
        jobs.get_job(session, job_id)
    return job_id


@router.get(
    "/{job_id}/events/stream",
    response_class=EventSourceResponse,
    responses={200: _STREAM, **failures(404, 422)},
)
async def stream_events(
    resources: ResourcesDep,
    job_id: Annotated[int, Depends(_known_job)],
    after: SeqQuery = 0,
    last_event_id: Annotated[
        int | None,
        Header(ge=0, le=MAX_ID, description="Sent by browsers that come back.", examples=[42]),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """What happens in a job, as it happens, as server-sent events.

    The event's name is its kind, its id its number, its data the body that /events gives. After
    the job has ended and everything is told, an event named `end` comes and the stream ends.
    """
    start = after if last_event_id is None else last_event_id
    events = jobs.event_stream(
        resources.scope,
        job_id,
        seq=start,
        bell=resources.bell,
        stopping=resources.stopping.is_set,
    )
    async for event in events:
        body = EventBody.model_validate(event)
        yield ServerSentEvent(data=body, event=event.kind.value, id=str(event.seq))
    if not resources.stopping.is_set():
        yield ServerSentEvent(raw_data="{}", event="end")
