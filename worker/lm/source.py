"""From a model's source to a place that transformers can load, with the name of its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from core.domain.model import ModelKind, ModelSource
from core.errors import Invalid, ModelMissing
from worker.content_hash import content_sha256
from worker.hub import resolve_commit
from worker.lm.gguf import convert_gguf, wheel_model_dir

_WEIGHT_PATTERNS = ("*.safetensors", "pytorch_model*.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What is handed to transformers.

    Attributes:
        name: hub repository, or path of a folder.
        commit: full hub commit; none for a folder.
        offline: the hub cannot be reached; its cache must do.
    """

    name: str
    commit: str | None
    offline: bool = False

    @property
    def arguments(self) -> dict[str, object]:
        """Keyword arguments of ``from_pretrained`` that name exactly these files."""
        if self.commit is None:
            return {"local_files_only": True}
        return {"revision": self.commit, "local_files_only": self.offline}


def find_origin(source: ModelSource, *, cache_dir: Path) -> Origin:
    """Where a model is loaded from; GGUF files are converted below ``cache_dir`` once.

    Raises:
        ModelMissing: no such repository, revision, folder or file.
        DownloadFailed: the hub or package index cannot deliver.
        Invalid: the location is malformed.
    """
    match source.kind:
        case ModelKind.HUB:
            commit = resolve_commit(source.location, source.revision)
            return Origin(name=source.location, commit=commit.sha, offline=commit.offline)
        case ModelKind.FOLDER:
            folder = Path(source.location).expanduser()
        case ModelKind.GGUF:
            folder = _converted(Path(source.location).expanduser(), cache_dir=cache_dir)
        case ModelKind.WHEEL:
            folder = wheel_model_dir(source.location, cache_dir=cache_dir)
        case _:
            assert_never(source.kind)
    if not (folder / "config.json").is_file():
        raise ModelMissing(_why_no_model(folder), hint="Name a folder made by save_pretrained.")
    return Origin(name=str(folder), commit=None)


def weights_revision(origin: Origin, *, cache_dir: Path) -> str:
    """Name of the exact weights: the hub commit, or the sha256 of a folder's weight files.

    Raises:
        ModelMissing: the folder holds no weights.
    """
    if origin.commit is not None:
        return origin.commit
    folder = Path(origin.name)
    for pattern in _WEIGHT_PATTERNS:
        files = [path for path in folder.glob(pattern) if path.name != "adapter_model.safetensors"]
        if files:
            return content_sha256(files, cache_dir=cache_dir)
    raise ModelMissing(
        f"{folder} has a config.json but no weights.",
        hint="Put its .safetensors files there too.",
    )


def _converted(gguf_path: Path, *, cache_dir: Path) -> Path:
    if not gguf_path.is_file():
        raise ModelMissing(f"There is no GGUF file at {gguf_path}.", hint="Check the path.")
    with gguf_path.open("rb") as stream:
        if stream.read(4) != b"GGUF":
            raise Invalid(f"{gguf_path} is not a GGUF file.", hint="Name a .gguf file.")
    sha256 = content_sha256([gguf_path], cache_dir=cache_dir)
    folder = cache_dir / "models" / f"gguf-{sha256[:16]}"
    if not folder.is_dir():
        convert_gguf(gguf_path, folder)
    return folder


def _why_no_model(folder: Path) -> str:
    if not folder.exists():
        return f"There is no folder {folder}."
    if not folder.is_dir():
        return f"{folder} is not a folder."
    return f"{folder} holds no config.json, so it is not a transformers model."
