"""Activation values refuse what cannot be, and know their own peak and width."""

import numpy as np
import pytest

from core.domain.activation import (
    ActivationRecord,
    Band,
    ContextActivations,
    FeatureStats,
    Histogram,
)
from core.errors import Invalid


def test_a_record_has_one_finite_activation_a_token():
    ActivationRecord(tokens=("a", "b"), activations=(0.0, 1.5))
    with pytest.raises(Invalid, match="2 tokens but 1 activations"):
        ActivationRecord(tokens=("a", "b"), activations=(0.0,))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(Invalid, match="not finite"):
            ActivationRecord(tokens=("a",), activations=(bad,))


@pytest.mark.parametrize(("exponent", "width"), [(0, 1 / 64), (6, 1.0), (-3, 1 / 512)])
def test_a_bin_is_a_64th_of_the_range(exponent, width):
    histogram = Histogram(exponent=exponent, counts=np.zeros(64, np.uint32))
    assert histogram.bin_width == width


def test_the_peak_is_the_first_of_equals():
    context = ContextActivations(
        context_index=0,
        band=Band.TOP,
        token_ids=np.arange(4, dtype=np.int32),
        activations=np.array([0, 2, 1, 2], np.float32),
        source="prose",
        document=0,
        start=0,
    )
    assert context.peak == 1


@pytest.mark.parametrize(("n_active", "dead"), [(0, True), (1, False)])
def test_a_feature_that_never_fired_is_dead(n_active, dead):
    stats = FeatureStats(
        index=0,
        density=n_active / 100,
        n_active=n_active,
        n_contexts=n_active,
        max_activation=float(n_active),
        mean_activation=float(n_active),
    )
    assert stats.dead is dead
