"""How fast the death of a worker is noticed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """Seconds of the safety net under running jobs.

    A worker that cannot renew its claims stops its runners within ``fence + grace``; only after
    ``stall``, which is longer, may another worker take its jobs over.

    Attributes:
        heartbeat: between two signs of life of a worker.
        fence: without renewal after which a worker, or its runner by itself, stops the job.
        grace: between asking a job to stop, since its worker ends, and killing it.
        patience: between a person's wish to stop a job and killing it: a step of training on
            several devices and its checkpoint fit in.
        stall: without a sign of life after which a worker counts as dead.
        reap: between two looks for dead workers; a whole number below 60.
        poll: between two looks at a queue when no notification comes.
    """

    heartbeat: float = 3.0
    fence: float = 8.0
    grace: float = 8.0
    patience: float = 120.0
    stall: float = 24.0
    reap: int = 4
    poll: float = 2.0

    def __post_init__(self) -> None:
        if self.fence + self.grace >= self.stall:
            raise ValueError("a worker must have stopped its jobs before another takes them over")

    @property
    def renew(self) -> float:
        """Between two renewals of a claim."""
        return min(1.0, self.fence / 4)

    @property
    def reap_cron(self) -> str:
        """The reap interval as a cron line whose sixth field counts seconds.

        >>> Timing().reap_cron
        '* * * * * */4'
        """
        return f"* * * * * */{self.reap}"
