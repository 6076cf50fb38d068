"""What a run will need, by formula, before anything is loaded.

With P the model's weights, N processes under FSDP (else 1), T tokens of the longest sequence (at
most ``max_length``), M sequences of one forward pass, L layers of width d, and s the bytes of a
number of the passes:

* weights: 4 P (trained weights are float32), s P below adapters; bfloat16 passes keep a rounded
  copy, 2 P more.
* gradients: 4 bytes a trained weight; optimiser: 8 (Adam) or 4 (RMSProp) bytes a trained weight.
* reference: 4 P more for TDPO, which keeps the frozen model.
* SAEs: 4 d_in d_sae each (the encoder).
* activations: 17 s d a token and layer (M T L of them); with checkpointing s d, and 17 s d once.
* and 0.5 GB for the process and its libraries.

P is 12 L d² + V d where only the widths are known. The reference cache holds at most
8 bytes · min(d_sae, L0 · answer tokens) a side, pair and SAE, and 8 bytes a pair. Tokens are
counted as characters / 4 before a tokenizer is there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from core.domain.alignment import (
    AlignSpec,
    LoraSpec,
    OptimizerName,
    SftSpec,
    Strategy,
    TrainingSpec,
)
from core.domain.model import Dtype

CHARACTERS_A_TOKEN = 4.0
PROCESS_BYTES = 500_000_000
_PASS_NUMBERS = 17  # numbers a token and layer that a forward pass keeps, in widths of the model
_ATTENTION, _FEED_FORWARD = 2, 5  # inputs + outputs of a linear layer, in widths of the model
_ATTENTION_NAMES = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "query_key_value")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSizes:
    """Sizes of a model."""

    d_model: int
    n_layers: int
    vocab_size: int

    @property
    def n_weights(self) -> int:
        """About how many weights it has.

        >>> ModelSizes(d_model=576, n_layers=30, vocab_size=49_152).n_weights
        147750912
        """
        return 12 * self.n_layers * self.d_model**2 + self.vocab_size * self.d_model


@dataclass(frozen=True, slots=True, kw_only=True)
class SaeSizes:
    """Sizes of an SAE; l0 None where it was never measured."""

    sae_id: str
    d_in: int
    d_sae: int
    l0: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryParts:
    """Bytes of one process, by what they are for."""

    weights: float
    gradients: float
    optimizer: float
    reference: float
    saes: float
    activations: float

    @property
    def total(self) -> float:
        """All of them, with the process itself."""
        known = self.weights + self.gradients + self.optimizer + self.reference
        return known + self.saes + self.activations + PROCESS_BYTES


def memory_parts(
    spec: AlignSpec | SftSpec,
    model: ModelSizes,
    saes: Sequence[SaeSizes],
    *,
    longest: float | None = None,
) -> MemoryParts:
    """What one process will hold at its peak.

    Args:
        spec: the run.
        model: sizes of its model.
        saes: sizes of its SAEs.
        longest: tokens of the longest sequence of the data; None while unknown.
    """
    training = spec.training
    shares = spec.launch.processes if spec.launch.strategy is Strategy.FSDP else 1
    trained = trained_weights(training, model)
    number = _bytes_of(spec.dtype)
    kept = 4 if training.lora is None else number
    rounded = 2 if spec.dtype is Dtype.BFLOAT16 and training.lora is None else 0
    online = isinstance(spec, AlignSpec) and spec.needs_online_reference
    return MemoryParts(
        weights=(kept + rounded) * model.n_weights / shares,
        gradients=4 * trained / shares,
        optimizer=_moment_bytes(training) * trained / shares,
        reference=kept * model.n_weights if online else 0.0,
        saes=float(sum(4 * sae.d_in * sae.d_sae for sae in saes)),
        activations=_activations(spec, model, number, longest),
    )


def disk_bytes(spec: AlignSpec | SftSpec, model: ModelSizes) -> float:
    """Checkpoints and the trained model; the reference cache comes on top."""
    trained = trained_weights(spec.training, model)
    checkpoint = (4 + _moment_bytes(spec.training)) * trained
    written = spec.training.keep_checkpoints + 1  # the newest is whole before the oldest goes
    return float(written * checkpoint + 4 * model.n_weights)


def cache_bytes_a_pair(saes: Sequence[SaeSizes], answer_tokens: float) -> float | None:
    """Most bytes of the reference cache for a pair; None where an SAE's L0 is not known."""
    total = 8.0
    for sae in saes:
        if sae.l0 is None:
            return None
        total += 2 * 8 * min(sae.d_sae, ceil(sae.l0 * answer_tokens))
    return total


def count_steps(n_items: int, training: TrainingSpec) -> int:
    """Steps of a run over so many pairs or conversations.

    >>> count_steps(128, TrainingSpec(batch_size=8, max_steps=12))
    12
    """
    every = -(-n_items // training.batch_size) * training.epochs
    return every if training.max_steps is None else min(every, training.max_steps)


def trained_weights(training: TrainingSpec, model: ModelSizes) -> float:
    """Weights that get gradients: all, or those of the adapters."""
    return float(
        model.n_weights if training.lora is None else _adapter_weights(training.lora, model)
    )


def _adapter_weights(lora: LoraSpec, model: ModelSizes) -> int:
    ends = sum(
        _ATTENTION if name in _ATTENTION_NAMES else _FEED_FORWARD for name in lora.target_modules
    )
    return lora.rank * ends * model.d_model * model.n_layers


def _moment_bytes(training: TrainingSpec) -> int:
    return 8 if training.optimizer.name is OptimizerName.ADAM else 4


def _activations(
    spec: AlignSpec | SftSpec, model: ModelSizes, number: int, longest: float | None
) -> float:
    limit = spec.lengths.max_length if isinstance(spec, AlignSpec) else spec.max_length
    sides = 2 if isinstance(spec, AlignSpec) else 1
    tokens = spec.training.micro_batch_size * sides * min(limit, longest or limit)
    layer = _PASS_NUMBERS * number * model.d_model * tokens
    if spec.training.gradient_checkpointing:
        return float(number * model.d_model * tokens * model.n_layers + layer)
    return float(layer * model.n_layers)


def _bytes_of(dtype: Dtype) -> int:
    return 2 if dtype is Dtype.BFLOAT16 else 4
