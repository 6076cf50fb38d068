"""Foreign hosts and foreign pages are refused; programs and this site's pages are not."""

import re

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app.api.guard import RequestGuard, allowed_hosts


@pytest.fixture
def client():
    """A guarded app with one address to read and one to change."""
    app = FastAPI()
    app.add_api_route("/read", lambda: "read", methods=["GET"])
    app.add_api_route("/change", lambda: "changed", methods=["POST", "DELETE"])
    allowed = allowed_hosts("127.0.0.1", ["lab.example"])
    app.add_api_route("/upload", lambda: "taken", methods=["POST"])
    uploads = {"/upload": 1_000}
    app.add_middleware(RequestGuard, allowed=allowed, max_body_bytes=100, uploads=uploads)
    return TestClient(app, base_url="http://127.0.0.1:8750")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8750", "127.0.0.1:1", "[::1]:8750", "[::1]", "lab.example"]
)
def test_names_of_this_machine_are_answered(client, host):
    assert client.get("/read", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost:8750.x"])
def test_other_names_are_refused(client, host):
    answer = client.get("/read", headers={"host": host})
    assert answer.status_code == 421
    assert answer.json()["error"]["code"] == "host_unknown"


def test_a_server_on_all_addresses_answers_to_any_name():
    assert allowed_hosts("0.0.0.0") is None  # noqa: S104
    found = allowed_hosts("0.0.0.0", ["lab.example"])  # noqa: S104
    assert sorted(found or ()) == ["127.0.0.1", "[::1]", "lab.example", "localhost"]


@pytest.mark.parametrize("method", ["POST", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": "http://127.0.0.1:8750"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
    ],
)
def test_pages_of_other_sites_change_nothing(client, method, headers):
    answer = client.request(method, "/change", headers=headers)
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "cross_site"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "none"},
        {"origin": "http://127.0.0.1:8750"},
    ],
)
def test_this_sites_pages_and_programs_may_change_things(client, headers):
    assert client.post("/change", headers=headers).json() == "changed"


def test_pages_of_other_sites_may_link_here(client):
    assert client.get("/read", headers={"sec-fetch-site": "cross-site"}).status_code == 200


def test_each_request_has_a_number(client):
    first, second = client.get("/read"), client.get("/read")
    assert re.fullmatch("[0-9a-f]{16}", first.headers["x-request-id"])
    assert first.headers["x-request-id"] != second.headers["x-request-id"]


def test_a_callers_number_is_kept_if_it_is_harmless(client):
    given = client.get("/read", headers={"x-request-id": "trace-1.a"})
    forged = client.get("/read", headers={"x-request-id": "a b<script>"})
    assert given.headers["x-request-id"] == "trace-1.a"
    assert re.fullmatch("[0-9a-f]{16}", forged.headers["x-request-id"])


def test_a_body_that_says_it_is_too_large_is_not_read(client):
    answer = client.post("/change", content=b"x" * 101)
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "too_large"
    assert client.post("/change", content=b"x" * 100).status_code == 200


def test_an_address_that_takes_files_takes_more(client):
    assert client.post("/upload", content=b"x" * 900).status_code == 200
    assert client.post("/upload", content=b"x" * 1_001).status_code == 413
    assert client.post("/change", content=b"x" * 900).status_code == 413
