"""What fits into a model's context, checked before anything is sent."""

from collections.abc import Awaitable, Callable, Sequence

from core.domain.explanation import Failure, FailureCode
from core.domain.llm import ChatRequest, EmbeddingRequest, ModelRequest, PromptRequest

TURN_TOKENS = 8  # what a chat template puts around a message, generously
_BYTES_A_TOKEN = 4
_REMEMBERED = 1_000

CountTokens = Callable[[str], Awaitable[int | None]]


class ContextWindow:
    """The limit of a model's context and how tokens are counted against it.

    A text has at most as many tokens as bytes, so that most prompts pass without being counted.
    The others are counted by the server's tokenizer, parts that many prompts share only once.
    Without a tokenizer a token is taken for four bytes, which keeps from refusing what fits; what
    is too long all the same, the server refuses.

    Args:
        limit: tokens of prompt and answer together.
        count: exact number of tokens of a text, None when the server does not tell after all;
            None where it has no tokenizer to ask.
    """

    def __init__(self, limit: int, *, count: CountTokens | None = None) -> None:
        self.limit = limit
        self._count = count
        self._known: dict[str, int] = {}

    async def refusal(self, request: ModelRequest, *, answer_tokens: int) -> Failure | None:
        """Why a request cannot be sent; None when it fits."""
        match request:
            case PromptRequest(token_ids=ids) if ids is not None:
                return self._judge(len(ids), answer_tokens)
            case PromptRequest(text=text):
                parts = [text]
            case ChatRequest(messages=messages):
                parts = [message.content for message in messages]
            case EmbeddingRequest(texts=texts):
                parts = [max(texts, key=len, default="")]
        around = TURN_TOKENS * len(parts) if isinstance(request, ChatRequest) else 0
        if self._at_most(parts) + around + answer_tokens <= self.limit:
            return None
        return self._judge(await self._size(parts) + around, answer_tokens)

    def _at_most(self, parts: Sequence[str]) -> int:
        return sum(self._known.get(part) or len(part.encode()) for part in parts)

    async def _size(self, parts: Sequence[str]) -> int:
        sizes = []
        for place, part in enumerate(parts):
            size = self._known.get(part)
            if size is None:
                size = await self._count(part) if self._count else None
                size = len(part.encode()) // _BYTES_A_TOKEN if size is None else size
                if place < len(parts) - 1 and len(self._known) < _REMEMBERED:
                    self._known[part] = size
            sizes.append(size)
        return sum(sizes)

    def _judge(self, prompt: int, answer: int) -> Failure | None:
        if prompt + answer <= self.limit:
            return None
        answered = f" and the answer up to {answer:,}" if answer else ""
        return Failure(
            code=FailureCode.CONTEXT_LENGTH,
            message=f"The prompt has {prompt:,} tokens{answered}; the model's context holds "
            f"{self.limit:,}. Nothing was sent.",
        )
