"""Preference losses: pure functions of log-probabilities, divergences and hyper-parameters.

Notation: w chosen, l rejected, |y| response tokens, sg stop-gradient, S sequence KL, D feature
divergence. Every loss is −log σ(u) a pair; u is written in each docstring. Rewards are the
detached quantities whose difference the loss ranks by, without the constraint term.
"""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLogps:
    """Response log-probabilities of both answers, summed over response tokens, in nats."""

    chosen: Float[Tensor, " pair"]
    rejected: Float[Tensor, " pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairValues:
    """One non-negative number for each answer of a pair: a sequence KL or feature divergence."""

    chosen: Float[Tensor, " pair"]
    rejected: Float[Tensor, " pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairLengths:
    """Response tokens of both answers; the end-of-turn token counts if it is a label.

    An empty answer has a log-probability of 0, and so is its mean.
    """

    chosen: Int[Tensor, " pair"]
    rejected: Int[Tensor, " pair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceLoss:
    """Unreduced losses with the detached implicit rewards of both answers."""

    losses: Float[Tensor, " pair"]
    chosen_rewards: Float[Tensor, " pair"]
    rejected_rewards: Float[Tensor, " pair"]


def dpo_loss(*, policy: PairLogps, reference: PairLogps, beta: float) -> PreferenceLoss:
    """DPO: the difference of the two answers' log-probability ratios to the reference.

    u = β[(log πθ(w) − log πref(w)) − (log πθ(l) − log πref(l))]        (arXiv 2305.18290, eq. 7)

    Args:
        policy: summed response log-probabilities, nats.
        reference: the same under the frozen reference.
        beta: strength of the implicit KL constraint, > 0.
    """
    chosen, rejected = _log_ratios(policy, reference, beta)
    return _preference_loss(chosen=chosen, rejected=rejected, shift=None)


def simpo_loss(
    *, policy: PairLogps, lengths: PairLengths, beta: float, gamma: float
) -> PreferenceLoss:
    """SimPO: length-normalised log-probabilities with a target margin, no reference.

    u = β/|w|·log πθ(w) − β/|l|·log πθ(l) − γ                           (arXiv 2405.14734, eq. 6)

    Args:
        policy: summed response log-probabilities, nats.
        lengths: response tokens.
        beta: scale of the reward, > 0.
        gamma: target margin, in units of u (not multiplied by beta).
    """
    chosen = beta * policy.chosen / lengths.chosen.clamp(min=1)
    rejected = beta * policy.rejected / lengths.rejected.clamp(min=1)
    return _preference_loss(chosen=chosen, rejected=rejected, shift=gamma)


def tdpo1_loss(
    *, policy: PairLogps, reference: PairLogps, seq_kl: PairValues, beta: float
) -> PreferenceLoss:
    """TDPO1: DPO with the difference of the sequence KLs, gradients through both.

    u = β[(log πθ(w) − log πref(w)) − (log πθ(l) − log πref(l))] − β(S_l − S_w)

    Args:
        policy: summed response log-probabilities, nats.
        reference: the same under the frozen reference.
        seq_kl: S, the sum over response tokens of KL(reference ‖ policy), nats.
        beta: strength of the constraint, > 0.
    """
    chosen, rejected = _log_ratios(policy, reference, beta)
    constraint = beta * (seq_kl.rejected - seq_kl.chosen)
    return _preference_loss(chosen=chosen, rejected=rejected, shift=constraint)


def tdpo2_loss(
    *, policy: PairLogps, reference: PairLogps, seq_kl: PairValues, beta: float, alpha: float
) -> PreferenceLoss:
    """TDPO2: DPO with the sequence KL of the rejected answer, the chosen one held constant.

    u = β[(log πθ(w) − log πref(w)) − (log πθ(l) − log πref(l))] − α(β·S_l − sg(β·S_w))

    The stop-gradient matters: without it the loss would reward drift on the chosen answer.

    Args:
        policy: summed response log-probabilities, nats.
        reference: the same under the frozen reference.
        seq_kl: S, the sum over response tokens of KL(reference ‖ policy), nats.
        beta: strength of the implicit KL constraint, > 0.
        alpha: weight of the KL difference.
    """
    chosen, rejected = _log_ratios(policy, reference, beta)
    constraint = alpha * beta * (seq_kl.rejected - seq_kl.chosen.detach())
    return _preference_loss(chosen=chosen, rejected=rejected, shift=constraint)


def fpo_loss(
    *,
    policy: PairLogps,
    reference: PairLogps,
    lengths: PairLengths,
    feature_divergence: PairValues,
    beta: float,
    alpha: float,
) -> PreferenceLoss:
    """FPO: length-normalised DPO, constrained by the drift of SAE features.

    u = β/|w|·log πθ(w) − β/|l|·log πθ(l) − γ_ref − α(β·D_l − sg(β·D_w)),
    γ_ref = β/|w|·log πref(w) − β/|l|·log πref(l)              (arXiv 2411.07618, eq. 8, 9 and 11)

    Args:
        policy: summed response log-probabilities, nats.
        reference: the same under the frozen reference.
        lengths: response tokens.
        feature_divergence: D, mean-pooled and summed over the constraint's SAEs.
        beta: scale of the reward, > 0.
        alpha: weight of the feature term; its effective weight is alpha · beta.
    """
    chosen, rejected = _log_ratios(policy, reference, beta)
    chosen = chosen / lengths.chosen.clamp(min=1)
    rejected = rejected / lengths.rejected.clamp(min=1)
    drift = feature_divergence.rejected - feature_divergence.chosen.detach()
    return _preference_loss(chosen=chosen, rejected=rejected, shift=alpha * beta * drift)


def _log_ratios(
    policy: PairLogps, reference: PairLogps, beta: float
) -> tuple[Float[Tensor, " pair"], Float[Tensor, " pair"]]:
    """β(log πθ − log πref) of both answers; the frozen reference gets no gradient."""
    chosen = beta * (policy.chosen - reference.chosen.detach())
    rejected = beta * (policy.rejected - reference.rejected.detach())
    return chosen, rejected


def _preference_loss(
    *,
    chosen: Float[Tensor, " pair"],
    rejected: Float[Tensor, " pair"],
    shift: Float[Tensor, " pair"] | float | None,
) -> PreferenceLoss:
    """−log σ(chosen − rejected − shift), computed without forming the sigmoid."""
    margin = chosen - rejected
    u = margin if shift is None else margin - shift
    return PreferenceLoss(
        losses=-logsigmoid(u), chosen_rewards=chosen.detach(), rejected_rewards=rejected.detach()
    )
