"""Training of one SAE over cached activations, with checkpoints."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from sae_lens.config import SAETrainerConfig
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAEConfig
from sae_lens.training.sae_trainer import SAETrainer
from torch import Tensor

from worker.sae_training.activation_cache import ActivationCache
from worker.sae_training.batch_topk import SinkBlindBatchTopK, new_training_sae
from worker.sae_training.sinks import SinkDirection, find_sinks, is_sink

logger = logging.getLogger(__name__)

_SAMPLE_ROWS = 65_536
_CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What is trained and how long.

    Attributes:
        k: active features a token, on average over a batch.
        epochs: passes over the cached tokens.
        warm_up_share: share of the steps in which the learning rate rises.
        decay_share: share of the steps in which it falls to zero, at the end.
        dead_after_tokens: a feature silent for so long is revived by the auxiliary loss.
    """

    d_sae: int
    k: float
    epochs: float = 2.0
    batch_tokens: int = 2_048
    learning_rate: float = 8e-4
    warm_up_share: float = 0.04
    decay_share: float = 0.3
    dead_after_tokens: int = 200_000
    seed: int = 0
    checkpoint_steps: int = 250


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedSae:
    """A trained SAE and the scaling of its input.

    Attributes:
        scale: factor on the residual stream that gives it a mean norm of sqrt(d_in).
        sink: the direction the encoder is blind to, in the residual stream's own units.
        n_tokens: tokens seen, counting repeats.
        loss: squared error a token in the scaled space, mean of the last steps.
    """

    sae: SinkBlindBatchTopK
    scale: float
    sink: SinkDirection | None
    n_tokens: int
    loss: float


def sample_rows(
    cache: ActivationCache, n_rows: int, *, rng: np.random.Generator
) -> Float[Tensor, "batch d_in"]:
    """Rows drawn without replacement, in corpus order, float32."""
    chosen = rng.choice(len(cache), size=min(n_rows, len(cache)), replace=False)
    return cache.take(np.sort(chosen)).float()


def train_sae(cache: ActivationCache, plan: TrainingPlan, *, folder: Path) -> TrainedSae:
    """Train, or go on from the last checkpoint in ``folder``."""
    sample = sample_rows(cache, _SAMPLE_ROWS, rng=np.random.default_rng(plan.seed))
    sink = find_sinks(sample)
    ordinary = sample[~is_sink(sink, sample)]
    scale = float(ordinary.shape[1] ** 0.5 / ordinary.norm(dim=-1).mean())
    scaled_sink = _scaled(sink, scale)
    sae = new_training_sae(_sae_config(cache, plan), sink=scaled_sink, seed=plan.seed)
    n_steps = max(1, int(plan.epochs * len(cache)) // plan.batch_tokens)
    trainer = _trainer(sae, plan, n_steps)
    done, loss = _restore(trainer, folder / _CHECKPOINT)
    if done == 0:
        sae.b_dec.data = ordinary.mean(0) * scale
    batches = _batches(cache, plan, first_step=done)
    for step in range(done, n_steps):
        rows = next(batches)
        rows = rows[~is_sink(sink, rows)] * scale
        output = trainer.step(rows)
        trainer.n_training_steps += 1
        now = float(output.losses["mse_loss"].detach())
        loss = now if step == 0 else 0.98 * loss + 0.02 * now
        if step % 50 == 0:
            _log(step, n_steps, loss, trainer)
        if (step + 1) % plan.checkpoint_steps == 0 or step + 1 == n_steps:
            _save(trainer, folder / _CHECKPOINT, step + 1, loss)
    return TrainedSae(
        sae=sae, scale=scale, sink=sink, n_tokens=trainer.n_training_samples, loss=loss
    )


def _sae_config(cache: ActivationCache, plan: TrainingPlan) -> BatchTopKTrainingSAEConfig:
    return BatchTopKTrainingSAEConfig(
        d_in=int(cache.rows.shape[1]),
        d_sae=plan.d_sae,
        k=plan.k,
        apply_b_dec_to_input=True,
        normalize_activations="none",
    )


def _trainer(
    sae: SinkBlindBatchTopK, plan: TrainingPlan, n_steps: int
) -> SAETrainer[SinkBlindBatchTopK, BatchTopKTrainingSAEConfig]:
    config = SAETrainerConfig(
        total_training_samples=n_steps * plan.batch_tokens,
        train_batch_size_samples=plan.batch_tokens,
        lr=plan.learning_rate,
        lr_end=0.0,
        lr_warm_up_steps=int(plan.warm_up_share * n_steps),
        lr_decay_steps=int(plan.decay_share * n_steps),
        autocast=True,
        dead_feature_window=max(1, plan.dead_after_tokens // plan.batch_tokens),
    )
    return SAETrainer(cfg=config, sae=sae, data_provider=iter(()))


def _batches(
    cache: ActivationCache, plan: TrainingPlan, *, first_step: int
) -> Iterator[Float[Tensor, "batch d_in"]]:
    """Batches in an order that depends on seed and epoch only, from ``first_step`` on."""
    per_epoch = max(1, len(cache) // plan.batch_tokens)
    step = first_step
    while True:
        epoch, first = divmod(step, per_epoch)
        order = np.random.default_rng((plan.seed, epoch)).permutation(len(cache))
        for batch in range(first, per_epoch):
            rows = order[batch * plan.batch_tokens : (batch + 1) * plan.batch_tokens]
            yield cache.take(rows).float()
            step += 1


def _scaled(sink: SinkDirection | None, scale: float) -> SinkDirection | None:
    if sink is None:
        return None
    return SinkDirection(
        direction=sink.direction,
        centre=sink.centre * scale,
        max_norm=sink.max_norm * scale,
        share=sink.share,
    )


def _log(
    step: int,
    n_steps: int,
    loss: float,
    trainer: SAETrainer[SinkBlindBatchTopK, BatchTopKTrainingSAEConfig],
) -> None:
    n_dead = int(trainer.dead_neurons.sum())
    logger.info("step %s of %s, squared error %.2f, silent %s", step, n_steps, loss, n_dead)


def _save(
    trainer: SAETrainer[SinkBlindBatchTopK, BatchTopKTrainingSAEConfig],
    path: Path,
    step: int,
    loss: float,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    state = {
        "step": step,
        "loss": loss,
        "sae": trainer.sae.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "lr_scheduler": trainer.lr_scheduler.state_dict(),
        "n_samples": trainer.n_training_samples,
        "silent_for": trainer.n_forward_passes_since_fired,
    }
    torch.save(state, partial)
    partial.replace(path)


def _restore(
    trainer: SAETrainer[SinkBlindBatchTopK, BatchTopKTrainingSAEConfig], path: Path
) -> tuple[int, float]:
    """Steps done and running loss of the checkpoint, or zeros where there is none."""
    if not path.exists():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    trainer.sae.load_state_dict(state["sae"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.lr_scheduler.load_state_dict(state["lr_scheduler"])
    trainer.n_training_samples = state["n_samples"]
    trainer.n_training_steps = state["step"]
    trainer.n_forward_passes_since_fired = state["silent_for"]
    return int(state["step"]), float(state["loss"])
