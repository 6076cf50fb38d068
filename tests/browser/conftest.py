"""The real app on a port of this computer, over a sample harvest, and Chromium before it."""

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import ConsoleMessage, Page
from sqlalchemy import Engine

from app.main import Server, create_app
from core.db.session import SessionScope, session_scope
from core.settings import Settings
from tests.browser.site import Site
from tests.support.builders import publish_sample
from tests.support.database import empty
from tests.support.jobs import wait_for

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, object]) -> dict[str, object]:
    """Chromium of the system."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    assert found, f"The browser tests need one of {', '.join(BROWSERS)}."
    return browser_type_launch_args | {"executable_path": found, "args": ARGUMENTS}


@pytest.fixture(scope="session")
def browser_context_args(browser_context_args: dict[str, object]) -> dict[str, object]:
    """A desktop in English."""
    size = {"width": 1440, "height": 900}
    return browser_context_args | {"locale": "en-GB", "viewport": size}


@pytest.fixture(scope="session")
def base_url() -> None:
    """Addresses are written whole; the plugin's own fixture is of a form that pytest retires."""


@pytest.fixture(scope="module")
def scope(engine: Engine) -> Iterator[SessionScope]:
    """Transactions that really commit; every table is emptied after the module."""
    yield session_scope(engine)
    empty(engine)


@pytest.fixture(scope="module")
def site(
    scope: SessionScope, database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The app with a sample harvest; it is stopped as an operator would stop it."""
    with scope() as session:
        publish_sample(session)
    folder = tmp_path_factory.mktemp("site")
    stopping = threading.Event()
    app = create_app(
        Settings(database_url=database_url, data_dir=folder, cache_dir=folder), stopping=stopping
    )
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_config=None, timeout_graceful_shutdown=2)
        server = Server(config, stopping=stopping)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        wait_for(lambda: server.started, what="the server")
        yield Site(url=f"http://127.0.0.1:{bound.getsockname()[1]}", data_dir=folder, scope=scope)
        stopping.set()
        server.should_exit = True
        thread.join(10)
        assert not thread.is_alive()


@pytest.fixture(autouse=True)
def quiet_console(page: Page) -> Iterator[list[str]]:
    """Whatever the console says fails the test, but for lines that the test takes out."""
    said: list[str] = []

    def note(message: ConsoleMessage) -> None:
        said.append(f"{message.type}: {message.text} {message.location.get('url', '')}")

    page.on("console", note)
    page.on("pageerror", lambda error: said.append(str(error)))
    yield said
    assert said == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core."""
    (path,) = (Path(__file__).parent / "vendor").glob("axe-core-*/axe.min.js")
    return path.read_text(encoding="utf-8")
