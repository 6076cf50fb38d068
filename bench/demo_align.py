"""The demo run over seeds and methods: ``python -m bench.demo_align``.

Aligns SmolLM2-135M-Instruct on the shipped preference set with each method and seed, and prints
held-out preference accuracy (share of pairs whose chosen answer has the higher mean token
log-probability) before and after, and the KL to the reference: at the end, and at equal accuracy,
which is where each run first reaches the lowest final accuracy among the runs of its seed.
"""

import argparse
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import JsonValue

from core.domain.align_preset import load_align_preset
from core.domain.alignment import AlignSpec, Method
from worker.align.run import execute
from worker.align.training.launch import make_accelerator
from worker.align.training.metrics import Row, read_metrics
from worker.align.training.observer import METRICS

ALL_HELD_OUT = 66
_CACHE = Path("~/.cache/sparsight").expanduser()
_ACCURACY, _KL = "eval_preference_accuracy", "eval_probe_kl/forward"


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's evaluations, first to last, and how long it took without its reference."""

    method: Method
    seed: int
    evaluations: list[Row]
    seconds: float


class Quiet:
    """A sink for runs that nobody watches."""

    def wrote_step(self) -> None:
        """Nothing to pass on."""

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """One dot a step."""
        sys.stderr.write("." if phase == "training" else "")
        sys.stderr.write("\n" if done == total else "")
        sys.stderr.flush()

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """Not shown."""

    def stop_requested(self) -> bool:
        """Never."""
        return False


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="bench.demo_align", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", default=["simpo", "fpo"])
    parser.add_argument("--steps", type=int, help="instead of the preset's")
    parser.add_argument("--learning-rate", type=float, help="instead of the preset's")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", help="also write the table to this Markdown file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    runs = [
        _run(_spec(Method(method), seed, options))
        for seed in options.seeds
        for method in options.methods
    ]
    text = "\n".join(_table(runs)) + "\n"
    sys.stdout.write(text)
    if options.out:
        Path(options.out).write_text(text, encoding="utf-8")


def _spec(method: Method, seed: int, options: argparse.Namespace) -> AlignSpec:
    """The demo preset with another method and seed, tried on all held-out pairs every 2 steps."""
    preset = load_align_preset("demo").model_dump()
    training = preset["training"] | {
        "seed": seed,
        "eval_every": 2,
        "max_eval": ALL_HELD_OUT,
        "tensorboard": False,
    }
    if options.steps:
        training["max_steps"] = options.steps
    if options.learning_rate:
        training["optimizer"] = training["optimizer"] | {"learning_rate": options.learning_rate}
    return AlignSpec.model_validate(preset | {"method": method, "training": training})


def _run(spec: AlignSpec) -> Run:
    sys.stderr.write(f"{spec.method.value}, seed {spec.training.seed} ")
    with tempfile.TemporaryDirectory() as folder:
        execute(
            spec,
            folder=Path(folder),
            cache_dir=_CACHE,
            sink=Quiet(),
            accelerator=make_accelerator(device=spec.device),
        )
        rows = read_metrics(Path(folder) / METRICS)
    tokens = [row for row in rows if "tokens_per_second" in row]
    return Run(
        method=spec.method,
        seed=spec.training.seed,
        evaluations=[row for row in rows if _ACCURACY in row],
        seconds=sum(row["num_tokens"] / row["tokens_per_second"] for row in tokens),
    )


def _table(runs: list[Run]) -> list[str]:
    lines = [
        "| seed | method | accuracy before | after | KL at the end | reached | KL there | at step "
        "| training (s) |",
        "|---:|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    at_equal: dict[Method, list[float]] = {}
    for run in runs:
        peers = [other for other in runs if other.seed == run.seed]
        level = min(max(row[_ACCURACY] for row in other.evaluations) for other in peers)
        met = next(row for row in run.evaluations if row[_ACCURACY] >= level)
        at_equal.setdefault(run.method, []).append(met[_KL])
        first, last = run.evaluations[0], run.evaluations[-1]
        lines.append(
            f"| {run.seed} | {run.method.value} | {first[_ACCURACY]:.3f} | {last[_ACCURACY]:.3f} "
            f"| {last[_KL]:.4f} | {level:.3f} | {met[_KL]:.4f} | {int(met['step'])} "
            f"| {run.seconds:.0f} |"
        )
    lines += ["", *_verdict(runs, at_equal)]
    return lines


def _verdict(runs: list[Run], at_equal: dict[Method, list[float]]) -> list[str]:
    """What the table shows, in sentences made from it."""
    raised = [run.evaluations[-1][_ACCURACY] - run.evaluations[0][_ACCURACY] for run in runs]
    found = [
        f"Held-out accuracy rose by {min(raised):.3f} to {max(raised):.3f}."
        if min(raised) > 0
        else "Held-out accuracy did not rise in every run."
    ]
    if {Method.FPO, Method.SIMPO} <= at_equal.keys():
        pairs = list(zip(at_equal[Method.FPO], at_equal[Method.SIMPO], strict=True))
        lower = sum(fpo < simpo for fpo, simpo in pairs)
        mean = [statistics.mean(values) for values in zip(*pairs, strict=True)]
        found.append(
            f"At equal accuracy FPO's KL was below SimPO's in {lower} of {len(pairs)} seeds "
            f"(means {mean[0]:.4f} and {mean[1]:.4f} nats a token)."
        )
    return found


if __name__ == "__main__":
    main()
