"""Models, SAEs and corpora as a person types them, turned into settings.

A path that exists here is written down in full, since the worker may run elsewhere.
"""

import os
import re
from pathlib import Path

from core.domain.corpus import (
    CorpusSpec,
    DemoCorpusSpec,
    FileCorpusSpec,
    FolderCorpusSpec,
    HubCorpusSpec,
)
from core.domain.harvest import SaeEntry
from core.domain.ids import check_model_id, check_sae_id
from core.domain.model import ModelKind, ModelSource
from core.domain.sae import SaeKind, SaeSource
from core.errors import CorpusUnreadable, Invalid, ModelMissing

_WHEEL = re.compile(r"[\w.-]+==[\w.+!-]+#[0-9a-f]{64}")
_HUB = re.compile(r"[\w.-]+(/[\w.-]+)?(@[\w./-]+)?")
_HOOK = re.compile(r"@((?:blocks\.\d+\.)?hook_\w+)$")
_TEXT_SUFFIXES = {".txt", ".md", ".jsonl", ".json", ".parquet"}


def parse_model(text: str) -> ModelSource:
    """Where a model comes from.

    >>> parse_model("google/gemma-2-2b@main").revision
    'main'

    Raises:
        ModelMissing: it looks like a path, but nothing is there.
        Invalid: it looks like nothing known.
    """
    path = _path(text)
    if path.is_dir():
        return ModelSource(kind=ModelKind.FOLDER, location=str(path.absolute()))
    if text.endswith(".gguf"):
        _must_exist(path, "model")
        return ModelSource(kind=ModelKind.GGUF, location=str(path.absolute()))
    if _WHEEL.fullmatch(text):
        return ModelSource(kind=ModelKind.WHEEL, location=text)
    if _looks_like_path(text):
        _must_exist(path, "model")
    if not _HUB.fullmatch(text):
        raise Invalid(
            f"{text!r} is no model.",
            hint="Write a hub repository (google/gemma-2-2b), a folder, or a .gguf file.",
        )
    name, _, revision = text.partition("@")
    return ModelSource(kind=ModelKind.HUB, location=name, revision=revision or None)


def parse_sae(text: str) -> SaeEntry:
    """An SAE with its id and hook point: ``id=source@hook``, of which the source alone is needed.

    >>> parse_sae("rel:layer_3/width_16k@blocks.3.hook_resid_post").source.hook_name
    'blocks.3.hook_resid_post'
    >>> parse_sae("gemma-scope-2b-pt-res-canonical:layer_12/width_16k/canonical").sae_id
    '12-gemma-scope-2b-pt-res-canonical-width_16k-canonical'
    """
    named, _, rest = text.partition("=")
    sae_id, source = (named, rest) if rest else (None, text)
    hook = _HOOK.search(source)
    found = _sae_source(source[: hook.start()] if hook else source)
    if hook:
        found = found.model_copy(update={"hook_name": hook[1]})
    return SaeEntry(sae_id=check_sae_id(sae_id) if sae_id else _sae_id(found), source=found)


def parse_corpus(
    text: str, *, column: str | None, max_tokens: int | None, max_documents: int | None
) -> CorpusSpec:
    """Where the text comes from, and how much of it is read.

    >>> parse_corpus("demo", column=None, max_tokens=9, max_documents=None).max_tokens
    9

    Raises:
        CorpusUnreadable: it looks like a path, but nothing is there.
    """
    limits = {"max_tokens": max_tokens, "max_documents": max_documents}
    columns = {} if column is None else {"column": column}
    path = _path(text)
    if text == "demo":
        return DemoCorpusSpec(**limits)
    if path.is_dir():
        return FolderCorpusSpec(path=str(path.absolute()), **limits)
    if path.is_file():
        return FileCorpusSpec(path=str(path.absolute()), **columns, **limits)
    if _looks_like_path(text) or path.suffix in _TEXT_SUFFIXES:
        raise CorpusUnreadable(
            f"There is no file or folder {text}.",
            hint="Write a path, a hub dataset (owner/name), or demo.",
        )
    name, _, config = text.partition(":")
    return HubCorpusSpec(name=name, config=config or None, **columns, **limits)


def id_of_model(source: ModelSource) -> str:
    """An id made from where the model comes from.

    >>> id_of_model(ModelSource(kind=ModelKind.HUB, location="google/gemma-2-2b"))
    'gemma-2-2b'
    """
    name = source.location.split("==")[0] if source.kind is ModelKind.WHEEL else source.location
    return check_model_id(_slug(name.rstrip("/").rsplit("/", 1)[-1].removesuffix(".gguf")))


def _sae_source(text: str) -> SaeSource:
    path = _path(text)
    if path.is_file() or (path / "params.npz").is_file():
        return SaeSource(kind=SaeKind.NPZ, location=str(path.absolute()))
    if path.is_dir():
        return SaeSource(kind=SaeKind.FOLDER, location=str(path.absolute()))
    release, _, release_id = text.partition(":")
    if not release_id or _looks_like_path(text):
        raise ModelMissing(
            f"There is no SAE {text!r}.",
            hint="Write a sae-lens folder, a params.npz, or RELEASE:ID as sae-lens names them.",
        )
    return SaeSource(kind=SaeKind.HUB, location=release, release_id=release_id)


def _sae_id(source: SaeSource) -> str:
    if source.release_id is None:
        return check_sae_id(_slug(source.location.rstrip("/").rsplit("/", 1)[-1]))
    layer = re.search(r"(?:layer|blocks)[_.](\d+)", source.release_id)
    rest = re.sub(r"(?:layer|blocks)[_.]\d+", "", source.release_id)
    return check_sae_id(_slug(f"{layer[1] if layer else ''} {source.location} {rest}"))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9._]+", "-", text.lower()).strip("-.")


def _path(text: str) -> Path:
    """The text as a path, ``~`` resolved; names are kept as UTF-8, so others are refused."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise Invalid(
            f"{os.fsencode(text)!r} is not UTF-8.", hint="Rename the file or folder."
        ) from error
    return Path(text).expanduser()


def _looks_like_path(text: str) -> bool:
    return text.startswith(("/", "./", "../", "~"))


def _must_exist(path: Path, what: str) -> None:
    if not path.exists():
        raise ModelMissing(f"There is no {what} {path}.", hint="Check the path.")
