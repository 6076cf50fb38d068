"""The web process: its app, its server and its way in."""

import argparse
import errno
import logging
import os
import socket
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.api import errors as api_errors
from app.api.document import add_document
from app.api.guard import RequestGuard, allowed_hosts
from app.api.routes import add_api
from app.deps import Resources
from app.services.jobs.bell import JobBell
from app.services.preferences.uploads import MAX_UPLOAD_BYTES
from app.web import errors as page_errors
from app.web.site import add_pages
from core.db.embedded import database
from core.db.migrate import is_current
from core.db.session import make_engine, session_scope
from core.errors import DatabaseUnavailable, PortTaken, SparsightError
from core.explaining.keys import KeyRing
from core.log import configure_logging
from core.settings import Settings

MAX_BODY_BYTES = 4 * 1024 * 1024
_GRACE_SECONDS = 3

logger = logging.getLogger(__name__)


def create_app(settings: Settings, *, stopping: threading.Event | None = None) -> FastAPI:
    """The app of pages and API; its lifespan opens the database.

    Args:
        settings: read once, by the door.
        stopping: set when the server is told to stop, so that streams end at once.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with database(settings.database_url, settings.data_dir) as url:
            engine, bell = make_engine(url), JobBell()
            app.state.resources = Resources(
                scope=session_scope(engine),
                data_dir=settings.data_dir,
                cache_dir=settings.cache_dir,
                keys=KeyRing(
                    secret_key=settings.secret_key,
                    data_dir=settings.data_dir,
                    environment=os.environ,  # noqa: TID251 - endpoints name variables with keys
                ),
                bell=bell,
                stopping=stopping or threading.Event(),
            )
            with bell.following(url):
                yield
            engine.dispose()

    app = FastAPI(
        title="Sparsight",
        lifespan=lifespan,
        openapi_url=None,  # app.api serves the API's own document, without the pages
        docs_url=None,
        redoc_url=None,
    )
    add_document(app)
    add_api(app)
    add_pages(app)
    for kind in (SparsightError, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, _answer_error)
    named = (name.strip() for name in settings.allowed_hosts.split(","))
    allowed = allowed_hosts(settings.host, filter(None, named))
    app.add_middleware(
        RequestGuard,
        allowed=allowed,
        max_body_bytes=MAX_BODY_BYTES,
        uploads=dict.fromkeys(
            (
                *("/preferences/new", "/api/v1/preference-sets"),
                *("/labels/import", "/api/v1/labels/import"),
            ),
            MAX_UPLOAD_BYTES,
        ),
    )
    return app


async def _answer_error(request: Request, error: Exception) -> Response:
    """An error as JSON to callers of the API, as a page to readers."""
    if request.url.path.startswith("/api/"):
        return api_errors.respond(request, error)
    return page_errors.respond(request, error)


class Server(uvicorn.Server):
    """A server that ends open streams when it is told to stop, and then returns.

    Plain uvicorn waits for open streams without end, and afterwards raises the signal again,
    which would kill the process before its database is closed.
    """

    def __init__(self, config: uvicorn.Config, *, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        """Notes the wish to stop; a second signal does not wait for anything."""
        self._stopping.set()
        self.force_exit = self.should_exit
        self.should_exit = True


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens on the address.

    Raises:
        PortTaken: another program listens there, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host.strip("[]"), port))
        bound.listen()  # callers wait from now on, in place of being refused
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(
                f"Port {port} of {host} is taken by another program.",
                hint="Stop that program, or choose another port with --port.",
            ) from error
        raise PortTaken(
            f"Cannot listen on {host}, port {port}: {error.strerror}.",
            hint="Choose an address of this machine with --host and a port with --port.",
        ) from error
    return bound


def serve(settings: Settings) -> None:
    """Serves until told to stop.

    Raises:
        PortTaken: the address cannot be had.
        DatabaseUnavailable: no database, or it has not been migrated.
    """
    stopping = threading.Event()
    with (
        listen(settings.host, settings.port) as bound,
        database(settings.database_url, settings.data_dir) as url,
    ):
        if not is_current(url):
            raise DatabaseUnavailable(
                "The database is not up to date with this version.",
                hint="Run: sparsight migrate",
            )
        app = create_app(settings.model_copy(update={"database_url": url}), stopping=stopping)
        config = uvicorn.Config(
            app,
            log_config=None,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
        )
        logger.info("Listening on http://%s:%s", *bound.getsockname()[:2])
        Server(config, stopping=stopping).run(sockets=[bound])


def main(arguments: Sequence[str] | None = None) -> int:
    """The web process from the command line; its exit code, 2 for an error told in words."""
    parser = argparse.ArgumentParser(prog="sparsight web", description="Serves pages and API.")
    parser.add_argument("--host", help="address to listen on")
    parser.add_argument("--port", type=int, help="port to listen on")
    chosen = vars(parser.parse_args(arguments))
    settings = Settings().model_copy(update={k: v for k, v in chosen.items() if v is not None})
    configure_logging(level=settings.log_level, json_lines=settings.log_json)
    try:
        serve(settings)
    except SparsightError as error:
        sys.stderr.write(f"{error.message}\n{error.hint}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
