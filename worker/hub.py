"""The Hugging Face hub: which commit a name means, and its failures in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from core.errors import DiskFull, DownloadFailed, Invalid, ModelMissing, SparsightError

_CONFIG_FILE = "config.json"
_TIMEOUT_SECONDS = 15.0
# The base of every error of the HTTP client that the hub's library uses; not exported by name.
_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
_NO_CONNECTION = (_HTTP_ERROR, LocalEntryNotFoundError, ConnectionError, TimeoutError)


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCommit:
    """What a repository's branch or tag means.

    Attributes:
        sha: full commit.
        offline: the hub could not be asked; this is what was downloaded last.
    """

    sha: str
    offline: bool


def resolve_commit(repository: str, revision: str | None) -> HubCommit:
    """The commit that a repository's branch, tag or commit means now; none means ``main``.

    Raises:
        ModelMissing: the hub has no such repository or revision.
        DownloadFailed: the hub cannot be asked and nothing is in its cache.
        Invalid: this is no name of a repository.
    """
    with hub_errors(repository):
        if _answers(repository, revision):
            # By its name, not its commit: so the cache remembers what the name meant.
            path = huggingface_hub.hf_hub_download(repository, _CONFIG_FILE, revision=revision)
            return HubCommit(sha=Path(path).parent.name, offline=False)
        cached = huggingface_hub.try_to_load_from_cache(repository, _CONFIG_FILE, revision=revision)
    if not isinstance(cached, str):
        raise _unreachable(repository)
    return HubCommit(sha=Path(cached).parent.name, offline=True)


@contextmanager
def cache_if_unreachable(repository: str) -> Iterator[None]:
    """Inside, the hub's library reads its cache only, if the hub does not answer now.

    Without this, each file would wait for half a minute of retries.
    """
    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = before or not _answers(repository, None)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _answers(repository: str, revision: str | None) -> bool:
    """Whether the hub can be reached; one question, without the library's minute of retries."""
    try:
        huggingface_hub.HfApi().model_info(repository, revision=revision, timeout=_TIMEOUT_SECONDS)
    except HfHubHTTPError:
        raise
    except (_HTTP_ERROR, OSError):
        return False
    return True


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Inside, failures of the hub become ModelMissing, DownloadFailed, DiskFull or Invalid.

    Args:
        name: the repository or release that is wanted, for the message.
    """
    try:
        yield
    except SparsightError:
        raise
    except (HFValidationError, _HTTP_ERROR, OSError) as error:
        known = _translated(error, name)
        if known is None:
            raise
        raise known from error


def _translated(error: BaseException, name: str) -> SparsightError | None:
    for cause in _causes(error):
        match cause:
            case GatedRepoError():
                return ModelMissing(
                    f"{name} is gated: its licence must be accepted first.",
                    hint=f"Accept it on https://huggingface.co/{name}, "
                    "then log in on this machine: hf auth login",
                )
            case RevisionNotFoundError():
                return ModelMissing(
                    f"{name} has no such revision on the Hugging Face hub.",
                    hint="Check the branch, tag or commit.",
                )
            case RepositoryNotFoundError():
                return ModelMissing(
                    f"The Hugging Face hub has no model {name}.",
                    hint="Check the spelling; for a private one log in first: hf auth login",
                )
            case RemoteEntryNotFoundError():
                return ModelMissing(
                    f"{name} lacks a file that is needed: {_first_line(cause)}",
                    hint="Check the name; a model needs config.json and .safetensors files.",
                )
            case HFValidationError():
                return Invalid(
                    f"{name!r} is no name of a hub repository.", hint="Write owner/name."
                )
            case OSError(errno=28 | 122):
                return DiskFull(
                    f"The disk is full; {name} could not be stored.",
                    hint="Free some space, or move the cache with HF_HOME.",
                )
    return _failed(error, name)


def _failed(error: BaseException, name: str) -> SparsightError | None:
    for cause in _causes(error):
        if isinstance(cause, HfHubHTTPError):
            status = getattr(cause.response, "status_code", "an error")
            return DownloadFailed(
                f"The Hugging Face hub answered {status} for {name}.", hint="Try again later."
            )
        if isinstance(cause, _NO_CONNECTION):
            return _unreachable(name)
    return None


def _unreachable(name: str) -> DownloadFailed:
    return DownloadFailed(
        f"The Hugging Face hub could not be reached for {name}.",
        hint="Check the network (or HF_ENDPOINT), or use a local folder.",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:200]
