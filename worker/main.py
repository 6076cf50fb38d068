"""A worker: takes attempts from its queues and runs each in a runner process.

``python -m worker.main --queues gpu,llm,ctl``. It never loads torch itself; its runners do.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any, cast

import psycopg
from procrastinate import App

from core.db.embedded import database
from core.db.migrate import is_current, migrate
from core.db.session import make_engine, session_scope
from core.domain.job import JobQueue
from core.errors import DatabaseUnavailable, Invalid, SparsightError
from core.jobs.engine import REAP, RUN_ATTEMPT, impatient, make_app
from core.jobs.owner import Owner
from core.jobs.recovery import recover_dead_owners, recover_orphans, recover_stalled
from core.jobs.timing import Timing
from core.log import configure_logging
from core.settings import Settings
from worker.attempt import Station, run_attempt

CONCURRENCY = {JobQueue.GPU: 1, JobQueue.LLM: 4, JobQueue.CTL: 1}
RUNNER = (sys.executable, "-m", "worker.runner")
EXIT_LOST = 70  # the database or a claim was lost; a fresh process is the way on

logger = logging.getLogger(__name__)


def main() -> int:
    """Work until told to stop; returns the exit code."""
    parser = argparse.ArgumentParser(description="Runs jobs of the given queues.")
    parser.add_argument("--queues", default="gpu,llm,ctl", help="gpu, llm, ctl; with commas")
    arguments = parser.parse_args()
    settings = Settings()
    configure_logging(level=settings.log_level, json_lines=settings.log_json)
    try:
        queues = parse_queues(arguments.queues)
        with database(settings.database_url, settings.data_dir) as url:
            _check_tables(url, private=settings.database_url is None)
            return asyncio.run(
                serve(url, queues=queues, settings=settings, runner=RUNNER, timing=Timing())
            )
    except SparsightError as error:
        logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
        return 2


def parse_queues(text: str) -> tuple[JobQueue, ...]:
    """Queues from their names with commas between.

    >>> parse_queues("llm, ctl")
    (<JobQueue.LLM: 'llm'>, <JobQueue.CTL: 'ctl'>)
    """
    try:
        return tuple(JobQueue(name.strip()) for name in text.split(","))
    except ValueError as error:
        raise Invalid(f"{text!r} names no queues.", hint="Use gpu, llm and ctl.") from error


async def serve(
    url: str,
    *,
    queues: Sequence[JobQueue],
    settings: Settings,
    runner: Sequence[str],
    timing: Timing,
) -> int:
    """Run the queues until a signal comes or something essential is lost."""
    logging.getLogger("procrastinate").setLevel(logging.WARNING)  # it tells every tick
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)  # it tells every try
    url = impatient(url, seconds=timing.fence)
    engine = make_engine(url, pool_size=4)
    station = Station(
        scope=session_scope(engine),
        owner=str(Owner.me()),
        timing=timing,
        command=runner,
        setup={
            "database_url": url,
            "data_dir": str(settings.data_dir.absolute()),
            "cache_dir": str(settings.cache_dir.absolute()),
            "silence": timing.fence,
            "grace": timing.grace,
            "log_level": settings.log_level,
            "log_json": settings.log_json,
            **_secret(settings),
        },
    )
    _stop_on_signals(station.stopping)
    app = make_app(url)
    _register(app, station)
    try:
        async with app.open_async():
            await asyncio.to_thread(recover_dead_owners, station.scope)
            logger.info("Worker ready for %s.", ", ".join(queues))
            code = await _until_end(station, [_work(app, queue, timing) for queue in queues])
    except psycopg.OperationalError as error:
        logger.error("The database is away: %s", error)  # noqa: TRY400 - no fault of ours
        code = EXIT_LOST
    if code != 0:
        logging.shutdown()
        os._exit(code)  # threads may hang on a dead database
    engine.dispose()
    return code


def _register(app: App, station: Station) -> None:
    """Tell the engine what its entries mean."""

    @app.task(name=RUN_ATTEMPT)
    async def run(job_id: int, attempt: int) -> None:
        await run_attempt(station, job_id=job_id, attempt=attempt)

    @app.periodic(cron=station.timing.reap_cron)
    @app.task(name=REAP, queue=JobQueue.CTL, queueing_lock=REAP)
    async def reap(timestamp: int) -> None:  # noqa: ARG001 - the engine's calling convention
        await _reap(app, station)


async def _reap(app: App, station: Station) -> None:
    """Take over what dead workers have left."""
    stalled = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=station.timing.stall)
    entries = [
        (job.id, cast("int", job.task_kwargs["job_id"]), cast("int", job.task_kwargs["attempt"]))
        for job in stalled
        if job.id is not None and job.task_name == RUN_ATTEMPT
    ]
    await asyncio.to_thread(recover_stalled, station.scope, entries)
    await asyncio.to_thread(recover_dead_owners, station.scope)
    await asyncio.to_thread(recover_orphans, station.scope)


def _work(app: App, queue: JobQueue, timing: Timing) -> Coroutine[Any, Any, None]:
    return app.run_worker_async(
        queues=[queue.value],
        name=queue.value,
        concurrency=CONCURRENCY[queue],
        install_signal_handlers=False,
        fetch_job_polling_interval=timing.poll,
        update_heartbeat_interval=timing.heartbeat,
        stalled_worker_timeout=timing.stall,
        shutdown_graceful_timeout=timing.grace + 4,
        delete_jobs="always",
    )


async def _until_end(station: Station, work: Sequence[Coroutine[Any, Any, None]]) -> int:
    """Wait for a signal, a lost claim, or a queue that ends by itself; then stop all."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    stop = asyncio.create_task(station.stopping.wait())
    fence = asyncio.create_task(station.fenced.wait())
    await asyncio.wait([stop, fence, *tasks], return_when=asyncio.FIRST_COMPLETED)
    wanted = station.stopping.is_set()
    if station.fenced.is_set():
        await asyncio.sleep(1.0)  # the runners are being killed
        return EXIT_LOST
    station.stopping.set()
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    fence.cancel()
    for end in ends:
        if isinstance(end, Exception):
            logger.error("A queue ended: %s", end)
    return 0 if wanted else EXIT_LOST


def _secret(settings: Settings) -> dict[str, str]:
    """The key of stored API keys, for runners; over stdin, as everything they are told."""
    key = settings.secret_key
    return {} if key is None else {"secret_key": key.get_secret_value()}


def _stop_on_signals(stopping: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)


def _check_tables(url: str, *, private: bool) -> None:
    if private:
        migrate(url)
    elif not is_current(url):
        raise DatabaseUnavailable(
            "The database does not have this version's tables.", hint="Run: sparsight migrate"
        )


if __name__ == "__main__":
    sys.exit(main())
