"""The preference losses against numbers made by an independent float64 program.

``losses.json`` holds inputs, every intermediate, losses and gradients of hand-sized pairs.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from core.domain.alignment import IndexSet
from worker.align.divergence import (
    FeatureDivergence,
    KlForm,
    feature_divergence,
    seq_kl,
)
from worker.align.logps import Targets, next_token_targets, response_logps
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
from worker.align.pooling import FeatureEncoder, pool_features, top_k_mask

ORACLES = json.loads((Path(__file__).parent / "losses.json").read_text(encoding="utf-8"))
CASES = {case["name"]: case for case in ORACLES["cases"]}
METHODS = ("dpo", "simpo", "tdpo1", "tdpo2", "fpo", "fpo_policy_topk_only")


def assert_equal(got: Tensor, expected: Tensor, *, msg: str | None = None) -> None:
    torch.testing.assert_close(got, expected, rtol=0.0, atol=1e-12, msg=msg)


def tensor(values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


@dataclass
class Quantities:
    """Everything a loss reads, of one oracle case."""

    policy: PairLogps
    reference: PairLogps
    lengths: PairLengths
    seq_kl: PairValues
    drift: dict[IndexSet, tuple[FeatureDivergence, FeatureDivergence]]

    def divergence(self, index_set: IndexSet) -> PairValues:
        chosen, rejected = self.drift[index_set]
        return PairValues(chosen=chosen.values, rejected=rejected.values)


def leaves(case) -> dict[str, Tensor]:
    names = ("pol_w", "pol_l", "hpol_w", "hpol_l")
    return {name: tensor(case["inputs"][name])[None].requires_grad_() for name in names}


def encoder_of(inputs) -> FeatureEncoder:
    threshold = inputs.get("threshold")
    return FeatureEncoder(
        W_enc=tensor(inputs["W_enc"]),
        b_enc=tensor(inputs["b_enc"]),
        threshold=None if threshold is None else tensor(threshold),
    )


def rows_mask(states: Tensor) -> Tensor:
    return torch.ones(states.shape[:2], dtype=torch.bool)


def logps_of(logits: Tensor, ids: list[int]) -> Tensor:
    targets = Targets(ids=torch.tensor([ids]), mask=rows_mask(logits))
    return response_logps(logits=logits, targets=targets, chunk_rows=2).summed


def drift_of(case, leaf: Tensor, side: str, index_set: IndexSet) -> FeatureDivergence:
    encoder = encoder_of(case["inputs"])
    reference = tensor(case["inputs"][f"href_{side}"])[None]
    means = pool_features(hidden=reference, mask=rows_mask(reference), encoder=encoder).means
    return feature_divergence(
        hidden=leaf,
        mask=rows_mask(leaf),
        reference_means=means,
        encoder=encoder,
        k=case["hyper"]["k"],
        index_set=index_set,
    )


def quantities(case, leaf: dict[str, Tensor], form: KlForm = KlForm.RECOMPUTE) -> Quantities:
    inputs = case["inputs"]
    references = {side: tensor(inputs[f"ref_{side}"])[None] for side in "wl"}
    kl = {
        side: seq_kl(
            policy_logits=leaf[f"pol_{side}"],
            reference_logits=references[side],
            mask=rows_mask(references[side]),
            form=form,
            chunk_rows=2,
        )
        for side in "wl"
    }
    return Quantities(
        policy=PairLogps(
            chosen=logps_of(leaf["pol_w"], inputs["y_w"]),
            rejected=logps_of(leaf["pol_l"], inputs["y_l"]),
        ),
        reference=PairLogps(
            chosen=logps_of(references["w"], inputs["y_w"]),
            rejected=logps_of(references["l"], inputs["y_l"]),
        ),
        lengths=PairLengths(
            chosen=torch.tensor([len(inputs["y_w"])]), rejected=torch.tensor([len(inputs["y_l"])])
        ),
        seq_kl=PairValues(chosen=kl["w"], rejected=kl["l"]),
        drift={
            index_set: (
                drift_of(case, leaf["hpol_w"], "w", index_set),
                drift_of(case, leaf["hpol_l"], "l", index_set),
            )
            for index_set in IndexSet
        },
    )


def loss_of(method: str, hyper, q: Quantities) -> PreferenceLoss:
    pair = {"policy": q.policy, "reference": q.reference}
    match method:
        case "dpo":
            return dpo_loss(**pair, beta=hyper["beta"])
        case "simpo":
            return simpo_loss(
                policy=q.policy,
                lengths=q.lengths,
                beta=hyper["beta_simpo"],
                gamma=hyper["gamma_simpo"],
            )
        case "tdpo1":
            return tdpo1_loss(**pair, seq_kl=q.seq_kl, beta=hyper["beta"])
        case "tdpo2":
            return tdpo2_loss(
                **pair, seq_kl=q.seq_kl, beta=hyper["beta"], alpha=hyper["alpha_tdpo2"]
            )
        case "fpo" | "fpo_policy_topk_only":
            index_set = IndexSet.UNION if method == "fpo" else IndexSet.POLICY
            return fpo_loss(
                **pair,
                lengths=q.lengths,
                feature_divergence=q.divergence(index_set),
                beta=hyper["beta_fpo"],
                alpha=hyper["alpha_fpo"],
            )
    raise AssertionError(method)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CASES)
def test_a_loss_has_the_oracle_value(name, method):
    case = CASES[name]
    loss = loss_of(method, case["hyper"], quantities(case, leaves(case)))
    assert_equal(loss.losses, tensor([case["expected"]["loss"][method]]))


@pytest.mark.parametrize("form", KlForm)
@pytest.mark.parametrize("method", ["dpo", "simpo", "tdpo1", "tdpo2", "fpo"])
@pytest.mark.parametrize("name", CASES)
def test_a_loss_has_the_oracle_gradient(name, method, form):
    case = CASES[name]
    leaf = leaves(case)
    loss_of(method, case["hyper"], quantities(case, leaf, form)).losses.sum().backward()
    for key, expected in case["expected_grads"][method].items():
        gradient = leaf[key].grad
        got = torch.zeros_like(leaf[key]) if gradient is None else gradient
        assert_equal(got, tensor(expected)[None])


@pytest.mark.parametrize("name", CASES)
def test_the_stop_gradient_keeps_the_chosen_features_free(name):
    case = CASES[name]
    leaf = leaves(case)
    q = quantities(case, leaf)
    loss_of("fpo", case["hyper"], q).losses.sum().backward()
    assert leaf["hpol_w"].grad is None
    chosen, rejected = q.drift[IndexSet.UNION]
    beta, alpha = case["hyper"]["beta_fpo"], case["hyper"]["alpha_fpo"]
    margin = beta * (q.policy.chosen - q.reference.chosen) / q.lengths.chosen
    margin = margin - beta * (q.policy.rejected - q.reference.rejected) / q.lengths.rejected
    u = margin.detach() - alpha * beta * (rejected.values.detach() - chosen.values)
    (gradient,) = torch.autograd.grad((-logsigmoid(u)).sum(), leaf["hpol_w"])
    expected = tensor(case["expected_grads"]["fpo_no_stopgrad"]["hpol_w"])[None]
    assert_equal(gradient, expected)


@pytest.mark.parametrize("name", CASES)
def test_every_intermediate_is_the_oracle_one(name):
    case = CASES[name]
    expected = case["expected"]
    q = quantities(case, leaves(case))
    numbers = {
        "logp_w": q.policy.chosen,
        "logp_l": q.policy.rejected,
        "ref_logp_w": q.reference.chosen,
        "ref_logp_l": q.reference.rejected,
        "seqkl_w": q.seq_kl.chosen,
        "seqkl_l": q.seq_kl.rejected,
        "D_w": q.divergence(IndexSet.UNION).chosen,
        "D_l": q.divergence(IndexSet.UNION).rejected,
        "D_w_policy_topk_only": q.divergence(IndexSet.POLICY).chosen,
        "D_l_policy_topk_only": q.divergence(IndexSet.POLICY).rejected,
    }
    for key, value in numbers.items():
        assert_equal(value, tensor([expected[key]]), msg=key)
    for drift, side in zip(q.drift[IndexSet.UNION], "wl", strict=True):
        assert_equal(drift.policy_means[0], tensor(expected[f"cbar_{side}"]))
        assert drift.selected[0].nonzero()[:, 0].tolist() == sorted(expected[f"I_{side}"])
    dpo = loss_of("dpo", case["hyper"], q)
    assert dpo.chosen_rewards.item() == pytest.approx(expected["rewards_chosen_dpo"], abs=1e-12)
    assert dpo.rejected_rewards.item() == pytest.approx(expected["rewards_rejected_dpo"], abs=1e-12)


def test_prompt_and_padding_never_matter():
    block, case = ORACLES["alignment_mask"], CASES["basic_relu"]
    logits, targets = {}, {}
    for side in "wl":
        labels = torch.tensor([block[f"labels_{side}"]])
        targets[side] = next_token_targets(labels, labels != -100)
        for who in ("pol", "ref"):
            logits[who, side] = tensor(block["logits"][f"{who}_{side}"])[None]
    q = quantities(case, leaves(case))

    def logps(who: str) -> PairLogps:
        chosen, rejected = (
            response_logps(logits=logits[who, side], targets=targets[side]).summed for side in "wl"
        )
        return PairLogps(chosen=chosen, rejected=rejected)

    kl_chosen, kl_rejected = (
        seq_kl(
            policy_logits=logits["pol", side],
            reference_logits=logits["ref", side],
            mask=targets[side].mask,
        )
        for side in "wl"
    )
    q.policy, q.reference = logps("pol"), logps("ref")
    q.seq_kl = PairValues(chosen=kl_chosen, rejected=kl_rejected)
    for method, expected in block["expected_loss"].items():
        loss = loss_of(method, case["hyper"], q)
        assert_equal(loss.losses, tensor([expected]), msg=method)


def test_the_identities_between_the_losses_hold():
    block, case = ORACLES["identities"], CASES["basic_relu"]
    q = quantities(case, leaves(case))
    hyper = case["hyper"]

    def value(method: str, **changes: float) -> float:
        return loss_of(method, {**hyper, **changes}, q).losses.item()

    assert value("fpo", alpha_fpo=0.0) == pytest.approx(block["fpo_alpha0"], abs=1e-12)
    assert value("fpo", alpha_fpo=0.0) == pytest.approx(block["trl_sigmoid_norm"], abs=1e-12)
    assert value("tdpo2", alpha_tdpo2=0.0) == pytest.approx(block["dpo"], abs=1e-12)
    assert value("tdpo2", alpha_tdpo2=1.0) == pytest.approx(block["tdpo1"], abs=1e-12)


def test_a_policy_equal_to_its_reference_loses_exactly_log_2():
    case = CASES["policy_equals_reference"]
    q = quantities(case, leaves(case))
    for method in ("dpo", "tdpo1", "tdpo2", "fpo"):
        assert loss_of(method, case["hyper"], q).losses.item() == math.log(2)


@pytest.mark.parametrize(("u", "expected"), ORACLES["logsigmoid"].items())
def test_the_loss_is_a_stable_log_sigmoid(u, expected):
    zero = tensor([0.0])
    policy = PairLogps(chosen=tensor([float(u)]), rejected=zero)
    loss = dpo_loss(policy=policy, reference=PairLogps(chosen=zero, rejected=zero), beta=1.0)
    assert -loss.losses.item() == pytest.approx(expected, rel=1e-14, abs=1e-300)


@pytest.mark.parametrize("form", KlForm)
def test_the_kl_and_its_gradient_are_the_closed_forms(form):
    block = ORACLES["kl_gradient_hessian"]
    reference = tensor(block["z_ref"])[None, None]
    policy = (reference + tensor(block["dz"])).requires_grad_()
    kl = seq_kl(
        policy_logits=policy, reference_logits=reference, mask=rows_mask(reference), form=form
    )
    kl.sum().backward()
    assert_equal(kl, tensor([block["kl"]]))
    assert policy.grad is not None
    assert_equal(policy.grad[0, 0], tensor(block["grad"]))


@pytest.mark.parametrize("form", [KlForm.NAIVE, KlForm.RECOMPUTE])
def test_the_hessian_of_the_kl_is_the_covariance_of_the_policy(form):
    block = ORACLES["kl_gradient_hessian"]
    reference = tensor(block["z_ref"])[None, None]

    def kl(dz: Tensor) -> Tensor:
        return seq_kl(
            policy_logits=reference + dz,
            reference_logits=reference,
            mask=rows_mask(reference),
            form=form,
        ).sum()

    at_dz = torch.autograd.functional.hessian(kl, tensor(block["dz"]))
    assert_equal(at_dz, tensor(block["hessian_at_dz"]))
    at_0 = torch.autograd.functional.hessian(kl, torch.zeros(5, dtype=torch.float64))
    assert_equal(at_0, tensor(block["hessian_at_0"]))


def test_equal_activations_rank_by_index():
    values = tensor([[0.0, 2.0, 1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0, 3.0]])
    expected = [[False, True, True, True, False, False], [True, True, False, False, False, True]]
    assert top_k_mask(values, 3).tolist() == expected


def test_an_empty_answer_has_a_mean_log_probability_of_0():
    lengths = PairLengths(chosen=torch.tensor([3, 0]), rejected=torch.tensor([0, 2]))
    policy = PairLogps(chosen=tensor([-6.0, 0.0]), rejected=tensor([0.0, -4.0]))
    simpo = simpo_loss(policy=policy, lengths=lengths, beta=1.0, gamma=0.0)
    assert_equal(simpo.losses, -logsigmoid(tensor([-2.0, 2.0])))
    nothing = tensor([0.0, 0.0])
    fpo = fpo_loss(
        policy=policy,
        reference=PairLogps(chosen=nothing, rejected=nothing),
        lengths=lengths,
        feature_divergence=PairValues(chosen=nothing, rejected=nothing),
        beta=1.0,
        alpha=0.5,
    )
    assert_equal(fpo.losses, simpo.losses)


def test_the_reference_gets_no_gradient_from_any_loss():
    policy = PairLogps(chosen=tensor([-6.0]).requires_grad_(), rejected=tensor([-5.0]))
    frozen = [tensor([-3.0]).requires_grad_(), tensor([-4.0]).requires_grad_()]
    q = Quantities(
        policy=policy,
        reference=PairLogps(chosen=frozen[0], rejected=frozen[1]),
        lengths=PairLengths(chosen=torch.tensor([3]), rejected=torch.tensor([2])),
        seq_kl=PairValues(chosen=tensor([0.3]), rejected=tensor([0.1])),
        drift={},
    )
    for method in ("dpo", "tdpo1", "tdpo2"):
        loss_of(method, {"beta": 0.1, "alpha_tdpo2": 0.5}, q).losses.sum().backward()
    assert [leaf.grad for leaf in frozen] == [None, None]
    assert policy.chosen.grad is not None
