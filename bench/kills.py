"""A real harvest under kill -9, compared row for row: ``python -m bench.kills``.

A worker harvests the demo model over the demo corpus once undisturbed. Then, in databases of their
own, worker and runner are killed at random moments of the same harvest, as often as asked for; a
killed worker is started again, and a job that gave up is resumed, as its user would. At the end
every row of every harvest is compared with the undisturbed one.
"""

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from sqlalchemy import text

from core.db.embedded import start_database
from core.db.migrate import migrate
from core.db.repositories import jobs
from core.db.session import SessionScope, make_engine, session_scope
from core.domain.corpus import DemoCorpusSpec, DemoSlice
from core.domain.harvest import HarvestSpec, SaeEntry
from core.domain.job import ACTIVE, JobCard, JobState
from core.domain.preset import load_preset
from core.domain.sae import SaeKind, SaeSource
from core.jobs.control import resume, submit

_CACHE = Path("~/.cache/sparsight").expanduser()
_SAE = Path(__file__).parents[1] / "worker" / "demo_saes" / "15-demo-res-4k"
_LOOK_SECONDS = 0.1
_TABLES = {
    "harvest": "SELECT spec_hash, corpus_hash, n_contexts, n_tokens, n_scored FROM harvest",
    "context": "SELECT context_index, document, start, source_index, tokens FROM context"
    " ORDER BY context_index",
    "harvest_sae": "SELECT n_features, n_dead, n_scored, n_active, random_contexts"
    " FROM harvest_sae",
    "feature": "SELECT index, peak_token, n_active, n_contexts, density, sum_activation,"
    " max_activation, mean_activation, peak_text FROM feature ORDER BY index",
    "feature_evidence": "SELECT index, summary, contexts, random FROM feature_evidence"
    " ORDER BY index",
}
Rows = dict[str, list[tuple[object, ...]]]


def main() -> None:
    """Harvest, kill, compare, and say so; the exit code is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--tokens", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    given = parser.parse_args()
    rng = random.Random(given.seed)  # noqa: S311 (nothing secret)
    spec = _spec(given.tokens)
    with _Trial(spec) as trial:
        seconds = trial.finish()
        expected = trial.rows()
    _say(f"undisturbed: {seconds:.0f} s, {sum(map(len, expected.values())):,} rows")
    kills, same = 0, True
    while kills < given.kills:
        with _Trial(spec) as trial:
            for _ in range(given.kills - kills):
                said = trial.kill_after(rng.uniform(0.5, 0.6 * seconds), rng)
                if said is None:
                    break
                kills += 1
                _say(f"kill {kills}: {said}")
            trial.finish()
            found = trial.rows()
        different = _differences(expected, found)
        same = same and not different
        _say(f"harvest done, {trial.attempts} attempts: {different or 'every row is the same'}")
    _say(f"{kills} kills, result {'equal' if same else 'DIFFERENT'}")
    sys.exit(0 if same else 1)


def _spec(n_tokens: int) -> HarvestSpec:
    """The demo's harvest over fewer tokens, in small shards."""
    sae = SaeSource(kind=SaeKind.FOLDER, location=str(_SAE))
    return load_preset("demo").model_copy(
        update={
            "saes": (SaeEntry(sae_id=_SAE.name, source=sae),),
            "corpus": DemoCorpusSpec(slice=DemoSlice.TRAINING, max_tokens=n_tokens),
            "shard_contexts": 32,
        }
    )


class _Trial:
    """One harvest by one worker in a database of its own."""

    def __init__(self, spec: HarvestSpec) -> None:
        self._spec = spec
        self._stack = _house()

    def __enter__(self) -> "_Trial":
        self._folder, self._url, self._scope = self._stack.__enter__()
        with self._scope() as session:
            self._job_id = submit(session, self._spec)
        self._worker = self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._worker.terminate()
        self._worker.wait()
        self._stack.__exit__(None, None, None)

    @property
    def attempts(self) -> int:
        """Attempts so far."""
        return self._attempts

    def finish(self) -> float:
        """Waits for success, resuming a job that gave up; seconds waited."""
        began = time.monotonic()
        while (card := self._card()).state is not JobState.SUCCEEDED:
            if card.state not in ACTIVE:
                with self._scope() as session:
                    resume(session, self._job_id)
            time.sleep(_LOOK_SECONDS)
        self._attempts = card.attempt
        return time.monotonic() - began

    def kill_after(self, seconds: float, rng: random.Random) -> str | None:
        """Kills worker or runner after so long of running; what it hit, None if it came late."""
        end = time.monotonic() + seconds
        while (card := self._card()).active and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS)
        if not card.active:
            return None
        runner = next(iter(_runners(self._worker.pid)), None)
        victim = rng.choice(["worker", "runner"]) if runner else "worker"
        if runner and victim == "runner":
            os.kill(runner, signal.SIGKILL)
        else:
            self._worker.kill()
            self._worker.wait()
            self._worker = self._start()
        where = f"{card.progress.phase} {card.progress.done}" if card.progress else "start"
        return f"{victim}, attempt {card.attempt}, {where}"

    def rows(self) -> Rows:
        """Every row of the harvest, keys of this database left out."""
        with self._scope() as session:
            return {
                name: [tuple(row) for row in session.execute(text(query))]
                for name, query in _TABLES.items()
            }

    def _card(self) -> JobCard:
        with self._scope() as session:
            return jobs.get_job(session, self._job_id).card

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {  # noqa: TID251 - for a process of its own
            "SPARSIGHT_DATABASE_URL": self._url,
            "SPARSIGHT_DATA_DIR": str(self._folder),
            "SPARSIGHT_CACHE_DIR": str(_CACHE),
        }
        with (self._folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "worker.main"], env=environment, stdout=log, stderr=log
            )


@contextmanager
def _house() -> Iterator[tuple[Path, str, SessionScope]]:
    with tempfile.TemporaryDirectory() as name, start_database(Path(name) / "pg") as database:
        migrate(database.url)
        engine = make_engine(database.url)
        yield Path(name), database.url, session_scope(engine)
        engine.dispose()


def _runners(worker: int) -> list[int]:
    """Processes that run a job for a worker."""
    try:
        below = psutil.Process(worker).children(recursive=True)
        return [child.pid for child in below if "worker.runner" in " ".join(child.cmdline())]
    except psutil.Error:
        return []


def _differences(expected: Rows, found: Rows) -> str:
    """Which tables differ in how many rows; empty if none."""
    counts = {
        name: sum(a != b for a, b in itertools.zip_longest(expected[name], found[name]))
        for name in expected
    }
    return ", ".join(f"{n} rows of {name} differ" for name, n in counts.items() if n)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
