"""Prompts that do not fit into the model's context are refused before anything is sent."""

import asyncio

import pytest

from core.domain.explanation import Answer, FailureCode
from core.domain.llm import ChatRequest, EmbeddingRequest, Message, PromptRequest, Purpose, Question
from core.domain.preference import Role
from core.explaining.connection import context_window
from core.llm.ask import ask
from core.llm.budget import Budget, Limits
from core.llm.capabilities import probe
from core.llm.client import ClientParts, LlmClient
from core.llm.context import TURN_TOKENS, ContextWindow
from core.llm.endpoint import Endpoint
from core.llm.ledger import MemoryLedger
from core.llm.prices import NO_PRICES
from tests.support.llm_server import LlmServer, serving
from tests.support.outcomes import failed
from tests.support.planted import RULES
from tests.support.scripted_model import ScriptedModel


def chat(*texts, max_tokens=20):
    return ChatRequest(
        purpose=Purpose.EXPLAIN,
        messages=tuple(Message(role=Role.USER, content=text) for text in texts),
        max_tokens=max_tokens,
    )


def refusal(window, request, *, answer_tokens=0):
    return asyncio.run(window.refusal(request, answer_tokens=answer_tokens))


class Counting:
    """A tokenizer that takes two characters for a token, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    async def __call__(self, text):
        self.asked.append(text)
        return len(text) // 2


def test_a_prompt_that_fits_even_byte_by_byte_is_not_counted():
    count = Counting()
    assert refusal(ContextWindow(100, count=count), chat("x" * 60), answer_tokens=20) is None
    assert count.asked == []


def test_a_longer_prompt_is_counted_by_the_servers_tokenizer():
    count = Counting()
    window = ContextWindow(100, count=count)
    assert refusal(window, chat("x" * 140), answer_tokens=20) is None
    found = refusal(window, chat("x" * 160), answer_tokens=20)
    assert failed(found).code is FailureCode.CONTEXT_LENGTH
    assert f"{80 + TURN_TOKENS} tokens" in failed(found).message
    assert "holds 100" in failed(found).message


def test_what_many_prompts_share_is_counted_once():
    count = Counting()
    window = ContextWindow(100, count=count)
    for i in range(3):
        refusal(window, chat("shared " * 12, f"{i}" * 60))
    assert count.asked.count("shared " * 12) == 1
    assert len(count.asked) == 4


def test_without_a_tokenizer_four_bytes_are_taken_for_a_token():
    window = ContextWindow(100)
    assert refusal(window, chat("x" * 320)) is None
    assert failed(refusal(window, chat("x" * 600))).code is FailureCode.CONTEXT_LENGTH


def test_a_tokenizer_that_no_longer_answers_is_done_without():
    async def nothing(_):
        return None

    assert refusal(ContextWindow(100, count=nothing), chat("x" * 320)) is None


@pytest.mark.parametrize(
    ("request_", "fits"),
    [
        (PromptRequest(purpose=Purpose.SIMULATE, token_ids=(1,) * 100, text="x" * 999), True),
        (PromptRequest(purpose=Purpose.SIMULATE, token_ids=(1,) * 101, text=""), False),
        (PromptRequest(purpose=Purpose.SIMULATE, token_ids=None, text="x" * 800), False),
        (EmbeddingRequest(purpose=Purpose.EMBED, texts=("x" * 90, "y" * 90)), True),
        (EmbeddingRequest(purpose=Purpose.EMBED, texts=("x", "y" * 900)), False),
    ],
)
def test_prompts_by_ids_and_texts_to_embed_are_held_to_the_limit_too(request_, fits):
    assert (refusal(ContextWindow(100), request_) is None) == fits


class Limited(ScriptedModel):
    """Says how long its context is, as vLLM does."""

    def tokenise(self, body):
        return {"tokens": list(range(len(body["prompt"]) // 4))}

    def explain(self, prompt):
        return f"{len(prompt)} characters"


def test_a_prompt_that_is_too_long_is_a_counted_failure_before_any_paid_call():
    server = LlmServer(Limited(RULES), context_limit=500)
    ledger = MemoryLedger()
    budget = Budget(Limits(requests=100), prices=NO_PRICES, model="scripted")

    async def work(base_url):
        endpoint = Endpoint(base_url=base_url, model="scripted")
        parts = ClientParts(ledger=ledger, budget=budget)
        async with LlmClient(endpoint, parts) as client:
            found = await probe(client)
            client.context = context_window(client, found)
            sent, spent = len(ledger.rows), budget.requests
            questions = [
                Question(request=chat("word " * n), read=lambda reply: Answer(reply.text))
                for n in (2_000, 20)
            ]
            outcomes = [await ask(question, client) for question in questions]
            return found, outcomes, len(ledger.rows) - sent, budget.requests - spent

    with serving(server):
        found, (long, short), n_sent, n_spent = asyncio.run(work(server.base_url))
    assert found.context_limit == 500
    assert failed(long).code is FailureCode.CONTEXT_LENGTH
    assert isinstance(short, Answer)
    assert (n_sent, n_spent) == (1, 1)
