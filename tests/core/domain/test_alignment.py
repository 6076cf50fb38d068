"""Settings of alignment runs: the paper's recipe, presets, and what contradicts itself."""

import pytest
from pydantic import ValidationError

from core.domain.align_preset import list_align_presets, load_align_preset
from core.domain.alignment import (
    AlignSpec,
    ConstraintSae,
    HeldFeature,
    Method,
    OptimizerName,
    SftSpec,
    TagSource,
    Treated,
)
from core.domain.sae import SaeKind, SaeSource
from core.errors import Invalid, NotFound

SOURCE = SaeSource(kind=SaeKind.FOLDER, location="here")


@pytest.mark.parametrize("name", list_align_presets())
def test_a_shipped_preset_is_valid_and_survives_json(name):
    spec = load_align_preset(name)
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec


def test_the_paper_s_preset_is_the_paper_s_recipe():
    spec = load_align_preset("fpo-paper-gemma-2-2b")
    assert isinstance(spec, AlignSpec)
    assert (spec.method, spec.beta, spec.alpha) == (Method.FPO, 0.1, 0.5)
    training, optimizer = spec.training, spec.training.optimizer
    assert (training.batch_size, training.epochs) == (32, 1)
    assert (optimizer.learning_rate, optimizer.warmup_steps) == (5e-7, 150)
    assert (optimizer.name, optimizer.schedule.value) == (OptimizerName.ADAM, "constant")
    (sae,) = spec.constraint
    assert (sae.k, sae.index_set.value, sae.others, sae.weight) == (50, "union", 1.0, 1.0)
    assert (sae.source.release_id or "").startswith("layer_25/width_16k/")
    larger = load_align_preset("fpo-paper-gemma-2-9b")
    assert larger.training.optimizer.name is OptimizerName.RMSPROP


def test_the_stage_before_is_there_too():
    assert isinstance(load_align_preset("sft-ultrachat-gemma-2-2b"), SftSpec)


def test_unknown_presets_and_wrong_fields_are_named(tmp_path):
    with pytest.raises(NotFound, match="nowhere"):
        load_align_preset("nowhere")
    (tmp_path / "mine.toml").write_text('kind = "align"\nbeta = -1\n')
    with pytest.raises(Invalid, match=r"mine\.toml, align"):
        load_align_preset(str(tmp_path / "mine.toml"))
    (tmp_path / "mine.toml").write_text("kind = ")
    with pytest.raises(Invalid, match="not TOML"):
        load_align_preset(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize(
    "change",
    [
        {"constraint": ()},
        {"method": "ppo"},
        {"lengths": {"max_length": 100, "max_prompt_length": 100}},
        {"launch": {"processes": 2, "strategy": "fsdp"}, "training": {"lora": {}}},
        {"aligned_id": "Not An Id"},
    ],
)
def test_settings_that_contradict_themselves_are_refused(change):
    settings = load_align_preset("demo").model_dump() | change
    with pytest.raises((ValidationError, Invalid)):
        AlignSpec.model_validate(settings)


def test_only_tdpo_needs_the_reference_model_while_it_trains():
    spec = load_align_preset("demo")
    assert isinstance(spec, AlignSpec)
    online = {m for m in Method if spec.model_copy(update={"method": m}).needs_online_reference}
    assert online == {Method.TDPO1, Method.TDPO2}


def test_settings_without_tags_look_as_they_did_before_there_were_tags():
    entry = ConstraintSae(sae_id="1-a", source=SOURCE, held=(HeldFeature(feature=3),))
    assert "tags" not in entry.model_dump(mode="json")
    assert "tags" not in entry.model_dump_json()


def test_a_tag_names_only_features_that_are_treated_so():
    source = TagSource(tag="tone", treatment=Treated.HELD, features=(3,))
    entry = ConstraintSae(
        sae_id="1-a", source=SOURCE, held=(HeldFeature(feature=3),), tags=(source,)
    )
    assert ConstraintSae.model_validate_json(entry.model_dump_json()) == entry
    with pytest.raises(ValidationError, match="tone is not held"):
        ConstraintSae(sae_id="1-a", source=SOURCE, free=(3,), tags=(source,))
