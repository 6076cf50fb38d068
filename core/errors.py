"""The tree of failures, sorted by who can mend them.

SparsightError
├── InputError               the caller sent something wrong
│   ├── NotFound             no such model, SAE, feature, job …
│   ├── Conflict             the thing changed meanwhile, or is in the wrong state
│   │   └── ClaimLost        another attempt has taken the job over
│   ├── Invalid              a value outside what is allowed
│   │   ├── SaeMismatch      the SAE does not fit the model
│   │   └── HookUnknown      the model has no such hook point
│   ├── TrainingDiverged     a loss or gradient that is not finite
│   ├── CorpusEmpty          no document with text
│   └── CorpusUnreadable     a file or column that cannot be read
├── PermissionDenied
├── RateLimited
├── ExternalError            somebody else's service
│   ├── DownloadFailed       hub or package index
│   ├── LlmUnavailable
│   ├── LlmUnsupported
│   └── AnswerUnparsable     carries the raw answer
├── ResourceError            the machine
│   ├── OutOfMemory
│   ├── DiskFull
│   ├── ModelMissing
│   ├── PortTaken
│   └── DatabaseUnavailable
├── Paused                   the work waits until a person lifts what stopped it
│   ├── BudgetReached        the run's budget allows nothing more
│   └── EndpointStopped      the endpoint answers nothing more: key, quota, connection
└── Cancelled                somebody asked to stop

A message says what happened and how to mend it. Codes are stable: pages, the REST API and
failed items all carry them.
"""

from typing import ClassVar


class SparsightError(Exception):
    """Any failure the product knows by name."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, /, *, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(f"{message} {hint}".strip())


class InputError(SparsightError):
    """The caller sent something wrong and can mend it."""

    code = "input_error"


class NotFound(InputError):
    """The named thing does not exist."""

    code = "not_found"


class Conflict(InputError):
    """The thing is in a state that does not allow this."""

    code = "conflict"


class ClaimLost(Conflict):
    """Another attempt has taken the job over, so this one may not write any more."""

    code = "claim_lost"


class Invalid(InputError):
    """A value outside what is allowed."""

    code = "invalid"


class SaeMismatch(Invalid):
    """The SAE does not fit the model."""

    code = "sae_mismatch"


class HookUnknown(Invalid):
    """The model has no such hook point."""

    code = "hook_unknown"


class TrainingDiverged(InputError):
    """A loss or gradient of a training run is not finite."""

    code = "training_diverged"


class CorpusEmpty(InputError):
    """The corpus holds no document with text."""

    code = "corpus_empty"


class CorpusUnreadable(InputError):
    """A file, folder or column of the corpus cannot be read."""

    code = "corpus_unreadable"


class PermissionDenied(SparsightError):
    """The caller may not do this."""

    code = "permission_denied"


class RateLimited(SparsightError):
    """Too many requests in too short a time."""

    code = "rate_limited"


class ExternalError(SparsightError):
    """A service outside this machine failed."""

    code = "external_error"


class DownloadFailed(ExternalError):
    """A hub or package index could not deliver."""

    code = "download_failed"


class LlmUnavailable(ExternalError):
    """The language-model endpoint does not answer."""

    code = "llm_unavailable"


class LlmUnsupported(ExternalError):
    """The language-model endpoint lacks an ability that is needed."""

    code = "llm_unsupported"


class AnswerUnparsable(ExternalError):
    """The language model answered something that cannot be read.

    Attributes:
        raw: the answer as it came.
    """

    code = "answer_unparsable"

    def __init__(self, message: str, /, *, raw: str = "", hint: str = "") -> None:
        self.raw = raw
        super().__init__(message, hint=hint)


class ResourceError(SparsightError):
    """This machine lacks something."""

    code = "resource_error"


class OutOfMemory(ResourceError):
    """Memory of the machine or its accelerator ran out."""

    code = "out_of_memory"


class DiskFull(ResourceError):
    """The disk has no room left."""

    code = "disk_full"


class ModelMissing(ResourceError):
    """A model or SAE folder is not where it should be."""

    code = "model_missing"


class PortTaken(ResourceError):
    """Another program listens on the port."""

    code = "port_taken"


class DatabaseUnavailable(ResourceError):
    """The database cannot be reached or started."""

    code = "database_unavailable"


class Paused(SparsightError):
    """The work waits, unfinished, until a person lifts what stopped it."""

    code = "paused"


class BudgetReached(Paused):
    """The run's budget allows nothing more."""

    code = "budget"


class EndpointStopped(Paused):
    """The endpoint answers nothing more: its key, its quota or the connection is the reason."""

    code = "endpoint_stopped"


class Cancelled(SparsightError):
    """Somebody asked to stop."""

    code = "cancelled"
