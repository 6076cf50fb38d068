"""What requests are given: the process's resources, and a database session a request."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, cast

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from app.services.jobs.bell import JobBell
from core.db.session import SessionScope
from core.explaining.keys import KeyRing

__all__ = ["Resources", "ResourcesDep", "SessionDep", "get_resources", "get_session"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What the web process holds while it runs.

    Attributes:
        scope: opens short sessions, for streams that must not hold one.
        data_dir: folder of the database and of jobs.
        cache_dir: folder of downloads.
        keys: seals and opens API keys of endpoints.
        bell: wakes streams when a job has told something.
        stopping: set when the server was told to stop; streams end then.
    """

    scope: SessionScope
    data_dir: Path
    cache_dir: Path
    keys: KeyRing
    bell: JobBell = field(default_factory=JobBell)
    stopping: threading.Event = field(default_factory=threading.Event)


def get_resources(request: Request) -> Resources:
    """The resources that the lifespan opened."""
    return cast(Resources, request.app.state.resources)


ResourcesDep = Annotated[Resources, Depends(get_resources)]


def get_session(resources: ResourcesDep) -> Iterator[Session]:
    """A session for one request, committed before the answer is sent.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    with resources.scope() as session:
        yield session


SessionDep = Annotated[Session, Depends(get_session, scope="function")]
