"""Every error has the one shape, and tells nothing of the inside."""

from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.api.errors import STATUS, status_of
from app.main import MAX_BODY_BYTES
from core import errors

SAE = "/api/v1/models/no-model/saes/no-sae"
CASES = [
    ("GET", "/api/v1/nothing", 404),
    ("GET", "/api/nothing", 404),
    ("GET", "/api/v1/models/no-model", 404),
    ("GET", "/api/v1/models/No%20Model", 422),
    ("GET", "/api/v1/models/no-model/vocabulary", 404),
    ("GET", "/api/v1/models/no-model/saes", 404),
    ("GET", SAE, 404),
    ("GET", f"{SAE}/features", 404),
    ("GET", f"{SAE}/features?limit=501", 422),
    ("GET", f"{SAE}/features?sort=colour", 422),
    ("GET", f"{SAE}/features?min_density=nan", 422),
    ("GET", f"{SAE}/features?token=%00", 422),
    ("GET", f"{SAE}/features/random", 404),
    ("GET", f"{SAE}/features/scatter", 404),
    ("GET", f"{SAE}/features/0", 404),
    ("GET", f"{SAE}/features/-1", 422),
    ("GET", f"{SAE}/features/99999999999", 422),
    ("GET", f"{SAE}/features/0/contexts?band=middle", 422),
    ("GET", f"{SAE}/features/0/records", 404),
    ("GET", f"{SAE}/features/0/neighbours", 404),
    ("GET", f"{SAE}/features.xml", 422),
    ("GET", f"{SAE}/features.jsonl", 404),
    ("GET", f"{SAE}/features/0.csv", 404),
    ("GET", f"{SAE}/export/neuronpedia-upload.jsonl", 404),
    ("GET", f"{SAE}/export/saedashboard/batch-0.json", 404),
    ("GET", "/api/feature/no-model/no-sae/0", 404),
    ("GET", "/api/v1/presets/none", 404),
    ("GET", "/api/v1/harvests/1000", 404),
    ("GET", "/api/v1/harvests/0", 422),
    ("DELETE", "/api/v1/harvests/1000", 404),
    ("DELETE", "/api/v1/models", 405),
    ("PUT", "/api/v1/harvests/1", 405),
    ("POST", "/api/v1/harvests", 422),
    ("POST", "/api/v1/harvests/estimate", 422),
    ("GET", "/api/v1/jobs/1000", 404),
    ("GET", "/api/v1/jobs?state=asleep", 422),
    ("POST", "/api/v1/jobs/1000/cancel", 404),
    ("POST", "/api/v1/jobs/1000/resume", 404),
    ("GET", "/api/v1/jobs/1000/events", 404),
    ("GET", "/api/v1/jobs/1000/events/stream", 404),
]


def check_shape(answer):
    """The one shape, with the request's number."""
    assert answer.headers["content-type"] == "application/json"
    (error,) = answer.json().values()
    assert set(error) == {"code", "message", "hint", "fields", "request_id"}
    assert error["code"]
    assert error["message"].endswith((".", "!", "?"))
    assert error["request_id"]
    for field in error["fields"]:
        assert set(field) == {"path", "message", "hint"}
    assert "Traceback" not in answer.text
    assert "sqlalchemy" not in answer.text.lower()
    return error


@pytest.mark.parametrize(("method", "url", "status"), CASES)
def test_an_error_has_the_one_shape(client, method, url, status):
    answer = client.request(method, url)
    assert answer.status_code == status, answer.text
    check_shape(answer)


@pytest.mark.parametrize(
    ("method", "url", "allowed"),
    [
        ("DELETE", "/api/v1/models", "GET"),
        ("GET", "/api/v1/jobs/1/cancel", "POST"),
        ("PATCH", "/api/v1/harvests/1", "DELETE, GET"),
    ],
)
def test_a_wrong_method_names_the_right_ones(client, method, url, allowed):
    answer = client.request(method, url)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
    check_shape(answer)


def test_a_body_that_is_no_json_is_told(client):
    headers = {"content-type": "application/json"}
    answer = client.post("/api/v1/harvests", content=b"{", headers=headers)
    assert answer.status_code == 422
    check_shape(answer)


def pieces():
    """A body that does not tell its length."""
    yield from [b" " * 2**20] * (MAX_BODY_BYTES // 2**20 + 1)


@pytest.mark.parametrize("content", [b" " * (MAX_BODY_BYTES + 1), pieces()], ids=["told", "read"])
def test_a_body_that_is_too_large_is_refused(client, content):
    headers = {"content-type": "application/json"}
    answer = client.post("/api/v1/harvests", content=content, headers=headers)
    assert answer.status_code == 413
    assert check_shape(answer)["code"] == "too_large"


def test_an_unknown_failure_tells_nothing_but_its_number(client, web_app):
    def broken() -> None:
        raise RuntimeError("secret of the inside")

    web_app.add_api_route("/api/v1/broken", broken)
    web_app.router.routes.insert(0, web_app.router.routes.pop())
    answer = client.get("/api/v1/broken", headers={"x-request-id": "trace-9"})
    assert answer.status_code == 500
    assert check_shape(answer)["request_id"] == "trace-9"
    assert "secret" not in answer.text


def test_a_foreign_page_is_refused_in_the_same_shape(client):
    answer = client.post("/api/v1/harvests", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    check_shape(answer)


def kinds(root):
    """A class of the tree and all below it."""
    below = [kind for kind in root.__subclasses__() if kind.__module__ == root.__module__]
    return [root, *(kind for child in below for kind in kinds(child))]


@pytest.mark.parametrize("kind", kinds(errors.SparsightError), ids=lambda kind: kind.__name__)
def test_every_class_of_the_tree_has_a_status(kind):
    assert status_of(kind("It failed.")) in STATUS.values()


words = st.text(max_size=12)
numbers = st.integers(min_value=-(2**70), max_value=2**70).map(str)
floats = st.floats().map(str)
anything = words | numbers | floats | st.sampled_from(["true", "", "density", "top", "\0", "%"])
names = [
    *("sort", "descending", "min_density", "max_density", "min_activation", "max_activation"),
    *("dead", "token", "after", "limit", "harvest", "band", "include_random", "only_nonzero"),
    *("seed", "containing", "token_id", "state", "kind", "before", "model_id"),
]
addresses = [
    *("", "/features", "/features/random", "/features/scatter", "/features.jsonl"),
    *("/features/0", "/features/0/contexts", "/features/0/records", "/features/0/neighbours"),
    *("/features/0.csv", "/export/neuronpedia-features.jsonl"),
]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    address=st.sampled_from(addresses),
    query=st.dictionaries(st.sampled_from(names), anything, max_size=4),
)
def test_no_query_of_a_sae_is_a_crash(client, sample, address, query):
    answer = client.get(sample.url + address, params=query)
    assert answer.status_code in {200, 404, 422}, answer.text
    if answer.status_code != 200:
        check_shape(answer)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    address=st.sampled_from(
        ["/models", "/jobs", "/jobs/1/events", "/harvests", "/presets", "/health"]
    ),
    query=st.dictionaries(st.sampled_from(names), anything, max_size=4),
)
def test_no_query_of_another_address_is_a_crash(client, address, query):
    answer = client.get(f"/api/v1{address}", params=query)
    assert answer.status_code in {200, 404, 422}, answer.text


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(path=st.lists(anything, min_size=1, max_size=6))
def test_no_path_is_a_crash(client, path):
    steps = [quote(step, safe="") for step in path]
    answer = client.get("/api/v1/models/" + "/".join(steps))
    assert answer.status_code in {200, 307, 404, 422}, answer.text
