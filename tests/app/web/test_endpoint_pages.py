"""Pages of endpoints: the list, the form, testing a connection, keys that never come back."""

import re

import pytest

from core.db.repositories import endpoints
from core.domain.views_explain import KeySource
from tests.support.explain_runs import store_endpoint
from tests.support.llm_server import Fault, LlmServer, serving
from tests.support.planted import RULES
from tests.support.scripted_model import ScriptedModel

KEY = "sk-very-secret-0123456789"
FORM = {
    "name": "local llama",
    "base_url": "http://localhost:8000/v1",
    "model": "qwen3-8b",
    "key_source": "none",
    "concurrency": "8",
    "timeout_seconds": "60",
    "attempts": "2",
    "tokens_field": "max_tokens",
    "extra_tokens": "0",
    "with_sampling": "1",
    "price_prompt": "0.5",
    "price_completion": "1.5",
}


def text_of(response) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.text))


def save(client, **changes):
    return client.post("/endpoints", data={**FORM, **changes}, follow_redirects=False)


def card_of(session_scope, number=1):
    with session_scope() as session:
        cards = endpoints.list_cards(session)
    assert len(cards) == number
    return cards[-1]


def test_without_endpoints_the_list_says_what_one_is_and_offers_common_servers(client):
    page = client.get("/endpoints")
    assert "No language model is connected yet" in page.text
    for name in ("openai", "vllm", "llamacpp", "ollama", "sglang"):
        assert f"/endpoints/new?preset={name}" in page.text


@pytest.mark.parametrize(
    ("preset", "shown"),
    [
        ("openai", ["https://api.openai.com/v1", "OPENAI_API_KEY", "max_completion_tokens"]),
        ("vllm", ["http://localhost:8000/v1"]),
        ("ollama", ["http://localhost:11434/v1"]),
        ("", ['name="base_url" value=""']),
    ],
)
def test_a_preset_fills_the_form(client, preset, shown):
    page = client.get(f"/endpoints/new?preset={preset}")
    assert page.status_code == 200
    for text in shown:
        assert text in page.text


def test_an_endpoint_is_kept_with_its_prices_and_can_be_changed(client, session_scope):
    assert save(client).status_code == 303
    card = card_of(session_scope)
    assert (card.name, card.price_prompt, card.with_sampling) == ("local llama", 0.5, True)
    assert card.abilities is None
    path = f"/endpoints/{card.endpoint_id}"
    changed = {**FORM, "concurrency": "32", "price_prompt": ""}
    changed.pop("with_sampling")
    assert client.post(path, data=changed, follow_redirects=False).status_code == 303
    card = card_of(session_scope)
    assert (card.concurrency, card.price_prompt, card.with_sampling) == (32, None, False)
    assert "not tested" in client.get("/endpoints").text


def test_a_key_is_stored_encrypted_and_never_shown_again(client, session_scope):
    save(client, key_source="stored", api_key=KEY)
    card = card_of(session_scope)
    assert card.key_source is KeySource.STORED
    with session_scope() as session:
        sealed = endpoints.get_sealed_key(session, card.endpoint_id)
    assert sealed is not None
    assert KEY.encode() not in sealed
    path = f"/endpoints/{card.endpoint_id}"
    shown = client.get(path).text + client.get("/endpoints").text
    shown += client.get(f"/api/v1{path}").text
    assert KEY not in shown
    kept = {**FORM, "key_source": "stored", "api_key": "", "name": "renamed"}
    client.post(path, data=kept)
    with session_scope() as session:
        assert endpoints.get_sealed_key(session, card.endpoint_id) == sealed
    client.post(path, data={**kept, "key_source": "none"})
    assert card_of(session_scope).key_source is KeySource.NONE


def test_a_stored_key_is_not_sent_to_another_address(client, session_scope):
    save(client, key_source="stored", api_key=KEY)
    path = f"/endpoints/{card_of(session_scope).endpoint_id}"
    moved = {**FORM, "key_source": "stored", "base_url": "http://elsewhere:1/v1"}
    response = client.post(path, data=moved)
    assert response.status_code == 422
    assert "entered for another address" in response.text
    assert card_of(session_scope).base_url == FORM["base_url"]


def test_a_key_that_was_typed_is_not_sent_back_with_a_broken_form(client):
    response = save(client, key_source="stored", api_key=KEY, base_url="nowhere")
    assert response.status_code == 422
    assert KEY not in response.text
    assert "Type the key again" in response.text


def test_what_is_wrong_is_told_beside_its_field_and_what_was_typed_is_kept(client, session_scope):
    response = save(
        client,
        name="",
        base_url="ftp://x",
        concurrency="lots",
        key_source="environment",
        key_variable="HOME",
    )
    assert response.status_code == 422
    text = text_of(response)
    assert "5 settings have to be mended." in text or "4 settings have to be mended." in text
    assert "Write an address such as http://localhost:8000/v1." in text
    assert "Write a whole number." in text
    assert "Name a variable that ends in _API_KEY" in text
    assert 'value="ftp://x"' in response.text
    assert 'value="lots"' in response.text
    save(client)
    taken = save(client)
    assert taken.status_code == 422
    assert "exists already" in taken.text


def test_a_variable_that_is_not_set_here_is_told_on_the_page(client, session_scope):
    save(client, key_source="environment", key_variable="NOBODY_SET_THIS_API_KEY")
    path = f"/endpoints/{card_of(session_scope).endpoint_id}"
    assert "The variable NOBODY_SET_THIS_API_KEY is not set." in client.get(path).text


def test_a_test_says_in_words_what_the_server_can_do(client, session_scope):
    with serving(LlmServer(ScriptedModel(RULES), context_limit=8192)) as server:
        endpoint = store_endpoint(session_scope, server)
        path = f"/endpoints/{endpoint}"
        assert "Not tested yet" in client.get(path).text
        part = client.post(f"{path}/test", headers={"HX-Request-Type": "partial"})
        plain = client.post(f"{path}/test", follow_redirects=False)
    assert plain.status_code == 303
    text = text_of(part)
    for words in (
        "Chat answers as scripted",
        "5 alternatives at each token",
        "sent, by token number",
        "answers keep to it",
        "yes: scale 0–10",
        "8,192 tokens",
        "all tokens at once",
        "1 request a token",
        "The connection works.",
    ):
        assert words in text
    assert text.index("all tokens at once") < text.index("one token at a time")


def test_a_server_that_nobody_listens_at_is_told_with_what_to_check(client, session_scope):
    with serving(LlmServer(ScriptedModel(RULES))) as server:
        endpoint = store_endpoint(session_scope, server, attempts=1)
    path = f"/endpoints/{endpoint}/test"
    part = client.post(path, headers={"HX-Request-Type": "partial"})
    assert part.status_code == 200
    assert "The connection does not work" in part.text
    assert "Check the address" in part.text
    whole = client.post(path)
    assert whole.status_code == 502
    assert "The connection does not work" in whole.text


def test_a_server_that_speaks_something_else_is_not_called_working(client, session_scope):
    gone = Fault(status=404, error={"message": "no such page"})
    with serving(LlmServer(ScriptedModel(RULES), on_request=lambda _: gone)) as server:
        path = f"/endpoints/{store_endpoint(session_scope, server)}/test"
        part = client.post(path, headers={"HX-Request-Type": "partial"})
    assert "The server answers, but not as a language model." in part.text
    assert "which mostly ends in /v1" in part.text
    assert "The connection works." not in part.text


def test_a_test_gives_up_sooner_than_a_run_since_somebody_waits(client, session_scope):
    broken = Fault(status=500)
    with serving(LlmServer(ScriptedModel(RULES), on_request=lambda _: broken)) as server:
        endpoint = store_endpoint(session_scope, server, attempts=10)
        client.post(f"/endpoints/{endpoint}/test", headers={"HX-Request-Type": "partial"})
    asked = [body for body in server.log.bodies if body.get("max_tokens") == 4]
    assert len(asked) == 2


def test_a_refused_key_is_told(client, session_scope):
    refuse = Fault(status=401, error={"message": "bad key"})
    with serving(LlmServer(ScriptedModel(RULES), on_request=lambda _: refuse)) as server:
        endpoint = store_endpoint(session_scope, server, attempts=1)
        part = client.post(f"/endpoints/{endpoint}/test", headers={"HX-Request-Type": "partial"})
    assert "bad key" in part.text


def test_an_endpoint_is_deleted_with_its_key(client, session_scope):
    save(client)
    path = f"/endpoints/{card_of(session_scope).endpoint_id}"
    assert client.post(f"{path}/delete", follow_redirects=False).status_code == 303
    assert client.get(path).status_code == 404
