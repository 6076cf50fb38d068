"""The demo: everything up, and the demo preset's harvest if it has not been made."""

import time
import webbrowser

from core.cli.console import say
from core.cli.follow import Follower
from core.cli.harvest import make_spec, tell_end
from core.cli.stack import (
    WEB_START_SECONDS,
    Stack,
    answers,
    bring_up,
    page_address,
    stop_on_signals,
)
from core.db.repositories import harvests, jobs
from core.db.session import SessionScope, make_engine, session_scope
from core.domain.harvest import HarvestSpec
from core.domain.job import JobState, spec_json
from core.errors import Cancelled
from core.jobs import control
from core.settings import Settings

PRESET = "demo"


def run_up(settings: Settings, *, demo: bool, open_page: bool, verbose: bool) -> int:
    """Bring everything up and keep it up until told to stop; returns the exit code."""
    begun = time.monotonic()
    try:
        with stop_on_signals(), bring_up(settings, web=True, verbose=verbose) as stack:
            address = page_address(settings)
            stack.wait_until(
                lambda: answers(address), seconds=WEB_START_SECONDS, what="The web process"
            )
            say(f"Sparsight is at {address}", style="bold")
            say(f"Ready after {time.monotonic() - begun:.1f} s. Ctrl-C stops it.", style="dim")
            if open_page:
                webbrowser.open(address)
            if demo:
                _harvest_demo(stack, address, verbose=verbose)
            while True:
                stack.step()
    except (KeyboardInterrupt, Cancelled):
        say("Stopped.")
    return 0


def _harvest_demo(stack: Stack, address: str, *, verbose: bool) -> None:
    """Show the demo's harvest to its end; at once if it is there already."""
    spec = make_spec(PRESET, {})
    engine = make_engine(stack.url, pool_size=2)
    try:
        scope = session_scope(engine)
        job_id = demo_job(scope, spec)
        if job_id is None:
            say("The demo's features are there already.", style="dim")
            return
        say(f"Harvesting {spec.model_id} (job {job_id}); the pages fill when it ends.")
        with Follower(scope, job_id, verbose=verbose) as follower:
            card = follower.until_end(stack.step)
        tell_end(card)
        if card.state is JobState.SUCCEEDED:
            say(f"Browse its features: {address}/{spec.model_id}", style="bold")
    finally:
        engine.dispose()


def demo_job(scope: SessionScope, spec: HarvestSpec) -> int | None:
    """The job that makes the harvest: a running one, a stopped one resumed, or a new one.

    None if the harvest is there already.
    """
    with scope() as session:
        known = jobs.find_by_spec(session, spec_json(spec))
        stored = {harvest.harvest_id for harvest in harvests.list_harvests(session)}
        if any((card.result or {}).get("harvest_id") in stored for card in known):
            return None
        active = next((card for card in known if card.active), None)
        if active is not None:
            return active.job_id
        stopped = next((card for card in known if card.can_resume), None)
        if stopped is not None:
            control.resume(session, stopped.job_id)
            return stopped.job_id
        return control.submit(session, spec)
