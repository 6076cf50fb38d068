"""Token ids are asked for once, however many simulations need them."""

import asyncio

import pytest

from core.errors import LlmUnsupported
from core.llm.client import LlmClient
from core.llm.endpoint import Endpoint
from core.llm.tokenizer import TokenTable
from tests.support.llm_server import LlmServer, serving
from tests.support.planted import RULES
from tests.support.scripted_model import ScriptedModel

PIECES = (" the", " river", " the", "\t", "x" * 300)


@pytest.fixture
def server():
    with serving(LlmServer(ScriptedModel(RULES), latency=0.01)) as running:
        yield running


def learned(server, *batches, model="scripted"):
    """A table after it learned these batches of pieces, all at once."""

    async def work():
        async with LlmClient(Endpoint(base_url=server.base_url, model=model)) as client:
            table = TokenTable(client)
            await asyncio.gather(*(table.learn(batch) for batch in batches))
            return dict(table)

    return asyncio.run(work())


def test_a_piece_is_asked_for_once_by_many_who_learn_at_once(server):
    found = learned(server, PIECES, PIECES, reversed(PIECES))
    assert set(PIECES) <= set(found)
    assert server.log.count("/tokenize") == 1 + len(set(PIECES))  # one to see which model it is


def test_another_table_of_the_model_knows_short_pieces(server):
    learned(server, PIECES)
    asked = server.log.count("/tokenize")
    found = learned(server, PIECES)
    assert set(PIECES) <= set(found)
    assert server.log.count("/tokenize") == asked + 2  # the sample, and the long piece


def test_another_model_by_the_same_name_is_noticed(server):
    before = learned(server, PIECES)
    server.model = ScriptedModel(RULES, ten_is_two_tokens=True)
    asked = server.log.count("/tokenize")
    after = learned(server, PIECES)
    assert set(PIECES) <= set(before) & set(after)
    assert server.log.count("/tokenize") == asked + 1 + len(set(PIECES))


def test_a_server_without_a_tokenizer_is_said_so():
    with (
        serving(LlmServer(ScriptedModel(RULES), without=["/tokenize"])) as server,
        pytest.raises(LlmUnsupported),
    ):
        learned(server, PIECES)
