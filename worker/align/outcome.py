"""What the processes of a run leave in its folder: a result, a failure, or neither.

The first process writes its result when the model is whole. How processes end after that changes
nothing: one may abort while torch takes its threads down.
"""

import json
from pathlib import Path

from pydantic import TypeAdapter

from core import errors
from core.errors import Cancelled, SparsightError
from worker.align.pipeline import RunResult
from worker.align.storage import save_text

_RESULT_FILE, _FAILURE_FILE = "result.json", "failure.json"
_RESULT: TypeAdapter[RunResult] = TypeAdapter(RunResult)


def forget_outcome(folder: Path) -> None:
    """Remove what an earlier attempt left."""
    for name in (_RESULT_FILE, _FAILURE_FILE):
        (folder / name).unlink(missing_ok=True)


def write_result(result: RunResult, folder: Path) -> None:
    """Leave the result; the model is whole."""
    save_text(_RESULT.dump_json(result).decode(), folder / _RESULT_FILE)


def write_failure(error: SparsightError, folder: Path) -> None:
    """Leave the reason why there is no result."""
    told = {"code": error.code, "message": error.message, "hint": error.hint}
    save_text(json.dumps(told), folder / _FAILURE_FILE)


def read_outcome(folder: Path, *, code: int) -> RunResult:
    """The result of processes that have ended with this code.

    Raises:
        Cancelled: they stopped as they were asked to.
        SparsightError: what the first of them said, or that they died.
    """
    failure, result = folder / _FAILURE_FILE, folder / _RESULT_FILE
    if failure.is_file():
        raise _error(json.loads(failure.read_text(encoding="utf-8")))
    if result.is_file():
        return _RESULT.validate_json(result.read_text(encoding="utf-8"))
    if code != 0:
        raise SparsightError(
            f"The training processes ended with code {code}.",
            hint="See ranks.log in the run's folder; resuming starts from the last checkpoint.",
        )
    raise Cancelled("The run was asked to stop; its state is saved.")


def _error(told: dict[str, str]) -> SparsightError:
    kinds = {
        kind.code: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, SparsightError)
    }
    return kinds.get(told["code"], SparsightError)(told["message"], hint=told["hint"])
