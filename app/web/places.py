"""Where a page of a list that begins with the newest lies, from its address."""

from typing import Annotated

from fastapi import Depends, Query

from core.domain.place import NewestPlace

_Id = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


def job_place(before: _Id = None, after: _Id = None) -> NewestPlace:
    """The place that ``before`` or ``after`` names."""
    return NewestPlace(before=before, after=after)


JobPlaceDep = Annotated[NewestPlace, Depends(job_place)]
