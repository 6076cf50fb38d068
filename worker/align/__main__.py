"""One rank of a run: ``python -m worker.align RUN_FOLDER CACHE_DIR``, started by torchrun."""

import os
import sys
from pathlib import Path
from typing import Annotated

from pydantic import Field, JsonValue, TypeAdapter

from core.domain.alignment import AlignSpec, SftSpec
from core.domain.job_lines import sentence
from core.errors import Cancelled, SparsightError
from worker.align.outcome import write_failure, write_result
from worker.align.run import SPEC, execute
from worker.align.training.launch import StopFlag, make_accelerator

_SPEC: TypeAdapter[AlignSpec | SftSpec] = TypeAdapter(
    Annotated[AlignSpec | SftSpec, Field(discriminator="kind")]
)


class RankSink:
    """A rank's only news from outside is a signal; its news to outside are files."""

    def __init__(self, flag: StopFlag) -> None:
        self._flag = flag

    def wrote_step(self) -> None:
        """The parent reads the metric file."""

    def progress(self, *, done: int, total: int, phase: str) -> None:
        """Told by standard output, which the parent keeps."""
        sys.stdout.write(f"{phase}: {done} of {total}\n")

    def tell(self, kind: str, /, **values: JsonValue) -> None:
        """Told by standard output, which the parent keeps."""
        sys.stdout.write(f"{sentence(kind, values)}\n")

    def stop_requested(self) -> bool:
        """Whether a signal came."""
        return self._flag.raised


def main(arguments: list[str]) -> int:
    """Train as one rank; 0 done or stopped as asked, without a result then; 1 failed."""
    folder, cache_dir = map(Path, arguments)
    flag = StopFlag()
    flag.install()
    spec = _SPEC.validate_json((folder / SPEC).read_text(encoding="utf-8"))
    accelerator = make_accelerator(device=spec.device)
    try:
        result = execute(
            spec, folder=folder, cache_dir=cache_dir, sink=RankSink(flag), accelerator=accelerator
        )
    except Cancelled:
        return 0
    except SparsightError as error:
        write_failure(error, folder)
        return 1
    if accelerator.is_main_process:
        write_result(result, folder)
    accelerator.end_training()
    return 0


if __name__ == "__main__":
    ended = main(sys.argv[1:])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)  # an interpreter that takes torch's threads down may abort at its very end
