"""The page of the REST API: every operation of the document, with a call for a shell."""

import re
import shlex
from urllib.parse import urlsplit

import pytest

from app.api.document import openapi_document
from app.web.api_reference import subjects

DOCUMENT = openapi_document()
SUBJECTS = subjects(DOCUMENT, base_url="http://h:1/")
OPERATIONS = [operation for subject in SUBJECTS for operation in subject.operations]


def test_every_operation_is_there_once_under_its_subject():
    found = {(o.method.lower(), o.path) for o in OPERATIONS}
    assert len(found) == len(OPERATIONS)
    assert found == {(m, path) for path, methods in DOCUMENT["paths"].items() for m in methods}
    assert [subject.name for subject in SUBJECTS] == [tag["name"] for tag in DOCUMENT["tags"]]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.anchor)
def test_a_call_is_whole(operation):
    words = shlex.split(operation.command)
    (url,) = (word for word in words if word.startswith("http"))
    assert words[0] == "curl"
    assert operation.method == (words[words.index("-X") + 1] if "-X" in words else "GET")
    parts = urlsplit(url)
    pattern = re.sub(r"\\{\w+\\}", "[^/{}]+", re.escape(operation.path))
    assert re.fullmatch(pattern, parts.path), url
    for parameter in operation.parameters:
        if parameter.place == "query" and parameter.needed:
            assert f"{parameter.name}=" in parts.query


def test_a_file_is_sent_as_it_is():
    (upload,) = (o for o in OPERATIONS if o.anchor == "upload_preference_set")
    words = shlex.split(upload.command)
    assert words[-2:] == ["--data-binary", "@FILE"]
    assert "http://h:1/api/v1/preference-sets?filename=pairs.jsonl" in words


def test_values_say_their_kind_and_bounds():
    (listing,) = (o for o in OPERATIONS if o.anchor == "list_features")
    kinds = {p.name: (p.kind, p.default, p.needed) for p in listing.parameters}
    assert kinds["model_id"] == ("string", None, True)
    assert kinds["min_density"] == ("number 0 … 1", None, False)
    assert kinds["sort"][:2] == (
        '"index" | "density" | "max_activation" | "mean_activation"',
        '"index"',
    )
    assert kinds["tag"] == ("string[]", "[]", False)


def test_the_page_shows_them_with_this_servers_address(client):
    text = client.get("/api").text
    assert all(f'id="{operation.anchor}"' in text for operation in OPERATIONS)
    assert f"curl {client.base_url}/api/v1/models" in text
    assert "`" not in text
