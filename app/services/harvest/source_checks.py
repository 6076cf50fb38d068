"""Problems of the models, SAEs and corpora that harvest settings name, found without loading."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import assert_never

from app.services.harvest.sources import (
    ModelHeader,
    SaeHeader,
    is_there,
    local_path,
    read_model_header,
    read_sae_folder,
    read_sae_npz,
)
from app.services.problems import FieldProblem
from core.domain.corpus import CorpusSpec, FileCorpusSpec, FolderCorpusSpec
from core.domain.model import ModelKind, ModelSource
from core.domain.sae import SaeKind, SaeSource

_HOOK = re.compile(
    r"hook_embed|blocks\.(?P<layer>[0-9]{1,4})\.hook_(resid_pre|resid_mid|resid_post|mlp_out|attn_out)"
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_WHEEL = re.compile(r"[A-Za-z0-9][\w.-]*==[\w.+!-]+#[0-9a-f]{64}")
_FOLDER_SAMPLE = 20_000  # files looked at before a folder counts as too large to look through


def model_header(source: ModelSource) -> ModelHeader | None:
    """What a local model folder says of itself; None for anything else."""
    if source.kind is not ModelKind.FOLDER:
        return None
    return read_model_header(local_path(source.location))


def sae_header(source: SaeSource) -> SaeHeader | None:
    """What an SAE's local files say of it; None for a hub release or unreadable files."""
    path = local_path(source.location)
    match source.kind:
        case SaeKind.HUB:
            return None
        case SaeKind.FOLDER:
            return read_sae_folder(path)
        case SaeKind.NPZ:
            return read_sae_npz(path)
        case _:
            assert_never(source.kind)


def model_problems(source: ModelSource) -> Iterator[FieldProblem]:
    """What is wrong with where a model comes from."""
    message, hint = _model_fault(source)
    if message:
        yield FieldProblem(path="model.location", message=message, hint=hint)


def sae_problems(
    source: SaeSource, model: ModelSource | None, *, path: str
) -> Iterator[FieldProblem]:
    """What is wrong with where an SAE comes from, and whether it fits the model's folder."""
    if source.kind is SaeKind.HUB:
        if source.release_id is None:
            yield FieldProblem(
                path=f"{path}.release_id",
                message="A release holds many SAEs.",
                hint="Name one, e.g. layer_12/width_16k/canonical.",
            )
        return
    header = sae_header(source)
    if header is None:
        yield FieldProblem(
            path=f"{path}.location",
            message=f"No SAE can be read at {source.location}.",
            hint="Name a sae-lens folder with cfg.json."
            if source.kind is SaeKind.FOLDER
            else "Name a Gemma Scope params.npz or its folder.",
        )
        return
    yield from _fit_problems(source, header, model, path=path)


def corpus_problems(corpus: CorpusSpec) -> Iterator[FieldProblem]:
    """What is wrong with where the text comes from; only local corpora can be looked at."""
    if isinstance(corpus, FileCorpusSpec) and not is_there(
        local_path(corpus.path), kind=Path.is_file
    ):
        yield FieldProblem(
            path="corpus.path",
            message=f"There is no file {corpus.path}.",
            hint="Name an existing text, JSON-lines or Parquet file on this machine.",
        )
    if isinstance(corpus, FolderCorpusSpec):
        yield from _folder_problems(corpus)


def _model_fault(source: ModelSource) -> tuple[str, str]:
    """A sentence and a hint; empty when nothing is wrong."""
    path = local_path(source.location)
    match source.kind:
        case ModelKind.HUB:
            if not _HUB_NAME.fullmatch(source.location):
                return f"{source.location!r} is not a hub repository.", "Write owner/name."
        case ModelKind.FOLDER:
            if not is_there(path, kind=Path.is_dir):
                return f"There is no folder {source.location}.", "Name a folder on this machine."
            if not is_there(path / "config.json", kind=Path.is_file):
                return f"{source.location} has no config.json.", "Name a transformers folder."
        case ModelKind.GGUF:
            if not is_there(path, kind=Path.is_file) or path.suffix != ".gguf":
                return f"There is no .gguf file {source.location}.", "Name a file on this machine."
        case ModelKind.WHEEL:
            if not _WHEEL.fullmatch(source.location):
                return "This does not name a pinned wheel.", "Write name==version#sha256."
        case _:
            assert_never(source.kind)
    return "", ""


def _fit_problems(
    source: SaeSource, header: SaeHeader, model: ModelSource | None, *, path: str
) -> Iterator[FieldProblem]:
    hook_name = source.hook_name or header.hook_name
    hook = _HOOK.fullmatch(hook_name) if hook_name else None
    if hook_name and hook is None:
        yield FieldProblem(
            path=f"{path}.hook_name",
            message=f"{hook_name!r} is not a hook point.",
            hint="Write e.g. blocks.12.hook_resid_post.",
        )
    known = model_header(model) if model is not None else None
    if known is None:
        return
    if header.d_in and known.d_model and header.d_in != known.d_model:
        yield FieldProblem(
            path=f"{path}.location",
            message=f"The SAE reads {header.d_in} numbers a token, the model has {known.d_model}.",
            hint="Choose an SAE that was trained on this model.",
        )
    layer = hook.group("layer") if hook else None
    if layer is not None and known.n_layers and int(layer) >= known.n_layers:
        yield FieldProblem(
            path=f"{path}.hook_name",
            message=f"The model has {known.n_layers} layers; there is no layer {layer}.",
            hint=f"Choose a layer from 0 to {known.n_layers - 1}.",
        )


def _folder_problems(corpus: FolderCorpusSpec) -> Iterator[FieldProblem]:
    folder = local_path(corpus.path)
    if not is_there(folder, kind=Path.is_dir):
        yield FieldProblem(
            path="corpus.path",
            message=f"There is no folder {corpus.path}.",
            hint="Name an existing folder on this machine.",
        )
        return
    for count, file in enumerate(folder.rglob("*")):
        if file.suffix in corpus.suffixes or count >= _FOLDER_SAMPLE:
            return
    yield FieldProblem(
        path="corpus.suffixes",
        message=f"{corpus.path} holds no file ending in {', '.join(corpus.suffixes)}.",
        hint="Name the endings of the text files in it.",
    )
