"""Short ways to say in a test what an outcome or request must be."""

from core.domain.explanation import Answer, Failure
from core.domain.llm import ChatRequest, PromptRequest


def value(outcome):
    """The value of an answer."""
    assert isinstance(outcome, Answer), outcome
    return outcome.value


def failed(outcome):
    """A failure."""
    assert isinstance(outcome, Failure), outcome
    return outcome


def messages(question):
    """The messages of a chat question."""
    assert isinstance(question.request, ChatRequest)
    return question.request.messages


def prompt_text(question):
    """The text of a question about a prompt's own tokens."""
    assert isinstance(question.request, PromptRequest)
    return question.request.text


def measured(score, metric):
    """The value of a metric, or None."""
    return score.metrics[metric].value
