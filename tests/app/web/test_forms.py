"""Addresses and forms mean what was typed, and keep it when it is wrong."""

import pytest
from starlette.datastructures import QueryParams

from app.services.harvest import harvests
from app.services.problems import FieldProblem
from app.web import harvest_form
from app.web.forms import Scale, View, context_options, harvest_choice, list_form
from core.domain.views import FeatureSort


def test_an_empty_address_shows_the_top_contexts():
    options = context_options(QueryParams(""))
    assert (options.band, options.width, options.scale, options.view) == (
        "top",
        "wide",
        Scale.FEATURE,
        View.HEAT,
    )


def test_unknown_words_count_as_not_given():
    assert context_options(QueryParams("band=x&width=y&scale=z&view=w")) == context_options(
        QueryParams("")
    )


def test_densities_are_typed_in_percent():
    form = list_form(QueryParams("dmin=0.1%25&dmax=2,5&sort=max&dir=desc&alive=living"))
    assert form.query.min_density == pytest.approx(0.001)
    assert form.query.max_density == pytest.approx(0.025)
    assert form.query.sort is FeatureSort.MAX_ACTIVATION
    assert form.query.descending
    assert form.query.dead is False
    assert form.active


@pytest.mark.parametrize("text", ["x", "-1", "nan", "inf", "1e999"])
def test_what_is_no_number_is_kept_and_told(text):
    form = list_form(QueryParams({"amin": text}))
    assert form.typed["amin"] == text
    assert [problem.path for problem in form.problems] == ["amin"]
    assert form.query.min_activation is None


@pytest.mark.parametrize(("text", "harvest"), [("7", 7), ("", None), ("x", None), ("²", None)])
def test_a_harvest_is_named_by_its_number(text, harvest):
    assert harvest_choice(QueryParams({"harvest": text})) == harvest


@pytest.mark.parametrize("name", ["demo", "gemma-2-2b"])
def test_a_preset_comes_back_from_its_form_unchanged(name):
    values = harvest_form.from_preset(name).values()
    spec = harvests.get_preset(name).spec
    assert type(spec).model_validate(values) == spec


def test_fields_of_another_kind_of_corpus_are_left_out():
    form = harvest_form.from_post(
        [("corpus.kind", "file"), ("corpus.path", "/x.txt"), ("corpus.slice", "harvest")]
    )
    assert form.values()["corpus"] == {"kind": "file", "path": "/x.txt"}


def test_file_endings_are_typed_in_a_row():
    form = harvest_form.from_post(
        [("corpus.kind", "folder"), ("corpus.path", "/x"), ("corpus.suffixes", ".md, .txt")]
    )
    expected = {"kind": "folder", "path": "/x", "suffixes": [".md", ".txt"]}
    assert form.values()["corpus"] == expected


def test_empty_rows_of_saes_are_left_out():
    form = harvest_form.from_post(
        [
            ("saes.0.sae_id", "1-x"),
            ("saes.0.source.kind", "hub"),
            ("saes.1.sae_id", ""),
            ("saes.1.source.kind", "hub"),
        ]
    )
    assert form.values()["saes"] == [{"sae_id": "1-x", "source": {"kind": "hub"}}]
    assert form.n_saes == 2


def test_problems_of_no_field_are_told_apart():
    form = harvest_form.from_preset("own")
    problem = FieldProblem(path="somewhere.else", message="Too large.")
    other = FieldProblem(path="model_id", message="Needed.")
    broken = form.with_problems((problem, other))
    assert broken.loose_problems == (problem,)
    assert broken.wrong("model_id")
