import asyncio
import json
import logging
import time
from dataclasses import replace

import pytest
from pydantic import SecretStr

from core.autointerp.judging import JudgedContext, JudgeSetting, judging_plan
from core.domain.activation import ActivationRecord
from core.domain.explanation import Answer, Failure, FailureCode, ScoreKind, count_failures
from core.domain.llm import ChatRequest, Message, PromptRequest, Purpose, Question
from core.domain.preference import Role
from core.llm.ask import ask, ask_all, carry_out
from core.llm.budget import Budget, Limits
from core.llm.cache import MemoryStore, cache_key
from core.llm.client import ClientParts, LlmClient
from core.llm.endpoint import Endpoint, TokensField
from core.llm.gate import Gate
from core.llm.ledger import MemoryLedger, totals
from core.llm.prices import Price, PriceTable
from tests.support.llm_server import Fault, LlmServer, chat_answer, serving
from tests.support.outcomes import failed, value

LIMITED = Fault(status=429, headers={"retry-after": "0.05"})
PRICES = PriceTable(version="2026-11", prices={"m": Price(prompt=10.0, completion=30.0)})


class Echo:
    """Answers with the number of the request, or with what it is told to."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.n = 0

    def chat(self, _):
        self.n += 1
        return self.answers.pop(0) if self.answers else chat_answer(f"answer {self.n}")

    def complete(self, body):
        return {"model": "m", "choices": [{"text": body["prompt"], "finish_reason": "length"}]}

    def tokenise(self, _):
        return {"tokens": [1]}


def chat(text="hello", **changes):
    request = ChatRequest(
        purpose=Purpose.EXPLAIN,
        messages=(Message(role=Role.USER, content=text),),
        max_tokens=20,
    )
    return replace(request, **changes)


def endpoint_of(server, **changes):
    return replace(Endpoint(base_url=server.base_url, model="m", backoff_seconds=0.01), **changes)


def run(server, work, *, parts=None, **changes):
    async def inside():
        async with LlmClient(endpoint_of(server, **changes), parts) as client:
            return await work(client)

    return asyncio.run(inside())


def reply_under(faults, *, model=None, parts=None, request=None, **changes):
    with serving(LlmServer(model or Echo(), faults=faults)) as server:
        ledger = MemoryLedger()
        parts = parts or ClientParts(ledger=ledger)
        outcome = run(
            server, lambda client: client.reply(request or chat()), parts=parts, **changes
        )
        return outcome, server.log.count("completions"), ledger


PASSING = {
    "rate limit": LIMITED,
    "server error": Fault(status=500),
    "bad gateway": Fault(status=502, error={"message": "upstream"}),
    "request timeout": Fault(status=408),
    "dropped": Fault(drop=True),
    "dropped in the middle": Fault(drop=True, body=b'{"choices": [{"mess'),
    "truncated JSON": Fault(body=b'{"choices": [{"message": {"content": "he'),
    "a page instead of JSON": Fault(body=b"<html>proxy</html>"),
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_trouble_is_tried_again(fault):
    outcome, n, ledger = reply_under([fault, fault])
    assert isinstance(outcome, Answer)
    assert value(outcome).text == "answer 1"
    assert n == 3
    assert [(row.attempts, row.code) for row in ledger.rows] == [(3, None)]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (LIMITED, FailureCode.RATE_LIMIT),
        (Fault(status=503), FailureCode.SERVER),
        (Fault(drop=True), FailureCode.CONNECTION),
        (Fault(body=b"{"), FailureCode.SERVER),
    ],
)
def test_a_trouble_that_does_not_pass_is_a_failure_with_its_code(fault, code):
    outcome, n, ledger = reply_under([fault] * 9, attempts=3)
    assert isinstance(outcome, Failure)
    assert failed(outcome).code is code
    assert n == 3
    assert ledger.rows[0].code is code


LASTING = {
    FailureCode.AUTH: Fault(status=401, error={"message": "bad key"}),
    FailureCode.QUOTA: Fault(status=429, error={"message": "no", "code": "insufficient_quota"}),
    FailureCode.BAD_REQUEST: Fault(status=400, error={"message": "what is this"}),
    FailureCode.CONTEXT_LENGTH: Fault(
        status=400, error={"message": "too long", "code": "context_length_exceeded"}
    ),
    FailureCode.CONTENT_FILTER: Fault(
        status=400, error={"message": "no", "code": "content_filter"}
    ),
    FailureCode.UNSUPPORTED: Fault(status=400, error={"message": "Only no echo is supported"}),
}


@pytest.mark.parametrize(("code", "fault"), LASTING.items(), ids=LASTING)
def test_a_trouble_that_another_try_cannot_mend_is_sent_once(code, fault):
    outcome, n, _ = reply_under([fault] * 3)
    assert failed(outcome).code is code
    assert n == 1


def test_a_server_that_is_too_slow_is_a_time_out():
    outcome, n, _ = reply_under([Fault(delay=1.0)] * 3, attempts=2, timeout_seconds=0.2)
    assert failed(outcome).code is FailureCode.TIMEOUT
    assert n == 2


def test_a_server_that_asks_to_wait_too_long_is_not_waited_for():
    fault = Fault(status=429, headers={"retry-after": "3600"})
    start = time.monotonic()
    outcome, n, _ = reply_under([fault] * 3)
    assert failed(outcome).code is FailureCode.RATE_LIMIT
    assert n == 1
    assert time.monotonic() - start < 5


def test_everybody_waits_when_the_server_asks_one_to_wait():
    server = LlmServer(Echo(), faults=[Fault(status=429, headers={"retry-after": "0.4"})])
    with serving(server):

        async def work(client):
            first = asyncio.create_task(client.reply(chat("first")))
            await asyncio.sleep(0.2)
            start = time.monotonic()
            await client.reply(chat("second"))
            await first
            return time.monotonic() - start

        assert run(server, work) >= 0.15


def test_a_refusal_and_a_filtered_answer_are_failures_and_are_not_kept():
    store = MemoryStore()
    refused = chat_answer("", refusal="I cannot do that")
    filtered = chat_answer("par", finish="content_filter")
    with serving(LlmServer(Echo(refused, filtered))) as server:

        async def work(client):
            question = Question(request=chat(), read=lambda reply: Answer(reply.text))
            return [await ask(question, client), await ask(question, client)]

        first, second = run(server, work, parts=ClientParts(store=store))
    assert (first.code, first.raw) == (FailureCode.REFUSAL, "I cannot do that")
    assert second.code is FailureCode.CONTENT_FILTER
    assert store.texts == {}


def test_an_answer_without_choices_is_a_failure_and_not_an_empty_text():
    outcome, _, _ = reply_under([], model=Echo({"model": "m", "choices": []}))
    assert failed(outcome).code is FailureCode.SERVER


def contexts(n):
    record = ActivationRecord(tokens=("a",), activations=(1.0,))
    return [JudgedContext(record=record, context_index=i, label=True) for i in range(n)]


def judged(*answers, n=2):
    plan = judging_plan(
        ScoreKind.DETECTION, JudgeSetting(with_logprobs=False), "things", contexts(n)
    )
    with serving(LlmServer(Echo(*(chat_answer(a) for a in answers)))) as server:
        outcome = run(server, lambda client: carry_out(plan, client))
        return value(outcome).verdicts, server.log


def test_an_answer_that_cannot_be_read_is_asked_for_once_more_with_the_problem_named():
    verdicts, log = judged("[1, 0, 1]", "[1, 0]")
    assert [value(v).fires for v in verdicts] == [True, False]
    told = log.bodies[1]["messages"]
    assert told[-2] == {"role": "assistant", "content": "[1, 0, 1]"}
    assert "3 verdicts for 2 documents" in told[-1]["content"]
    assert log.bodies[1]["temperature"] == log.bodies[0]["temperature"]


def test_a_second_unreadable_answer_fails_every_context_of_its_batch_and_nothing_becomes_zero():
    verdicts, log = judged("well", "I think so", n=3)
    assert [failed(v).code for v in verdicts] == [FailureCode.PARSE] * 3
    assert log.count("completions") == 2
    assert count_failures(verdicts) == {FailureCode.PARSE: 3}


def test_after_a_few_refused_keys_nothing_more_is_sent():
    server = LlmServer(Echo(), faults=[LASTING[FailureCode.AUTH]] * 99)
    with serving(server):

        async def work(client):
            questions = [
                Question(request=chat(str(i)), read=lambda reply: Answer(reply.text))
                for i in range(20)
            ]
            outcomes = [await ask(question, client) for question in questions]
            return outcomes, client.stopped

        outcomes, stopped = run(server, work)
    assert server.log.count("completions") == 3
    assert {failed(o).code for o in outcomes} == {FailureCode.AUTH}
    assert stopped.code is FailureCode.AUTH


def test_a_server_that_dies_midway_stops_the_run_and_resuming_repeats_no_paid_request():
    requests = [chat(str(i)) for i in range(12)]
    store = MemoryStore()

    async def work(client):
        questions = [Question(request=r, read=lambda reply: Answer(reply.text)) for r in requests]
        outcomes = [await ask(question, client) for question in questions]
        return outcomes, client.stopped

    dying = LlmServer(Echo(), on_request=lambda n: Fault(drop=True) if n >= 5 else None)
    with serving(dying):
        outcomes, stopped = run(dying, work, parts=ClientParts(store=store), attempts=2)
        base_url = dying.base_url
    assert [isinstance(o, Answer) for o in outcomes] == [True] * 5 + [False] * 7
    assert stopped.code is FailureCode.CONNECTION
    assert dying.log.count("completions") == 5 + 3 * 2

    with serving(LlmServer(Echo())) as healthy:

        async def resumed():
            # the same address by name, as a restarted server has
            endpoint = endpoint_of(healthy, base_url=base_url)
            client = LlmClient(endpoint, ClientParts(store=store))
            client.raw.base_url = healthy.base_url
            try:
                return await work(client)
            finally:
                await client.close()

        again, _ = asyncio.run(resumed())
    assert all(isinstance(o, Answer) for o in again)
    assert healthy.log.count("completions") == 7
    assert [value(o) for o in again[:5]] == [value(o) for o in outcomes[:5]]


def test_identical_requests_under_way_are_sent_once_and_samples_are_not_identical():
    store = MemoryStore()
    with serving(LlmServer(Echo(), latency=0.1)) as server:

        async def work(client):
            same = [client.reply(chat()) for _ in range(5)]
            other = client.reply(chat(sample=1))
            return await asyncio.gather(*same, other)

        outcomes = run(server, work, parts=ClientParts(store=store))
        assert server.log.count("completions") == 2
        assert len({value(o).text for o in outcomes}) == 2
        cached = run(server, work, parts=ClientParts(store=store))
        assert server.log.count("completions") == 2
    assert all(value(o).from_cache for o in cached)


@pytest.mark.parametrize(
    "change",
    [
        {"sample": 1},
        {"temperature": 1.0},
        {"max_tokens": 21},
        {"top_logprobs": 3},
        {"template": "other"},
        {"seed": 4},
        {"messages": (Message(role=Role.SYSTEM, content="hello"),)},
    ],
)
def test_the_cache_key_covers_whatever_decides_a_reply(change):
    endpoint = Endpoint(base_url="http://a/v1", model="m")
    assert cache_key(endpoint, chat()) != cache_key(endpoint, chat(**change))
    assert cache_key(endpoint, chat()) != cache_key(replace(endpoint, model="n"), chat())
    assert cache_key(endpoint, chat()) != cache_key(
        replace(endpoint, base_url="http://b/v1"), chat()
    )


def test_the_cache_key_does_not_cover_keys_and_patience():
    endpoint = Endpoint(base_url="http://a/v1", model="m")
    other = replace(endpoint, api_key=SecretStr("k"), attempts=9, concurrency=2)
    assert cache_key(endpoint, chat()) == cache_key(other, chat())


def test_only_the_cache_is_asked_when_offline():
    outcome, n, _ = reply_under([], parts=ClientParts(cache_only=True, store=MemoryStore()))
    assert failed(outcome).code is FailureCode.OFFLINE
    assert n == 0


def test_no_more_requests_are_under_way_than_the_gate_allows():
    gate = Gate(3)
    with serving(LlmServer(Echo(), latency=0.05)) as server:

        async def both():
            one = LlmClient(endpoint_of(server), ClientParts(gate=gate))
            two = LlmClient(endpoint_of(server), ClientParts(gate=gate))
            async with one, two:
                await asyncio.gather(
                    *(one.reply(chat(f"a{i}")) for i in range(9)),
                    *(two.reply(chat(f"b{i}")) for i in range(9)),
                )

        asyncio.run(both())
        assert server.log.most_under_way == 3


@pytest.mark.parametrize(
    "limits", [Limits(requests=4), Limits(tokens=4 * 110 + 20), Limits(cost=4 * 0.0013 + 0.0005)]
)
def test_the_budget_is_a_hard_stop_even_for_requests_under_way_together(limits):
    budget = Budget(limits, prices=PRICES, model="m")
    with serving(LlmServer(Echo(), latency=0.02)) as server:

        async def work(client):
            questions = [
                Question(request=chat(f"{i:0100}"), read=lambda reply: Answer(reply.text))
                for i in range(20)
            ]
            return await ask_all(questions, client), client.stopped

        outcomes, stopped = run(server, work, parts=ClientParts(budget=budget, prices=PRICES))
        n_sent = server.log.count("completions")
    answered = [o for o in outcomes if isinstance(o, Answer)]
    assert len(answered) == n_sent <= 4
    assert n_sent >= 1
    assert {o.code for o in outcomes if isinstance(o, Failure)} == {FailureCode.BUDGET}
    assert stopped.code is FailureCode.BUDGET
    assert limits.cost is None or budget.spent_cost <= limits.cost
    assert limits.tokens is None or budget.spent_tokens <= limits.tokens


def test_a_budget_in_requests_says_so_where_no_price_is_known():
    budget = Budget(Limits(requests=0), prices=PriceTable(version="x"), model="m")
    outcome, n, _ = reply_under([], parts=ClientParts(budget=budget))
    assert n == 0
    assert failed(outcome).message == "The budget does not allow another request."


def test_a_budget_in_dollars_refuses_a_model_without_a_price():
    budget = Budget(Limits(cost=1.0), prices=PriceTable(version="x"), model="m")
    outcome, n, _ = reply_under([], parts=ClientParts(budget=budget))
    assert failed(outcome).code is FailureCode.BUDGET
    assert "price" in failed(outcome).message
    assert n == 0


def test_the_ledger_has_a_row_for_every_request_with_tokens_attempts_and_cost():
    ledger, store = MemoryLedger(), MemoryStore()
    with serving(LlmServer(Echo(), faults=[Fault(status=500)])) as server:

        async def work(client):
            await client.reply(chat(), item="gemma-2-2b/12-res/7")
            await client.reply(chat(), item="gemma-2-2b/12-res/7")

        run(server, work, parts=ClientParts(ledger=ledger, store=store, prices=PRICES))
    sent, cached = ledger.rows
    assert (sent.item, sent.purpose, sent.model) == (
        "gemma-2-2b/12-res/7",
        Purpose.EXPLAIN,
        "scripted",
    )
    assert (sent.attempts, sent.usage.prompt, sent.usage.completion) == (2, 100, 10)
    assert sent.cost == pytest.approx((100 * 10 + 10 * 30) / 1e6)
    assert sent.price_version == "2026-11"
    assert (cached.from_cache, cached.attempts, cached.cost) == (True, 0, 0.0)
    summed = totals(ledger.rows)
    assert (summed.requests, summed.from_cache, summed.prompt_tokens) == (2, 1, 100)


def test_a_key_is_sent_and_never_printed_or_logged(caplog):
    key = "sk-very-secret-9"
    caplog.set_level(logging.DEBUG, logger="core")
    with serving(LlmServer(Echo(), faults=[LASTING[FailureCode.AUTH]] * 9)) as server:
        endpoint = endpoint_of(server, api_key=SecretStr(key))

        async def work():
            async with LlmClient(endpoint) as client:
                shown = [repr(endpoint), repr(client)]
                outcomes = [await client.reply(chat(str(i))) for i in range(4)]
                return shown + [repr(o) for o in outcomes]

        shown = asyncio.run(work())
        assert server.log.headers[0]["authorization"] == f"Bearer {key}"
    assert key not in "".join(shown) + caplog.text


def test_a_provider_gets_the_fields_it_knows():
    with serving(LlmServer(Echo())) as server:
        run(server, lambda client: client.reply(chat()))
        run(
            server,
            lambda client: client.reply(chat()),
            tokens_field=TokensField.MAX_COMPLETION_TOKENS,
            extra_tokens=500,
            with_sampling=False,
        )
        plain, other = server.log.bodies
    assert (plain["max_tokens"], plain["temperature"]) == (20, 0.0)
    assert other["max_completion_tokens"] == 520
    assert "max_tokens" not in other
    assert "temperature" not in other


def test_an_echoed_prompt_whose_log_probabilities_were_dropped_has_no_places():
    request = PromptRequest(purpose=Purpose.PROBE, token_ids=None, text="a b")
    outcome, _, _ = reply_under([], request=request)
    assert value(outcome).prompt == ()
    assert value(outcome).text == "a b"


def test_a_cut_answer_is_not_kept_but_one_number_is():
    number = chat_answer("7", finish="length", tokens=[("7", {"7": 0.9})])
    cut = chat_answer("a long", finish="length")
    store = MemoryStore()
    with serving(LlmServer(Echo(number, cut))) as server:

        async def work(client):
            await client.reply(chat("one", max_tokens=1, top_logprobs=5))
            await client.reply(chat("two"))

        run(server, work, parts=ClientParts(store=store))
    assert [json.loads(text)["text"] for text in store.texts.values()] == ["7"]
