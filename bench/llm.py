"""Request rate of the LLM client against a server of fixed latency.

Prints the share of the ideal rate, which is concurrency / latency. The server runs in its own
process and answers after exactly the latency, whatever is asked; the client sends real detection
prompts, with single-flight, ledger and cache at work.

A second line gives the rate of a whole run of explanations against the same server.

    python -m bench.llm [--requests 6400] [--concurrency 64] [--latency 0.2] [--features 400]
"""

import argparse
import asyncio
import json
import multiprocessing
import sys
import time
from multiprocessing.connection import Connection

from bench.llm_job import measure_job
from core.autointerp.judging import JudgedContext, JudgeSetting, judging_plan
from core.domain.activation import ActivationRecord
from core.domain.explanation import Answer, ScoreKind
from core.domain.llm import Plan
from core.llm.ask import carry_out
from core.llm.cache import MemoryStore
from core.llm.client import ClientParts, LlmClient
from core.llm.endpoint import Endpoint
from core.llm.ledger import MemoryLedger
from worker.explain.rare_collections import rare_collections

WANTED = 0.95
_ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "fixed",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "[1, 0, 1, 0, 1]"},
            }
        ],
        "usage": {"prompt_tokens": 900, "completion_tokens": 12, "total_tokens": 912},
    }
).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
    _ANSWER
)


def serve(latency: float, port: Connection) -> None:
    """Answer every request after the latency, until killed; tells its port first."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                _, _, length = head.partition(b"content-length:")
                await reader.readexactly(int(length.split(b"\r\n")[0] or 0))
                await asyncio.sleep(latency)
                writer.write(_HEAD + _ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(handle, "127.0.0.1", 0, backlog=512)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def plan(number: int) -> Plan[object]:
    """One batch of five contexts; no two plans are equal."""
    contexts = [
        JudgedContext(
            record=ActivationRecord(
                tokens=tuple(f" word{number}.{place}.{i}" for i in range(32)),
                activations=(0.0,) * 32,
            ),
            context_index=place,
            label=False,
        )
        for place in range(5)
    ]
    setting = JudgeSetting(with_logprobs=False)
    return judging_plan(ScoreKind.DETECTION, setting, "numbered words", contexts)  # type: ignore[return-value]  # any result will do


async def measure(base_url: str, *, n_requests: int, concurrency: int) -> tuple[float, float]:
    """Seconds of wall clock, and of processor, for so many requests."""
    endpoint = Endpoint(base_url=base_url, model="fixed", concurrency=concurrency)
    parts = ClientParts(store=MemoryStore(), ledger=MemoryLedger())
    async with LlmClient(endpoint, parts) as client:
        warm = [carry_out(plan(-1 - i), client) for i in range(concurrency)]
        await asyncio.gather(*warm)
        plans = [plan(i) for i in range(n_requests)]
        with rare_collections():  # as a run does
            start, cpu = time.perf_counter(), time.process_time()
            outcomes = await asyncio.gather(*(carry_out(one, client) for one in plans))
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    if not all(isinstance(outcome, Answer) for outcome in outcomes):
        sys.exit("Some requests failed; the rate means nothing.")
    return seconds, cpu


def main() -> None:
    """Measure and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--requests", type=int, default=6_400)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--features", type=int, default=400)
    given = parser.parse_args()
    receive, send = multiprocessing.Pipe(duplex=False)
    server = multiprocessing.Process(target=serve, args=(given.latency, send), daemon=True)
    server.start()
    try:
        base_url = f"http://127.0.0.1:{receive.recv()}/v1"
        seconds, cpu = asyncio.run(
            measure(base_url, n_requests=given.requests, concurrency=given.concurrency)
        )
        job = measure_job(base_url, n_features=given.features, concurrency=given.concurrency)
    finally:
        server.terminate()
        server.join()
    ideal = given.concurrency / given.latency
    rate = given.requests / seconds
    sys.stdout.write(
        f"requests {given.requests}, concurrency {given.concurrency}, latency {given.latency} s\n"
        f"ideal {ideal:.1f}/s, measured {rate:.1f}/s, "
        f"processor {1000 * cpu / given.requests:.2f} ms a request\n"
        f"ratio {rate / ideal:.3f} (wanted >= {WANTED})\n"
        f"whole run: {job.n_features} features, {job.n_scores} scores, {job.requests} requests, "
        f"{job.requests / job.seconds:.1f}/s, processor "
        f"{1000 * job.processor_seconds / job.requests:.2f} ms a request, "
        f"ratio {job.requests / job.seconds / ideal:.3f}\n"
    )


if __name__ == "__main__":
    main()
