"""From a corpus to committed SAEs: capture, train, fold, judge, record."""

import gc
import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from core.domain.hook import layer_of
from core.domain.model import Dtype, ModelKind, ModelSource
from worker.lm.capture import capture
from worker.lm.load import LoadedModel, load_model
from worker.lm.tokens import Contexts, make_contexts
from worker.packages import file_sha256
from worker.sae_training.activation_cache import ActivationCache, capture_to_disk
from worker.sae_training.inference_weights import (
    WEIGHTS_FILE,
    add_sink_feature,
    calibrate_threshold,
    fold,
    save_weights,
)
from worker.sae_training.metrics import loss_metrics, reconstruction_metrics
from worker.sae_training.sinks import is_sink
from worker.sae_training.trainer import TrainedSae, TrainingPlan, sample_rows, train_sae

logger = logging.getLogger(__name__)

RECORD_FILE = "record.json"
_CALIBRATION_ROWS = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeRun:
    """One call of the training command.

    Attributes:
        set_name: what the SAEs are called after their layer, ``{layer}-{set_name}``.
        max_tokens: training tokens at most; none means all of the corpus.
        loss_contexts: held-out contexts on which the loss recovered is measured.
        work_dir: activations and checkpoints; the run goes on from what it finds there.
        provenance: command, data and model, copied into every record.
    """

    model_dir: Path
    model_name: str
    hook_names: tuple[str, ...]
    set_name: str
    plan: TrainingPlan
    work_dir: Path
    out_dir: Path
    provenance: dict[str, object]
    context_size: int = 128
    max_tokens: int | None = None
    loss_contexts: int = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class _Captured:
    contexts: Contexts
    caches: dict[str, ActivationCache]


def run_training(
    run: SaeRun, *, training_texts: Iterable[str], held_out_texts: Iterable[str]
) -> tuple[Path, ...]:
    """Train one SAE a hook point and write its folder; returns the folders."""
    source = ModelSource(kind=ModelKind.FOLDER, location=str(run.model_dir))
    loaded = load_model(source, dtype=Dtype.BFLOAT16, device="cpu", cache_dir=run.work_dir)

    def prepare(texts: Iterable[str], name: str, max_tokens: int | None) -> _Captured:
        contexts = make_contexts(
            loaded.tokenizer, texts, context_size=run.context_size, max_tokens=max_tokens
        )
        return _Captured(contexts=contexts, caches=_capture(run, loaded, contexts, name))

    held_out = prepare(held_out_texts, "held-out", None)
    training = prepare(training_texts, "training", run.max_tokens)
    folders = []
    for hook_name in run.hook_names:
        folder = run.work_dir / hook_name
        trained = train_sae(training.caches[hook_name], run.plan, folder=folder)
        folders.append(
            finish(
                run,
                trained,
                hook_name=hook_name,
                model=loaded.model,
                captured=(training, held_out),
            )
        )
        gc.collect()
    return tuple(folders)


def _capture(
    run: SaeRun, loaded: LoadedModel, contexts: Contexts, name: str
) -> dict[str, ActivationCache]:
    logger.info("capturing %s contexts of the %s texts", len(contexts), name)
    return capture_to_disk(
        contexts,
        lambda ids, mask: capture(loaded, ids, mask, run.hook_names),
        hook_names=run.hook_names,
        folder=run.work_dir / name,
    )


def finish(
    run: SaeRun,
    trained: TrainedSae,
    *,
    hook_name: str,
    model: PreTrainedModel,
    captured: tuple[_Captured, _Captured],
) -> Path:
    """Fold, calibrate, store and judge one trained SAE; returns its folder."""
    training, held_out = captured
    cache = training.caches[hook_name]
    sample = sample_rows(cache, _CALIBRATION_ROWS, rng=np.random.default_rng(run.plan.seed + 1))
    ordinary = sample[~is_sink(trained.sink, sample)]
    weights = calibrate_threshold(fold(trained), ordinary, k=run.plan.k)
    counts = (weights.encode(ordinary) > 0).sum(0)
    weights, sink_feature = add_sink_feature(weights, trained.sink, counts)
    folder = run.out_dir / f"{layer_of(hook_name)}-{run.set_name}"
    stored = save_weights(
        weights,
        folder,
        model_name=run.model_name,
        hook_name=hook_name,
        context_size=run.context_size,
    )
    metrics = reconstruction_metrics(stored, held_out.caches[hook_name], sink=trained.sink)
    loss = loss_metrics(
        model,
        held_out.contexts[: run.loss_contexts],
        stored,
        hook_name=hook_name,
        mean=ordinary.mean(0),
    )
    judged = {key: value for key, value in asdict(metrics).items() if key != "counts"}
    record = {
        **run.provenance,
        "hook_name": hook_name,
        "context_size": run.context_size,
        "plan": asdict(run.plan),
        "training": {
            "distinct_tokens": len(cache),
            "tokens_seen": trained.n_tokens,
            "squared_error_scaled": trained.loss,
            "input_scale": trained.scale,
        },
        "sinks": _sink_record(trained, sink_feature),
        "held_out": judged,
        "cross_entropy_nats": asdict(loss),
        "sae_weights_sha256": file_sha256(folder / WEIGHTS_FILE),
        "versions": {name: version(name) for name in ("torch", "transformers", "sae-lens")},
    }
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n")
    logger.info("%s: %s %s", folder.name, judged, loss)
    return folder


def _sink_record(trained: TrainedSae, feature: int | None) -> dict[str, float | int] | None:
    if trained.sink is None or feature is None:
        return None
    return {
        "feature": feature,
        "max_norm": trained.sink.max_norm,
        "centre": trained.sink.centre,
        "share_of_training_tokens": trained.sink.share,
    }
