"""Questions and plans carried out: send, read, mend once, join."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from core.domain.explanation import Answer, Failure, FailureCode, Outcome
from core.domain.llm import ChatRequest, Finish, Message, Plan, Question, Reply
from core.domain.preference import Role
from core.llm.client import ChatModel

T = TypeVar("T")

_MENDABLE = frozenset({FailureCode.PARSE, FailureCode.COUNT})


async def ask(question: Question[T], model: ChatModel, *, item: str = "") -> Outcome[T]:
    """The answer to a question, or why there is none.

    An answer that cannot be read is asked for once more, with the problem named; then it fails.
    """
    replied = await model.reply(question.request, item=item)
    outcome = _read(question, replied)
    if isinstance(outcome, Answer) or isinstance(replied, Failure):
        return outcome
    again = _again(question, replied.value, outcome)
    if again is None:
        return outcome
    return _read(question, await model.reply(again, item=item))


async def ask_all(
    questions: Sequence[Question[T]], model: ChatModel, *, item: str = ""
) -> list[Outcome[T]]:
    """One outcome a question, in their order; the endpoint's gate bounds how many are under way."""
    if len(questions) == 1:  # no task of its own
        return [await ask(questions[0], model, item=item)]
    return list(await asyncio.gather(*(ask(question, model, item=item) for question in questions)))


async def carry_out(plan: Plan[T], model: ChatModel, *, item: str = "") -> Outcome[T]:
    """The result of a plan; a plan without questions never touches the model."""
    return plan.join(await ask_all(plan.questions, model, item=item))


def _read(question: Question[T], replied: Outcome[Reply]) -> Outcome[T]:
    match replied:
        case Failure() as failed:
            return failed
        case Answer(reply):
            if reply.refusal:
                message = "The model refused to answer."
                return Failure(code=FailureCode.REFUSAL, message=message, raw=reply.refusal)
            if reply.finish is Finish.CONTENT_FILTER:
                message = "The provider's filter stopped the answer."
                return Failure(code=FailureCode.CONTENT_FILTER, message=message, raw=reply.text)
            return question.read(reply)


def _again(question: Question[T], reply: Reply, failed: Failure) -> ChatRequest | None:
    request = question.request
    if question.repair is None or failed.code not in _MENDABLE:
        return None
    if not isinstance(request, ChatRequest) or not reply.text.strip():
        return None
    return replace(
        request,
        messages=(
            *request.messages,
            Message(role=Role.ASSISTANT, content=reply.text),
            Message(role=Role.USER, content=question.repair(failed.message)),
        ),
    )
