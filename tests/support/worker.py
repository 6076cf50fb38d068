"""A worker with quick timings; its runners are ``tests.support.runner`` unless another is named."""

import asyncio
import sys
from pathlib import Path

from core.jobs.timing import Timing
from core.log import configure_logging
from core.settings import Settings
from worker.main import parse_queues, serve

QUICK = Timing(heartbeat=0.5, fence=4.0, grace=2.0, patience=2.0, stall=7.0, reap=2, poll=0.5)

if __name__ == "__main__":
    url, data_dir, queues, module = sys.argv[1:]
    configure_logging(level="INFO", json_lines=False)
    settings = Settings(data_dir=Path(data_dir), cache_dir=Path(data_dir) / "cache")
    runner = (sys.executable, "-m", module)
    work = serve(url, queues=parse_queues(queues), settings=settings, runner=runner, timing=QUICK)
    sys.exit(asyncio.run(work))
