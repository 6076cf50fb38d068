"""Command that trains the demo SAEs, or SAEs of another model: python -m worker.sae_training."""

import argparse
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from pydantic import TypeAdapter

from core.domain.corpus import (
    CorpusSpec,
    DemoCorpusSpec,
    DemoSlice,
    FileCorpusSpec,
    FolderCorpusSpec,
)
from core.errors import Invalid, SparsightError
from worker.corpus.demo_sources import DEMO_SOURCES
from worker.corpus.open import open_corpus
from worker.lm.gguf import DEMO_MODEL_LOCATION, demo_model_dir
from worker.sae_training.run import SaeRun, run_training
from worker.sae_training.trainer import TrainingPlan

logger = logging.getLogger(__name__)

_DEMO_MODEL_NAME = "smollm2-135m-instruct"
_HELD_OUT_ONE_IN = 8


def main(arguments: list[str] | None = None) -> int:
    """Run the command; 0 on success, 2 on an error that the caller can mend."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    try:
        run = _run(options)
        training, held_out = _texts(options)
        for folder in run_training(run, training_texts=training, held_out_texts=held_out):
            logger.info("wrote %s", folder)
    except SparsightError as error:
        logger.error("%s", error)  # noqa: TRY400 - the message says all; no traceback
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m worker.sae_training",
        description="Train BatchTopK SAEs on the residual stream of a model. Without options: the "
        "demo SAEs. Interrupted, it goes on where it stopped.",
    )
    add = parser.add_argument
    add("--layers", type=int, nargs="+", default=[15], help="layers, one SAE each")
    add("--d-sae", type=int, default=4_608, help="features of each SAE")
    add("--k", type=float, default=56.0, help="features that fire on a token, on average")
    add("--epochs", type=float, default=2.0, help="passes over the training tokens")
    add("--seed", type=int, default=0)
    add("--max-tokens", type=int, default=None, help="training tokens at most")
    add("--context-size", type=int, default=128, help="tokens a context, BOS included")
    add("--model", type=Path, default=None, help="transformers folder; default: the demo model")
    add("--model-name", default=None, help="id of the model in cfg.json; default: its folder")
    add("--corpus", type=Path, default=None, help="text file or folder; default: the demo corpus")
    add("--set-name", default="demo-res-4k", help="the SAE is called {layer}-{set-name}")
    add("--out-dir", type=Path, default=Path("worker/demo_saes"))
    add("--work-dir", type=Path, default=Path("sae-training"), help="activations, checkpoints")
    add("--cache-dir", type=Path, default=Path("~/.cache/sparsight").expanduser())
    add("--threads", type=int, default=torch.get_num_threads())
    return parser


def _run(options: argparse.Namespace) -> SaeRun:
    model_dir = options.model or demo_model_dir(cache_dir=options.cache_dir)
    model_name = options.model_name or (options.model.name if options.model else _DEMO_MODEL_NAME)
    provenance: dict[str, object] = {
        "command": _command(options),
        "model": str(options.model) if options.model else DEMO_MODEL_LOCATION,
        "corpus": str(options.corpus) if options.corpus else demo_provenance(),
    }
    return SaeRun(
        model_dir=model_dir,
        model_name=model_name,
        hook_names=tuple(f"blocks.{layer}.hook_resid_post" for layer in options.layers),
        set_name=options.set_name,
        plan=TrainingPlan(
            d_sae=options.d_sae, k=options.k, epochs=options.epochs, seed=options.seed
        ),
        work_dir=options.work_dir,
        out_dir=options.out_dir,
        provenance=provenance,
        context_size=options.context_size,
        max_tokens=options.max_tokens,
    )


def _command(options: argparse.Namespace) -> str:
    """The command with every option that decides the result, and none that does not."""
    numbers = ("d_sae", "k", "epochs", "seed", "context_size")
    words = [f"--{name.replace('_', '-')} {getattr(options, name)}" for name in numbers]
    optional = ("max_tokens", "model", "corpus")
    words += [
        f"--{name.replace('_', '-')} {value}"
        for name in optional
        if (value := getattr(options, name)) is not None
    ]
    layers = " ".join(map(str, options.layers))
    return f"python -m worker.sae_training --layers {layers} {' '.join(words)}"


def demo_provenance() -> list[dict[str, str]]:
    """The packages of the demo corpus as a record names them."""
    packages = {source.package.filename: source.package for source in DEMO_SOURCES}
    return [
        {
            "package": f"{package.name}=={package.version}",
            "filename": package.filename,
            "sha256": package.sha256,
            "licence": package.licence,
        }
        for package in packages.values()
    ]


def _texts(options: argparse.Namespace) -> tuple[Iterator[str], Iterator[str]]:
    """Training and held-out texts; of an own corpus one document in eight is held out."""
    if options.corpus is None:
        training = _documents(DemoCorpusSpec(slice=DemoSlice.TRAINING), options.cache_dir)
        held_out = _documents(DemoCorpusSpec(slice=DemoSlice.HARVEST), options.cache_dir)
        return (text for _, text in training), (text for _, text in held_out)
    kind = FolderCorpusSpec if options.corpus.is_dir() else FileCorpusSpec
    spec: CorpusSpec = TypeAdapter[CorpusSpec](CorpusSpec).validate_python(
        kind(path=str(options.corpus))
    )
    documents = list(_documents(spec, options.cache_dir))
    held = [text for index, text in documents if index % _HELD_OUT_ONE_IN == 0]
    kept = [text for index, text in documents if index % _HELD_OUT_ONE_IN]
    if not kept:
        raise Invalid("The corpus needs at least two documents: one of them is held out.")
    return iter(kept), iter(held)


def _documents(spec: CorpusSpec, cache_dir: Path) -> Iterator[tuple[int, str]]:
    corpus = open_corpus(spec, cache_dir=cache_dir, count_tokens=len)
    return ((document.document_id, document.text) for document in corpus.documents())


if __name__ == "__main__":
    sys.exit(main())
