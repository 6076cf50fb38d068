r"""Chat templates: conversations as the text a model was trained to read, and what is an answer.

A tokenizer's own template is used. One without a template gets ``FALLBACK``, the form of the FPO
paper's code: ``\n<|user|>\n`` question ``\n<|assistant|>\n`` answer and the end-of-text token.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from core.domain.preference import Role, Turn
from core.errors import Invalid

FALLBACK = (
    "{{ bos_token or '' }}{% for message in messages %}"
    "{{ '\\n<|' + message['role'] + '|>\\n' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token or '' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\\n<|assistant|>\\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A stretch of text that is tokenised by itself; answers are what is learned."""

    text: str
    is_answer: bool


def template_of(tokenizer: PreTrainedTokenizerBase) -> str:
    """The template that conversations are rendered with: the model's own, or the fallback."""
    template = tokenizer.chat_template
    return template if isinstance(template, str) else FALLBACK


def has_template(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether conversations are rendered with the model's own template, or with the fallback."""
    return isinstance(tokenizer.chat_template, str)


def render(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> tuple[Piece, ...]:
    """A conversation in pieces; joined, they are the template's text.

    Every assistant turn becomes an answer piece: what follows the generation prompt, up to and
    with the end-of-turn token. White space after that token is nobody's answer.

    Raises:
        Invalid: the template does not continue its own beginning, so answers cannot be found.
    """
    messages = _messages(turns, tokenizer)
    pieces: list[Piece] = []
    done = ""
    for index, message in enumerate(messages):
        if message["role"] != Role.ASSISTANT:
            continue
        whole = _text(messages[: index + 1], tokenizer)
        lead = _lead(messages[:index], whole, tokenizer)
        if not lead.startswith(done):
            raise _broken()
        answer = _without_tail(whole[len(lead) :], tokenizer)
        pieces += [
            Piece(text=lead[len(done) :], is_answer=False),
            Piece(text=answer, is_answer=True),
        ]
        done = lead + answer
    return tuple(pieces)


def _messages(turns: Sequence[Turn], tokenizer: PreTrainedTokenizerBase) -> list[dict[str, str]]:
    """Messages; a system turn goes into the user's first where the template refuses it."""
    messages = [{"role": turn.role.value, "content": turn.content} for turn in turns]
    refuses = "system role not supported" in template_of(tokenizer).lower()
    if refuses and len(messages) > 1 and messages[0]["role"] == Role.SYSTEM:
        joined = f"{messages[0]['content']}\n\n{messages[1]['content']}"
        messages = [{**messages[1], "content": joined}, *messages[2:]]
    return messages


def _text(
    messages: list[dict[str, str]], tokenizer: PreTrainedTokenizerBase, *, prompt: bool = False
) -> str:
    text = tokenizer.apply_chat_template(
        messages,
        chat_template=template_of(tokenizer),
        tokenize=False,
        add_generation_prompt=prompt,
    )
    return str(text)


def _lead(before: list[dict[str, str]], whole: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The text before an answer: with the generation prompt if the answer follows that."""
    for prompt in (True, False):
        lead = _text(before, tokenizer, prompt=prompt)
        if whole.startswith(lead):
            return lead
    raise _broken()


def _without_tail(answer: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """The answer without white space that follows an end-of-turn token."""
    stripped = answer.rstrip()
    ends = tuple(str(token) for token in tokenizer.all_special_tokens)
    return stripped if stripped.endswith(ends) else answer


def _broken() -> Invalid:
    return Invalid(
        "The model's chat template does not continue its own beginning, so the answers' tokens "
        "cannot be told from the prompt's.",
        hint="Give the tokenizer a template whose text for a whole conversation starts with its "
        "text for the turns before.",
    )
