"""What a training step minimises, and what an evaluation measures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, assert_never, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from core.domain.alignment import AlignSpec, Method
from worker.align.constraint import Constraint, total_divergence
from worker.align.data.pairs import (
    PaddingSide,
    TokenBatch,
    TokenPair,
    TokenSequence,
    collate,
    collate_pairs,
)
from worker.align.divergence import FeatureDivergence
from worker.align.logps import ResponseLogps
from worker.align.losses import (
    PairLengths,
    PairLogps,
    PairValues,
    PreferenceLoss,
    dpo_loss,
    fpo_loss,
    simpo_loss,
    tdpo1_loss,
    tdpo2_loss,
)
from worker.align.policy import Policy, Reading, ReferenceStates, read_batch, unembedding_of
from worker.align.pooling import pool_features


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What a few items add to a step or an evaluation.

    Attributes:
        losses: of each item, to be multiplied by its weight.
        metrics: numbers of each item by name, detached, averaged by weight over items.
        shifts: sums over items of pooled policy − reference activations, by SAE and side; filled
            in evaluations only.
        n_tokens: tokens read, padding left out.
    """

    losses: Float[Tensor, " item"]
    metrics: Mapping[str, Float[Tensor, " item"]]
    shifts: Mapping[tuple[str, str], Float[Tensor, " d_sae"]]
    n_tokens: int


@runtime_checkable  # tests check arguments by it
class Objective(Protocol):
    """Items with a weight each; a step's loss is Σ weight · loss / Σ weight over its items."""

    def __len__(self) -> int:
        """Number of items."""

    def weight(self, index: int) -> float:
        """Weight of an item, known before any forward pass."""

    def length(self, index: int) -> int:
        """Tokens of an item's longest sequence, by which items are put together."""

    def read(self, policy: nn.Module, indices: Sequence[int], *, training: bool) -> Contribution:
        """Losses and metrics of the items."""


@runtime_checkable  # tests check arguments by it
class Reference(Protocol):
    """Where the frozen model's numbers come from."""

    def logps(self, indices: Sequence[int]) -> PairLogps:
        """Summed log-probabilities of the pairs' answers."""

    def means(self, sae_id: str, indices: Sequence[int]) -> Float[Tensor, "batch d_sae"]:
        """Pooled activations of the chosen answers, then of the rejected ones."""


class OnlineReference:
    """A frozen model that is asked at every step; TDPO needs it, tests compare with it."""

    def __init__(
        self,
        policy: Policy,
        pairs: Sequence[TokenPair],
        *,
        constraints: Sequence[Constraint],
        pad_id: int,
        device: torch.device,
    ) -> None:
        self._policy = policy
        self._pairs = pairs
        self._constraints = {c.sae_id: c for c in constraints}
        self._pad_id = pad_id
        self._device = device

    def logps(self, indices: Sequence[int]) -> PairLogps:
        """Summed log-probabilities of the pairs' answers, from one forward pass."""
        chosen, rejected = self._read(indices).logps.summed.chunk(2)
        return PairLogps(chosen=chosen, rejected=rejected)

    @torch.no_grad()
    def means(self, sae_id: str, indices: Sequence[int]) -> Float[Tensor, "batch d_sae"]:
        """Pooled activations of the pairs' answers, from one forward pass."""
        c = self._constraints[sae_id]
        tokens = self._tokens(indices)
        (stream,) = read_batch(self._policy, tokens, hook_names=[c.hook_name]).taps
        return pool_features(hidden=stream, mask=tokens.targets.mask, encoder=c.encoder).means

    def states(self, tokens: TokenBatch) -> tuple[ReferenceStates, ResponseLogps]:
        """Final hidden states and head, for whole distributions, and the log-probabilities."""
        with torch.no_grad():
            reading = read_batch(self._policy, tokens)
        head = unembedding_of(self._policy.model)
        return ReferenceStates(hidden=reading.hidden, head=head), reading.logps

    @torch.no_grad()
    def _read(self, indices: Sequence[int]) -> Reading:
        return read_batch(self._policy, self._tokens(indices))

    def _tokens(self, indices: Sequence[int]) -> TokenBatch:
        pairs = [self._pairs[i] for i in indices]
        return collate_pairs(pairs, pad_id=self._pad_id).tokens.to(self._device)


class PreferenceObjective:
    """Preference pairs under one of the five losses; every pair weighs 1.

    Args:
        spec: method and its hyper-parameters.
        pairs: tokens of the pairs.
        places: number of each pair in the reference.
        reference: cached or online.
        constraints: SAEs of the constraint set; FPO holds them, other methods report them.
        online: the frozen model, for TDPO only.
        pad_id: id that padding is written with.
        device: where the policy is.
        side: where padding goes.
    """

    def __init__(
        self,
        *,
        spec: AlignSpec,
        pairs: Sequence[TokenPair],
        places: Sequence[int],
        reference: Reference,
        constraints: Sequence[Constraint],
        online: OnlineReference | None,
        pad_id: int,
        device: torch.device,
        side: PaddingSide = PaddingSide.RIGHT,
    ) -> None:
        self._spec = spec
        self._pairs = pairs
        self._places = places
        self._reference = reference
        self._constraints = constraints
        self._online = online
        self._pad_id = pad_id
        self._device = device
        self._side = side

    def __len__(self) -> int:
        return len(self._pairs)

    def weight(self, index: int) -> float:  # noqa: ARG002 - every pair counts the same
        """1 for every pair."""
        return 1.0

    def length(self, index: int) -> int:
        """Tokens of the pair's longer side."""
        pair = self._pairs[index]
        return max(len(pair.chosen.ids), len(pair.rejected.ids))

    def read(self, policy: nn.Module, indices: Sequence[int], *, training: bool) -> Contribution:
        """Losses, rewards and divergences of the pairs."""
        pairs = [self._pairs[i] for i in indices]
        places = [self._places[i] for i in indices]
        tokens = collate_pairs(pairs, pad_id=self._pad_id, side=self._side).tokens.to(self._device)
        watched = self._constraints if self._spec.method is Method.FPO or not training else ()
        reference, states = self._reference_of(tokens, places)
        reading = read_batch(
            policy, tokens, hook_names=[c.hook_name for c in watched], reference=states
        )
        means = {c.sae_id: self._means(c, places) for c in watched}
        drift = {
            c.sae_id: c.divergence(
                hidden=stream, mask=tokens.targets.mask, reference_means=means[c.sae_id]
            )
            for c, stream in zip(watched, reading.taps, strict=True)
        }
        loss = self._loss(reading, reference, drift)
        return Contribution(
            losses=loss.losses,
            metrics=_metrics(loss, reading, drift),
            shifts={} if training else _shifts(drift, means),
            n_tokens=tokens.n_tokens,
        )

    def _reference_of(
        self, tokens: TokenBatch, places: Sequence[int]
    ) -> tuple[PairLogps, ReferenceStates | None]:
        if self._online is None:
            cached = self._reference.logps(places)
            return _pair(torch.cat((cached.chosen, cached.rejected)).to(self._device)), None
        states, logps = self._online.states(tokens)
        return _pair(logps.summed), states

    def _means(self, constraint: Constraint, places: Sequence[int]) -> Float[Tensor, "b d_sae"]:
        means = self._reference.means(constraint.sae_id, places)
        return means.to(device=self._device, dtype=constraint.encoder.b_enc.dtype)

    def _loss(
        self, reading: Reading, reference: PairLogps, drift: Mapping[str, FeatureDivergence]
    ) -> PreferenceLoss:
        spec, policy = self._spec, _pair(reading.logps.summed)
        match spec.method:
            case Method.DPO:
                return dpo_loss(policy=policy, reference=reference, beta=spec.beta)
            case Method.SIMPO:
                return simpo_loss(
                    policy=policy, lengths=_lengths(reading), beta=spec.beta, gamma=spec.gamma
                )
            case Method.TDPO1:
                return tdpo1_loss(
                    policy=policy, reference=reference, seq_kl=_kl(reading), beta=spec.beta
                )
            case Method.TDPO2:
                return tdpo2_loss(
                    policy=policy,
                    reference=reference,
                    seq_kl=_kl(reading),
                    beta=spec.beta,
                    alpha=spec.alpha,
                )
            case Method.FPO:
                total = total_divergence(self._constraints, drift)
                return fpo_loss(
                    policy=policy,
                    reference=reference,
                    lengths=_lengths(reading),
                    feature_divergence=_values(total),
                    beta=spec.beta,
                    alpha=spec.alpha,
                )
            case _:
                assert_never(spec.method)


class ConversationObjective:
    """Conversations whose assistant turns are imitated; every response token weighs the same."""

    def __init__(
        self, *, sequences: Sequence[TokenSequence], pad_id: int, device: torch.device
    ) -> None:
        self._sequences = sequences
        self._pad_id = pad_id
        self._device = device

    def __len__(self) -> int:
        return len(self._sequences)

    def weight(self, index: int) -> float:
        """Response tokens of a conversation."""
        return float(self._sequences[index].n_response)

    def length(self, index: int) -> int:
        """Tokens of a conversation."""
        return len(self._sequences[index].ids)

    def read(
        self,
        policy: nn.Module,
        indices: Sequence[int],
        *,
        training: bool,  # noqa: ARG002 - the same numbers either way
    ) -> Contribution:
        """Mean negative log-probability of a response token, in nats, of each conversation."""
        sequences = [self._sequences[i] for i in indices]
        tokens = collate(sequences, pad_id=self._pad_id).to(self._device)
        reading = read_batch(policy, tokens)
        return Contribution(
            losses=-reading.logps.summed / reading.logps.lengths.clamp(min=1),
            metrics={},
            shifts={},
            n_tokens=tokens.n_tokens,
        )


def _pair(values: Float[Tensor, " batch"]) -> PairLogps:
    chosen, rejected = values.chunk(2)
    return PairLogps(chosen=chosen, rejected=rejected)


def _values(values: Float[Tensor, " batch"]) -> PairValues:
    chosen, rejected = values.chunk(2)
    return PairValues(chosen=chosen, rejected=rejected)


def _lengths(reading: Reading) -> PairLengths:
    chosen, rejected = reading.logps.lengths.chunk(2)
    return PairLengths(chosen=chosen, rejected=rejected)


def _kl(reading: Reading) -> PairValues:
    if reading.seq_kl is None:
        raise TypeError("TDPO was given no online reference")
    return _values(reading.seq_kl)


def _metrics(
    loss: PreferenceLoss, reading: Reading, drift: Mapping[str, FeatureDivergence]
) -> dict[str, Float[Tensor, " item"]]:
    """TRL's names, and ours for what TRL does not know."""
    margins = loss.chosen_rewards - loss.rejected_rewards
    logps, lengths = _pair(reading.logps.summed.detach()), _lengths(reading)
    better = logps.chosen / lengths.chosen > logps.rejected / lengths.rejected
    metrics = {
        "rewards/chosen": loss.chosen_rewards,
        "rewards/rejected": loss.rejected_rewards,
        "rewards/margins": margins,
        "rewards/accuracies": (margins > 0).to(margins.dtype),
        "logps/chosen": logps.chosen,
        "logps/rejected": logps.rejected,
        "preference_accuracy": better.to(margins.dtype),
    }
    if reading.seq_kl is not None:
        kl = reading.seq_kl.detach()
        metrics["seq_kl/chosen"], metrics["seq_kl/rejected"] = kl.chunk(2)
    for sae_id, found in drift.items():
        chosen, rejected = found.values.detach().chunk(2)
        metrics[f"feature_divergence/{sae_id}/chosen"] = chosen
        metrics[f"feature_divergence/{sae_id}/rejected"] = rejected
    return metrics


def _shifts(
    drift: Mapping[str, FeatureDivergence], means: Mapping[str, Float[Tensor, "batch d_sae"]]
) -> dict[tuple[str, str], Float[Tensor, " d_sae"]]:
    shifts = {}
    for sae_id, found in drift.items():
        chosen, rejected = (found.policy_means - means[sae_id]).chunk(2)
        shifts[sae_id, "chosen"] = chosen.sum(0)
        shifts[sae_id, "rejected"] = rejected.sum(0)
    return shifts
