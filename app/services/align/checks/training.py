"""Checks of a run's steps, its reference, and the machine it is to run on."""

from collections.abc import Iterator

from app.services.align.checks.values import Check, Concern, Outcome
from app.services.align.costs import MemoryParts
from app.services.harvest.estimate import Machine
from core.domain.alignment import AlignSpec, SftSpec, method_name


def step_checks(spec: AlignSpec | SftSpec, n_steps: int | None) -> Iterator[Check]:
    """How many steps there are, whether they outlast the warm-up, and how a batch divides."""
    training, processes = spec.training, spec.launch.processes
    if n_steps is not None:
        seen = {"steps": n_steps, "batch": training.batch_size, "epochs": training.epochs}
        yield Check(name=Concern.STEPS, outcome=Outcome.PASSED, numbers=seen)
        if training.optimizer.warmup_steps >= n_steps:
            yield Check(
                name=Concern.WARMUP,
                outcome=Outcome.WARNING,
                path="training.optimizer.warmup_steps",
                numbers={"warmup": training.optimizer.warmup_steps, "steps": n_steps},
            )
    share = training.micro_batch_size * processes
    uneven = training.batch_size % share != 0
    yield Check(
        name=Concern.BATCH,
        outcome=Outcome.WARNING if uneven else Outcome.PASSED,
        path="training.micro_batch_size",
        numbers={
            "batch": training.batch_size,
            "micro": training.micro_batch_size,
            "processes": processes,
            "passes": -(-training.batch_size // share),
        },
    )


def reference_checks(spec: AlignSpec | SftSpec, cache: float | None) -> Iterator[Check]:
    """Whether the reference stays in memory, or how large its cache gets."""
    if not isinstance(spec, AlignSpec):
        return
    if spec.needs_online_reference:
        yield Check(
            name=Concern.REFERENCE,
            outcome=Outcome.WARNING,
            path="method",
            subject=method_name(spec.method),
        )
    yield Check(
        name=Concern.CACHE,
        outcome=Outcome.UNKNOWN if cache is None else Outcome.PASSED,
        numbers={} if cache is None else {"bytes": cache},
    )


def machine_checks(
    spec: AlignSpec | SftSpec,
    memory: MemoryParts | None,
    disk: float | None,
    cache: float | None,
    machine: Machine,
) -> Iterator[Check]:
    """Whether memory and disk suffice."""
    if memory is None:
        yield Check(name=Concern.MEMORY, outcome=Outcome.UNKNOWN)
    else:
        here = spec.device in {"auto", "cpu"}
        # Processes of one machine share its memory; an accelerator's own is not seen from here.
        needed = memory.total * (spec.launch.processes if here else 1)
        short = here and needed > machine.memory_bytes
        yield Check(
            name=Concern.MEMORY,
            outcome=Outcome.WARNING if short else Outcome.PASSED,
            path="training.micro_batch_size",
            subject="" if here else spec.device,
            numbers={"bytes": needed, "free": machine.memory_bytes},
        )
    if disk is not None:
        total = disk + (cache or 0.0)
        yield Check(
            name=Concern.DISK,
            outcome=Outcome.WARNING if total > machine.disk_bytes else Outcome.PASSED,
            path="training.keep_checkpoints",
            numbers={"bytes": total, "free": machine.disk_bytes},
        )
