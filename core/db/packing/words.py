"""Vocabularies and token ids as bytes."""

import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from core.db.packing.numbers import (
    VERSION,
    Bytes,
    check_version,
    narrow,
    offsets,
    widen,
    width_of,
)
from core.domain.activation import StoredContexts


def pack_tokens(tokens: Sequence[bytes]) -> bytes:
    r"""The exact bytes of every token: lengths, then all bytes, compressed.

    >>> unpack_tokens(pack_tokens([b"a", b"", bytes(3)]))
    (b'a', b'', b'\x00\x00\x00')
    """
    lengths = np.array([len(token) for token in tokens], np.int64)
    width = width_of(lengths)
    head = bytes((VERSION, width)) + len(tokens).to_bytes(4, "little")
    return zlib.compress(head + narrow(lengths, width) + b"".join(tokens))


def unpack_tokens(data: Bytes) -> tuple[bytes, ...]:
    """The tokens that :func:`pack_tokens` wrote."""
    plain = zlib.decompress(data)
    check_version(plain[0])
    width, n = plain[1], int.from_bytes(plain[2:6], "little")
    ends = 6 + width * n + offsets(widen(plain[6 : 6 + width * n], width))
    places = ends.tolist()
    return tuple(plain[a:b] for a, b in pairwise(places))


def pack_contexts(contexts: StoredContexts) -> Iterator[bytes]:
    """The token ids of each context without padding: one byte with their width, then the ids."""
    ids = contexts.token_ids
    width = width_of(ids[ids >= 0])
    data, step, head = memoryview(narrow(ids, width)), width * ids.shape[1], bytes((width,))
    lengths = np.count_nonzero(ids >= 0, axis=1).tolist()
    for row, length in enumerate(lengths):
        yield head + data[row * step : row * step + width * length]


def unpack_context(data: Bytes) -> npt.NDArray[np.int32]:
    """The token ids of one context.

    >>> unpack_context(bytes((2, 1, 0, 0, 1))).tolist()
    [1, 256]
    """
    view = memoryview(data)
    return widen(view[1:], view[0]).view(np.int32)
