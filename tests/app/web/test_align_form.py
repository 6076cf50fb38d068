"""The launch form loses nothing: any settings come back from it as they were."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.services.align.launch import check_settings
from app.services.align.offers import OfferedModel, Offers
from app.services.problems import FieldsInvalid
from app.web import align_features, align_form
from core.domain.align_preset import load_align_preset
from core.domain.alignment import (
    AlignSpec,
    ConstraintSae,
    DemoPreferences,
    HeldFeature,
    HubPreferences,
    LoraSpec,
    Method,
    StoredPreferences,
    TagSource,
    TrainingSpec,
    Treated,
)
from core.domain.model import ModelKind, ModelSource
from core.domain.sae import SaeKind, SaeSource

NOTHING = Offers(models=(), saes=())
POSITIVE = st.floats(1e-9, 1e6, allow_nan=False)
HUB_SAE = SaeSource(kind=SaeKind.HUB, location="r", release_id="s")


@st.composite
def constraints(draw):
    held = draw(st.lists(st.tuples(st.integers(0, 500), st.floats(1, 9)), max_size=4))
    held = dict(held)
    free = draw(st.sets(st.integers(501, 999), max_size=4))
    others = draw(st.sampled_from([0.0, 0.25, 1.0])) if held else draw(st.sampled_from([0.5, 1.0]))
    return ConstraintSae(
        sae_id=draw(st.sampled_from(["1-a", "2-b"])),
        source=HUB_SAE,
        k=draw(st.integers(1, 200)),
        weight=draw(POSITIVE),
        others=others,
        held=tuple(HeldFeature(feature=f, weight=w) for f, w in held.items()),
        free=tuple(sorted(free)),
        tags=tuple(
            TagSource(tag=tag, treatment=treated, features=tuple(sorted(named)))
            for tag, treated, named in (("tone", Treated.HELD, held), ("语气", Treated.FREE, free))
            if named and draw(st.booleans())
        ),
    )


@st.composite
def specs(draw):
    training = draw(
        st.builds(
            TrainingSpec,
            batch_size=st.integers(1, 512),
            micro_batch_size=st.integers(1, 16),
            max_steps=st.none() | st.integers(1, 10**6),
            gradient_checkpointing=st.booleans(),
            tensorboard=st.booleans(),
            lora=st.none() | st.builds(LoraSpec, rank=st.integers(1, 64), alpha=POSITIVE),
        )
    )
    optimizer = training.optimizer.model_copy(
        update={
            "learning_rate": draw(POSITIVE),
            "max_grad_norm": draw(st.none() | POSITIVE),
            "warmup_steps": draw(st.integers(0, 999)),
        }
    )
    return AlignSpec(
        model_id="m",
        model=ModelSource(kind=ModelKind.HUB, location="a/m"),
        aligned_id="m2",
        data=draw(
            st.sampled_from(
                [
                    DemoPreferences(),
                    HubPreferences(name="a/b", eval_split="test"),
                    StoredPreferences(content_hash="a" * 64),
                ]
            )
        ),
        method=Method.FPO,
        beta=draw(POSITIVE),
        alpha=draw(st.floats(0, 100)),
        constraint=(draw(constraints()),),
        training=training.model_copy(update={"optimizer": optimizer}),
        measure_drift=draw(st.booleans()),
    )


@settings(max_examples=60, deadline=None)
@given(specs())
def test_any_settings_come_back_unchanged(spec):
    form = align_form.from_spec(spec, NOTHING)
    assert check_settings(form.values(NOTHING)) == spec
    assert form.differences(NOTHING) == ()


def form_of(**texts):
    return align_form.blank("align").with_text(
        {"model.location": "a/m", "model_id": "m", "aligned_id": "m2", **texts}
    )


def test_fields_that_a_method_has_not_are_left_out():
    values = form_of(method="simpo", alpha="nonsense", gamma="0.7").values(NOTHING)
    assert "alpha" not in values
    assert values["gamma"] == "0.7"


def test_lists_of_features_are_read_with_weights_and_ids():
    texts = {
        "constraint.0.sae_id": "1-a",
        "constraint.0.treat": "some",
        "constraint.0.held": "3, 7:2.5; m/1-a/9\n11",
    }
    (row,) = align_features.values(texts, [0], NOTHING)
    assert isinstance(row, dict)
    assert row["held"] == [
        {"feature": 3},
        {"feature": 7, "weight": "2.5"},
        {"feature": 9},
        {"feature": 11},
    ]
    assert align_features.problems(texts, [0]) == ()


@pytest.mark.parametrize("text", ["three", "m/2-b/9", "-1", "7:", "1.5"])
def test_what_names_no_feature_of_this_sae_is_told(text):
    texts = {
        "constraint.0.sae_id": "1-a",
        "constraint.0.treat": "some",
        "constraint.0.held": f"3, {text}",
    }
    (problem,) = align_features.problems(texts, [0])
    assert problem.path == "constraint.0.held"


def test_a_weight_below_one_is_told_at_the_list():
    form = (
        form_of(method="fpo")
        .with_row()
        .with_text(
            {
                "constraint.0.sae_id": "1-a",
                "constraint.0.source.location": "r",
                "constraint.0.source.release_id": "s",
                "constraint.0.treat": "some",
                "constraint.0.held": "3:0.5",
            }
        )
    )
    with pytest.raises(FieldsInvalid) as caught:
        check_settings(form.values(NOTHING))
    assert [problem.path for problem in caught.value.problems] == ["constraint.0.held"]


def test_lists_grow_and_shrink_without_repeating():
    grown = align_features.add_to_list("3:2, 7", [7, 9, 9])
    assert grown == "3:2, 7, 9"
    assert align_features.take_from_list(grown, [3, 9]) == "7"


def test_removing_a_row_moves_the_others_up():
    form = form_of(method="fpo").with_row().with_row().with_row()
    named = form.with_text({f"constraint.{row}.sae_id": f"{row}-x" for row in range(3)})
    left = named.without_row(1)
    assert left.n_saes == 2
    assert [left.text(f"constraint.{row}.sae_id") for row in range(2)] == ["0-x", "2-x"]


def test_a_feature_that_leaves_a_list_leaves_its_tag():
    source = TagSource(tag="tone", treatment=Treated.HELD, features=(3, 7))
    at = "constraint.0"
    typed = {f"{at}.held": "3, 9", f"{at}.from_tags": align_features.written_sources([source])}
    (left,) = align_features.sources(typed, 0)
    assert left.features == (3,)
    assert align_features.sources(typed | {f"{at}.held": "9"}, 0) == ()
    assert align_features.sources(typed | {f"{at}.from_tags": "{broken"}, 0) == ()


def test_a_preset_names_no_result_of_another_model():
    spec = load_align_preset("demo")
    assert isinstance(spec, AlignSpec)
    form = align_form.from_spec(spec, NOTHING, preset="demo")
    source = ModelSource(kind=ModelKind.FOLDER, location="/jobs/7/model")
    tuned = OfferedModel(key="run:7", model_id="smol-sft", source=source)
    assert form.starting_from(tuned).text("aligned_id") == "smol-sft-aligned"
    same = replace(tuned, model_id=spec.model_id)
    assert form.starting_from(same).text("aligned_id") == spec.aligned_id
    mine = form.with_text({"aligned_id": "mine"})
    assert mine.starting_from(tuned).text("aligned_id") == "mine"


def test_the_result_of_a_run_is_offered_by_its_id_too():
    source = ModelSource(kind=ModelKind.FOLDER, location="/jobs/7/model")
    tuned = OfferedModel(key="run:7", model_id="smol-sft", source=source)
    offers = Offers(models=(tuned,), saes=())
    assert offers.model("run:7") is offers.model("model:smol-sft") is tuned
    assert offers.model("smol-sft") is None
