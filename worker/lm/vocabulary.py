"""The exact bytes that each token of a tokenizer stands for.

Joined over the ids of a text they give the text's UTF-8 bytes. Exceptions, which lie in the
tokenizers: one that normalises its input (NFC in Qwen and Pythia) gives the normalised text; one
that puts a space in front (Llama-2) gives that space too; SentencePiece tokenizers cannot tell a
literal ▁ (U+2581) from a space.
"""

import json
import re
from enum import StrEnum

from transformers import PreTrainedTokenizerBase

from core.domain.views import Vocabulary
from worker.lm.load import LoadedModel
from worker.lm.tokens import tokenization

_SPACE = "\u2581"
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenCoding(StrEnum):
    """How a tokenizer writes bytes into the names of its tokens."""

    BYTE_LEVEL = "byte_level"  # GPT-2's printable stand-in for each byte
    SENTENCEPIECE = "sentencepiece"  # ▁ for space, <0xNN> for a byte
    WORDPIECE = "wordpiece"  # ## for a piece inside a word
    PLAIN = "plain"  # the text itself


def vocabulary(loaded: LoadedModel, model_id: str) -> Vocabulary:
    """Bytes of every token id of a model; ids that the tokenizer lacks are empty."""
    tokens = token_bytes(loaded.tokenizer)
    missing = loaded.info.vocab_size - len(tokens)
    return Vocabulary(
        model_id=model_id,
        tokens=tokens + (b"",) * missing,
        special_ids=tokenization(loaded.tokenizer).special_ids,
    )


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> tuple[bytes, ...]:
    """Bytes of token id i at place i; special tokens are their literal text."""
    names = {index: name for name, index in tokenizer.get_vocab().items()}
    added = tokenizer.added_tokens_decoder
    coding = token_coding(tokenizer)
    result = []
    for index in range(max((*names, *added), default=-1) + 1):
        token = added.get(index)
        if token is None:
            result.append(_decode(names.get(index, ""), coding))
        elif token.special or coding is not TokenCoding.SENTENCEPIECE:
            result.append(token.content.encode())
        else:  # Gemma lists runs of spaces among its added tokens
            result.append(_decode(token.content, coding))
    return tuple(result)


def token_coding(tokenizer: PreTrainedTokenizerBase) -> TokenCoding:
    """How this tokenizer names its tokens: by its decoder, else by the look of its vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        written = json.loads(backend.to_str())
        kinds = _component_kinds(written["decoder"]) | _component_kinds(written["pre_tokenizer"])
        if "ByteLevel" in kinds:
            return TokenCoding.BYTE_LEVEL
        if kinds & {"Metaspace", "ByteFallback"}:
            return TokenCoding.SENTENCEPIECE
        if "WordPiece" in kinds:
            return TokenCoding.WORDPIECE
    names = tokenizer.get_vocab()
    if _SPACE in names or "<0x0A>" in names:
        return TokenCoding.SENTENCEPIECE
    return TokenCoding.BYTE_LEVEL if "\u0120" in names else TokenCoding.PLAIN


def _component_kinds(component: dict[str, object] | None) -> set[str]:
    """Types of a tokenizer's decoder or pre-tokenizer, those inside a sequence too."""
    if component is None:
        return set()
    kinds = {str(component["type"])}
    for part in (*_parts(component, "decoders"), *_parts(component, "pretokenizers")):
        kinds |= _component_kinds(part)
    return kinds


def _parts(component: dict[str, object], key: str) -> list[dict[str, object]]:
    parts = component.get(key, [])
    return parts if isinstance(parts, list) else []


def _decode(name: str, coding: TokenCoding) -> bytes:
    match coding:
        case TokenCoding.BYTE_LEVEL:
            return _from_byte_level(name)
        case TokenCoding.SENTENCEPIECE:
            byte = _BYTE.fullmatch(name)
            return bytes([int(byte[1], 16)]) if byte else name.replace(_SPACE, " ").encode()
        case TokenCoding.WORDPIECE:
            return name[2:].encode() if name.startswith("##") else f" {name}".encode()
        case TokenCoding.PLAIN:
            return name.encode()


def _from_byte_level(name: str) -> bytes:
    try:
        return bytes(_BYTE_OF_CHARACTER[character] for character in name)
    except KeyError:  # a token that was put in by hand, outside the alphabet
        return name.encode()


def _byte_level_alphabet() -> dict[str, int]:
    """Byte of each character by which GPT-2's tokenizer writes bytes.

    Printable Latin-1 characters stand for themselves; the other 68 bytes, in order, for the
    characters from U+0100 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(0x100) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + number): byte for number, byte in enumerate(others)}


_BYTE_OF_CHARACTER = _byte_level_alphabet()
