"""What every setting refuses, and what it takes from a form."""

import pytest
from pydantic import ValidationError

from core.domain.alignment import Lengths
from core.domain.endpoint import EndpointSettings
from core.domain.explain_job import ListedFeatures, RunBudget
from core.domain.spec import Spec


class _Sample(Spec):
    count: int = 1
    share: float | None = None
    both: bool | int = 0
    on: bool = False
    many: tuple[int, ...] = ()


@pytest.mark.parametrize("value", [True, False])
@pytest.mark.parametrize(
    ("field", "kind"), [("count", "int_type"), ("share", "float_type"), ("many", "int_type")]
)
def test_true_is_no_number(field, kind, value):
    given = (3, value) if field == "many" else value
    with pytest.raises(ValidationError) as caught:
        _Sample.model_validate({field: given})
    (found,) = caught.value.errors()
    assert (found["loc"], found["type"]) == ((field,), kind)


def test_where_true_is_meant_it_is_taken():
    sample = _Sample.model_validate({"on": True, "both": True})
    assert sample.on is True
    assert sample.both is True


def test_numbers_of_a_form_are_numbers():
    sample = _Sample.model_validate({"count": "4", "share": "0.5", "on": "true", "many": ["1"]})
    assert sample == _Sample(count=4, share=0.5, on=True, many=(1,))


_ENDPOINT = {"base_url": "http://127.0.0.1:1/v1", "model": "m", "name": "n"}


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        (_Sample, {"counts": 1}),
        (_Sample, {"share": float("nan")}),
        (_Sample, {"share": "inf"}),
        (ListedFeatures, {"indices": [True]}),
        (RunBudget, {"max_requests": True}),
        (EndpointSettings, {**_ENDPOINT, "concurrency": True}),
        (EndpointSettings, {**_ENDPOINT, "price_prompt": False}),
        (Lengths, {"max_prompt_length": True}),
    ],
)
def test_what_is_no_setting_is_refused(kind, fields):
    with pytest.raises(ValidationError) as caught:
        kind.model_validate(fields)
    (found,) = caught.value.errors()
    assert found["loc"][0] == list(fields)[-1]
