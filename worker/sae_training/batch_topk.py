"""sae-lens's BatchTopK training SAE, with a batch threshold that is fast on a CPU.

sae-lens sorts all activations of a batch, the slowest part of a step without a GPU. Here the
threshold is the one that keeps k activations a token on every eighth row, and applies to all
rows; its error is below a hundredth of k at the batch sizes in use.
"""

import torch
from jaxtyping import Float
from sae_lens.saes.batchtopk_sae import BatchTopKTrainingSAE, BatchTopKTrainingSAEConfig
from torch import Tensor, nn
from typing_extensions import override

from worker.sae_training.sinks import SinkDirection, flatten_sink

_ROW_STRIDE = 8


class SampledBatchTopK(nn.Module):
    """Keeps the activations at or above a threshold that leaves k a token on average.

    Attributes:
        threshold: smallest activation kept by the last call.
    """

    def __init__(self, k: float) -> None:
        super().__init__()
        self.k = k
        self.threshold = 0.0

    @override
    def forward(self, x: Float[Tensor, "batch d_sae"]) -> Float[Tensor, "batch d_sae"]:
        """The kept activations, zero elsewhere."""
        rows = x.detach()[::_ROW_STRIDE].flatten()
        n_kept = max(1, int(self.k * rows.numel() / x.shape[-1]))
        self.threshold = max(float(rows.topk(n_kept, sorted=False).values.min()), 1e-6)
        return x * (x.detach() >= self.threshold)


class SinkBlindBatchTopK(BatchTopKTrainingSAE):  # type: ignore[misc]  # sae-lens is untyped
    """BatchTopK SAE whose encoder does not see the attention sinks' direction.

    Attributes:
        sink: direction in the scaled space in which the SAE is trained, or none.
    """

    sink: SinkDirection | None = None

    @override
    def get_activation_fn(self) -> SampledBatchTopK:
        return SampledBatchTopK(self.cfg.k)

    @override
    def process_sae_in(self, sae_in: Float[Tensor, "batch d_in"]) -> Float[Tensor, "batch d_in"]:
        return super().process_sae_in(flatten_sink(self.sink, sae_in))  # type: ignore[no-any-return]

    @override
    @torch.no_grad()
    def update_topk_threshold(self, acts_topk: Float[Tensor, "batch d_sae"]) -> None:
        """Move the running threshold towards that of the last batch."""
        rate = self.cfg.topk_threshold_lr
        last = torch.tensor(self.activation_fn.threshold, dtype=self.topk_threshold.dtype)
        self.topk_threshold.lerp_(last, rate)


def new_training_sae(
    config: BatchTopKTrainingSAEConfig, *, sink: SinkDirection | None, seed: int
) -> SinkBlindBatchTopK:
    """A fresh SAE with weights drawn from ``seed``; the global generator is left as it was."""
    # sae-lens draws its weights from the global generator and takes no other.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # noqa: TID251
        sae = SinkBlindBatchTopK(config)
    sae.sink = sink
    return sae
