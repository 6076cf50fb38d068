"""A harvest in a process of its own, to be killed: ``python -m tests.support.harvest_process``."""

import sys
from pathlib import Path

from core.db.repositories import jobs
from core.db.session import make_engine, session_scope
from core.domain.harvest import HarvestSpec
from core.domain.job import Claim, parse_spec
from tests.support.harvests import harvested
from worker.progress import JobContext


def main(url: str, work_dir: str, job_id: int, attempt: int, epoch: int) -> None:
    """Harvest under a claim that another process made."""
    scope = session_scope(make_engine(url))
    claim = Claim(job_id=job_id, attempt=attempt, epoch=epoch)
    with JobContext(
        claim=claim, scope=scope, work_dir=Path(work_dir), cache_dir=Path(work_dir)
    ) as job:
        with scope() as session:
            spec = parse_spec(jobs.get_spec(session, job_id))
        assert isinstance(spec, HarvestSpec)
        harvested(spec, job)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], *(int(word) for word in sys.argv[3:6]))
