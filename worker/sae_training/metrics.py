"""How good an SAE is: sparsity, explained variance, dead features, loss recovered."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Float32, Int
from torch import Tensor
from transformers import PreTrainedModel

from worker.lm.capture import replaced
from worker.lm.tokens import Contexts
from worker.sae_training.activation_cache import ActivationCache
from worker.sae_training.inference_weights import JumpReluWeights
from worker.sae_training.sinks import SinkDirection, is_sink

_BLOCK_ROWS = 4_096


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconstructionMetrics:
    """Metrics over cached tokens.

    Attributes:
        l0: features that fire on a token, mean.
        explained_variance: 1 - squared error / total variance about the mean, ordinary tokens.
        explained_variance_with_sinks: the same over all tokens, sinks among them.
        dead_share: features that fire on none of the tokens.
        sink_share: tokens that are attention sinks.
        counts: tokens on which each feature fires.
    """

    n_tokens: int
    l0: float
    explained_variance: float
    explained_variance_with_sinks: float
    dead_share: float
    sink_share: float
    counts: Int[Tensor, " d_sae"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LossMetrics:
    """Next-token cross-entropy in nats, with the residual stream replaced at scored positions.

    Attributes:
        recovered: (zero - with_sae) / (zero - clean), 1 is perfect.
        recovered_from_mean: the same against the mean instead of zero.
    """

    n_tokens: int
    clean: float
    with_sae: float
    with_zero: float
    with_mean: float
    recovered: float
    recovered_from_mean: float


class _Variance:
    """Squared error and total variance of a stream of rows, in float64."""

    def __init__(self, d_in: int) -> None:
        self.n = 0
        self.error = 0.0
        self.square = 0.0
        self.sum = torch.zeros(d_in, dtype=torch.float64)

    def add(
        self, rows: Float32[Tensor, "token d_in"], recon: Float32[Tensor, "token d_in"]
    ) -> None:
        self.n += rows.shape[0]
        self.error += float((rows - recon).double().square().sum())
        self.square += float(rows.double().square().sum())
        self.sum += rows.double().sum(0)

    def explained(self) -> float:
        total = self.square - float(self.sum.square().sum()) / max(self.n, 1)
        return 1 - self.error / total


@torch.inference_mode()
def reconstruction_metrics(
    weights: JumpReluWeights,
    cache: ActivationCache,
    *,
    sink: SinkDirection | None,
    max_tokens: int | None = None,
) -> ReconstructionMetrics:
    """Metrics over the first ``max_tokens`` rows of a cache, or over all of them."""
    n_rows = min(len(cache), max_tokens or len(cache))
    d_sae, d_in = weights.W_dec.shape
    counts = torch.zeros(d_sae, dtype=torch.int64)
    ordinary, everything = _Variance(d_in), _Variance(d_in)
    for start in range(0, n_rows, _BLOCK_ROWS):
        rows = cache.slice(start, min(start + _BLOCK_ROWS, n_rows)).float()
        acts = weights.encode(rows)
        recon = weights.decode(acts)
        counts += (acts > 0).sum(0)
        keep = ~is_sink(sink, rows)
        everything.add(rows, recon)
        ordinary.add(rows[keep], recon[keep])
    return ReconstructionMetrics(
        n_tokens=n_rows,
        l0=float(counts.sum()) / n_rows,
        explained_variance=ordinary.explained(),
        explained_variance_with_sinks=everything.explained(),
        dead_share=float((counts == 0).float().mean()),
        sink_share=1 - ordinary.n / n_rows,
        counts=counts,
    )


@torch.inference_mode()
def loss_metrics(
    model: PreTrainedModel,
    contexts: Contexts,
    weights: JumpReluWeights,
    *,
    hook_name: str,
    mean: Float32[Tensor, " d_in"],
    batch_contexts: int = 16,
) -> LossMetrics:
    """Cross-entropy clean, through the SAE, and with the hook point set to zero or to its mean."""
    variants: dict[str, Callable[[Tensor], Tensor] | None] = {
        "clean": None,
        "sae": lambda rows: weights.decode(weights.encode(rows)),
        "zero": torch.zeros_like,
        "mean": lambda rows: mean.expand_as(rows),
    }
    sums = dict.fromkeys(variants, 0.0)
    n_tokens = 0
    for start in range(0, len(contexts), batch_contexts):
        batch = contexts[start : start + batch_contexts]
        targets = batch.scored[:, 1:]
        n_tokens += int(targets.sum())
        for name, replace in variants.items():
            logits = _logits(model, batch, hook_name, replace)
            sums[name] += _loss_sum(logits[:, :-1], batch.input_ids[:, 1:], targets)
    return _loss_metrics({name: total / n_tokens for name, total in sums.items()}, n_tokens)


def _logits(
    model: PreTrainedModel,
    batch: Contexts,
    hook_name: str,
    replace: Callable[[Tensor], Tensor] | None,
) -> Float[Tensor, "batch pos vocab"]:
    def run() -> Tensor:
        output = model(
            input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False
        )
        logits: Tensor = output.logits
        return logits

    if replace is None:
        return run()
    with replaced(model, hook_name, where=batch.scored, replace=replace):
        return run()


def _loss_sum(
    logits: Float[Tensor, "batch pos vocab"],
    targets: Int[Tensor, "batch pos"],
    scored: Bool[Tensor, "batch pos"],
) -> float:
    return float(
        torch.nn.functional.cross_entropy(logits[scored].float(), targets[scored], reduction="sum")
    )


def _loss_metrics(means: dict[str, float], n_tokens: int) -> LossMetrics:
    clean, with_sae, zero, mean = (means[name] for name in ("clean", "sae", "zero", "mean"))
    return LossMetrics(
        n_tokens=n_tokens,
        clean=clean,
        with_sae=with_sae,
        with_zero=zero,
        with_mean=mean,
        recovered=(zero - with_sae) / (zero - clean),
        recovered_from_mean=(mean - with_sae) / (mean - clean),
    )
