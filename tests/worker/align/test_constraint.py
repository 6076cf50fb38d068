"""Constraint sets: the paper's loss by default, held and free features, several SAEs."""

import pytest
import torch
from pydantic import ValidationError

from core.domain.alignment import ConstraintSae, HeldFeature
from core.domain.sae import SaeInfo
from core.errors import Invalid
from tests.support.tiny_runs import sae_entry, tiny_constraints, tiny_encoder
from worker.align.constraint import encoder_of, make_constraint, total_divergence
from worker.align.divergence import feature_divergence
from worker.align.pooling import pool_features
from worker.sae.activations import Gated, JumpRelu, Relu, TopK
from worker.sae.model import SparseAutoencoder

F64 = torch.float64


def states(seed: int) -> torch.Tensor:
    return torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(seed), dtype=F64)


MASK = torch.ones(2, 5, dtype=torch.bool)


def made(**changes):
    return tiny_constraints([sae_entry(**changes)])[0]


def divergence(constraint, seed: int = 1):
    reference = pool_features(hidden=states(0), mask=MASK, encoder=constraint.encoder).means
    return constraint.divergence(hidden=states(seed), mask=MASK, reference_means=reference)


def test_the_default_is_the_paper_s_loss_exactly():
    constraint = made()
    assert constraint.weights is None
    assert constraint.held is None
    reference = pool_features(hidden=states(0), mask=MASK, encoder=tiny_encoder(5)).means
    paper = feature_divergence(
        hidden=states(1), mask=MASK, reference_means=reference, encoder=tiny_encoder(5), k=6
    )
    found = divergence(constraint)
    assert torch.equal(found.values, paper.values)
    assert torch.equal(total_divergence([constraint], {"0-tiny": found}), paper.values)


def test_a_held_feature_of_weight_1_that_ranks_anyway_changes_nothing():
    ranked = int(divergence(made()).selected[0].nonzero()[0])
    in_both = divergence(made()).selected.all(dim=0).nonzero()[:, 0].tolist()
    feature = in_both[0] if in_both else ranked
    held = made(held=(HeldFeature(feature=feature),))
    assert held.weights is None
    if in_both:
        assert torch.equal(divergence(held).values, divergence(made()).values)


def test_free_features_cost_nothing_and_held_ones_always_count():
    plain = divergence(made())
    chosen = plain.selected[0].nonzero()[:, 0].tolist()
    freed = divergence(made(free=tuple(chosen)))
    assert freed.values[0] == 0
    outsider = int((~plain.selected[0]).nonzero()[-1])
    held = divergence(made(held=(HeldFeature(feature=outsider, weight=3.0),)))
    assert held.selected[:, outsider].all()


def test_only_held_features_count_where_the_others_weigh_nothing():
    constraint = made(others=0.0, held=(HeldFeature(feature=3, weight=2.0),))
    found = divergence(constraint)
    reference = pool_features(hidden=states(0), mask=MASK, encoder=constraint.encoder).means
    policy = pool_features(hidden=states(1), mask=MASK, encoder=constraint.encoder).means
    expected = 2.0 * (policy[:, 3] - reference[:, 3]) ** 2 / 6
    torch.testing.assert_close(found.values, expected, rtol=1e-12, atol=0)


def test_several_saes_add_by_their_factors():
    two = tiny_constraints([sae_entry("0-a"), sae_entry("1-b", weight=0.25)])
    found = {c.sae_id: divergence(c) for c in two}
    expected = found["0-a"].values + 0.25 * found["1-b"].values
    torch.testing.assert_close(total_divergence(two, found), expected, rtol=1e-15, atol=0)


@pytest.mark.parametrize("changes", [{"free": (40,)}, {"k": 41}, {"held": ({"feature": 99},)}])
def test_a_feature_or_k_beyond_the_sae_is_refused(changes):
    with pytest.raises(Invalid, match=r"40 features|features 0 to 39"):
        made(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"free": (1,), "held": ({"feature": 1},)},
        {"held": ({"feature": 1}, {"feature": 1})},
        {"others": 0.0},
        {"held": ({"feature": 1, "weight": 0.5},)},
        {"sae_id": "Not An Id"},
    ],
)
def test_settings_that_contradict_themselves_are_refused(changes):
    with pytest.raises((ValidationError, Invalid)):
        ConstraintSae.model_validate(
            {"sae_id": "0-a", "source": {"kind": "folder", "location": "x"}, **changes}
        )


def sae(activation, *, normalize: str = "none", apply_b_dec: bool = True) -> SparseAutoencoder:
    g = torch.Generator().manual_seed(3)
    return SparseAutoencoder(
        info=SaeInfo(
            hook_name="blocks.0.hook_resid_post",
            layer=0,
            d_in=16,
            d_sae=24,
            architecture="x",
            normalize_activations=normalize,
            revision="r",
        ),
        W_enc=torch.randn(16, 24, generator=g),
        W_dec=torch.randn(24, 16, generator=g),
        b_enc=torch.randn(24, generator=g) * 0.3,
        b_dec=torch.randn(16, generator=g) * 0.3,
        activation=activation,
        apply_b_dec_to_input=apply_b_dec,
    )


@pytest.mark.parametrize("apply_b_dec", [True, False])
@pytest.mark.parametrize(
    "activation", [Relu(), JumpRelu(torch.linspace(-0.5, 2.0, 24)), TopK(4)], ids=str
)
def test_the_folded_encoder_pools_what_the_sae_encodes(activation, apply_b_dec):
    autoencoder = sae(activation, apply_b_dec=apply_b_dec)
    hidden = states(4).float()
    pooled = pool_features(hidden=hidden, mask=MASK, encoder=encoder_of(autoencoder)).means
    expected = autoencoder.encode(hidden.flatten(0, 1)).reshape(2, 5, 24).mean(1)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)


def test_saes_that_cannot_be_held_are_refused_before_training():
    with pytest.raises(Invalid, match="scales each token"):
        encoder_of(sae(Relu(), normalize="layer_norm"))
    with pytest.raises(Invalid, match="cannot hold"):
        encoder_of(sae(Gated(torch.ones(24), torch.zeros(24))))
    with pytest.raises(Invalid):
        make_constraint(
            sae_entry(k=500), encoder=tiny_encoder(), hook_name="blocks.0.hook_embed", revision=""
        )
