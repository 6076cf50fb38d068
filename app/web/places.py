"""Where a page of a list that begins with the newest lies, from its address."""

from typing import Annotated

from fastapi import Depends, Query

from core.domain.job import JobPlace

_Id = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


def job_place(before: _Id = None, after: _Id = None) -> JobPlace:
    """The place that ``before`` or ``after`` names."""
    return JobPlace(before=before, after=after)


JobPlaceDep = Annotated[JobPlace, Depends(job_place)]
