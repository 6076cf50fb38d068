"""TRL's own DPO, length-normalised DPO and SimPO on the same logits give our losses."""

import warnings
from collections import defaultdict
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.utils import selective_log_softmax

from worker.align.logps import ResponseLogps, next_token_targets, response_logps
from worker.align.losses import (
    PairLengths,
    PairLogps,
    PairValues,
    PreferenceLoss,
    dpo_loss,
    fpo_loss,
    simpo_loss,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # announces that trl.experimental may change
    from trl.experimental.cpo.cpo_trainer import CPOTrainer

N_PAIRS, N_POS, VOCAB, BETA, GAMMA = 3, 7, 11, 0.3, 0.7
IDS = torch.arange(2 * N_PAIRS * N_POS).reshape(2 * N_PAIRS, N_POS) % VOCAB
STARTS_AND_ENDS = [(2, 6), (3, 7), (1, 4), (2, 5), (3, 7), (1, 3)]
MASK = torch.tensor([[a <= t < b for t in range(N_POS)] for a, b in STARTS_AND_ENDS])


def random_logits(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(*IDS.shape, VOCAB, generator=generator, dtype=torch.float64)


class LogitsModel:
    """A model whose fused head scores fixed logits, as TRL's patched models answer."""

    training = True

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    def __call__(self, *, labels: Tensor, **_: object) -> SimpleNamespace:
        shifted = labels[:, 1:].clamp(min=0)
        logps = selective_log_softmax(self.logits[:, :-1], shifted) * (labels[:, 1:] != -100)
        zeros = torch.zeros_like(logps)
        return SimpleNamespace(
            log_probs=logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
        )


def trl_dpo(policy: Tensor, reference: ResponseLogps, loss_type: str) -> tuple[float, float]:
    """Loss and chosen reward that TRL's DPO trainer computes."""

    def same(value: Tensor) -> Tensor:
        return value

    accelerator = SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same)
    metrics: dict[str, defaultdict[str, list[float]]] = {"train": defaultdict(list)}
    trainer: Any = SimpleNamespace(
        model=LogitsModel(policy),
        accelerator=accelerator,
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type="reverse_kl",
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=BETA,
        use_weighting=False,
        _metrics=metrics,
        _total_train_tokens=0,
        _tp_size=1,
    )
    chosen, rejected = reference.summed.chunk(2)
    inputs = {
        "input_ids": IDS,
        "attention_mask": torch.ones_like(IDS),
        "completion_mask": MASK.long(),
        "ref_chosen_logps": chosen,
        "ref_rejected_logps": rejected,
    }
    loss = DPOTrainer._compute_loss(trainer, trainer.model, inputs, return_outputs=False)
    return loss.item(), metrics["train"]["rewards/chosen"][0]


@pytest.fixture
def scored() -> tuple[Tensor, ResponseLogps, ResponseLogps]:
    targets = next_token_targets(IDS, MASK)
    policy, reference = random_logits(1), random_logits(2)
    return (
        policy,
        response_logps(logits=policy, targets=targets),
        response_logps(logits=reference, targets=targets),
    )


def pair(logps: ResponseLogps) -> PairLogps:
    chosen, rejected = logps.summed.chunk(2)
    return PairLogps(chosen=chosen, rejected=rejected)


def lengths(logps: ResponseLogps) -> PairLengths:
    chosen, rejected = logps.lengths.chunk(2)
    return PairLengths(chosen=chosen, rejected=rejected)


def mean(loss: PreferenceLoss) -> float:
    return loss.losses.mean().item()


def test_dpo_is_trl_s_sigmoid_loss(scored):
    logits, policy, reference = scored
    ours = dpo_loss(policy=pair(policy), reference=pair(reference), beta=BETA)
    loss, chosen_reward = trl_dpo(logits, reference, "sigmoid")
    assert mean(ours) == pytest.approx(loss, abs=1e-12)
    assert ours.chosen_rewards.mean().item() == pytest.approx(chosen_reward, abs=1e-12)


def test_fpo_without_its_constraint_is_trl_s_sigmoid_norm_loss(scored):
    logits, policy, reference = scored
    drift = torch.ones(N_PAIRS, dtype=torch.float64)
    ours = fpo_loss(
        policy=pair(policy),
        reference=pair(reference),
        lengths=lengths(policy),
        feature_divergence=PairValues(chosen=drift, rejected=2 * drift),
        beta=BETA,
        alpha=0.0,
    )
    loss, _ = trl_dpo(logits, reference, "sigmoid_norm")
    assert mean(ours) == pytest.approx(loss, abs=1e-12)


def test_simpo_is_trl_s_simpo_loss(scored):
    logits, policy, _ = scored
    labels: Any = IDS.masked_fill(~MASK, -100)
    average: Any = CPOTrainer.get_batch_logps(cast(Any, logits), labels, average_log_prob=True)
    trainer: Any = SimpleNamespace(
        alpha=0.0,
        loss_type="simpo",
        simpo_gamma=GAMMA,
        beta=BETA,
        label_smoothing=0.0,
        accelerator=SimpleNamespace(device="cpu"),
    )
    losses, rewards, _ = CPOTrainer.cpo_loss(trainer, *average.chunk(2))
    ours = simpo_loss(policy=pair(policy), lengths=lengths(policy), beta=BETA, gamma=GAMMA)
    torch.testing.assert_close(ours.losses, losses, rtol=0, atol=1e-12)
    torch.testing.assert_close(ours.chosen_rewards, rewards, rtol=0, atol=1e-12)
