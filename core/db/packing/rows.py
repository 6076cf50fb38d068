"""A feature's contexts as bytes."""

import struct
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
from core.domain.activation import Band, ContextRows

_HEAD = struct.Struct("<BBBBI")  # version, widths of context, size and position, rows

_NOTHING = _HEAD.pack(VERSION, 1, 1, 1, 0)


def pack_rows(rows: ContextRows) -> Iterator[bytes]:
    """The bytes of each feature's contexts, in the order of features; empty without contexts."""
    sizes = np.diff(rows.nnz_offsets)
    c, s, p = width_of(rows.context_index), width_of(sizes), width_of(rows.positions)
    contexts = memoryview(narrow(rows.context_index, c))
    counts = memoryview(narrow(sizes, s))
    positions = memoryview(narrow(rows.positions, p))
    bands = memoryview(rows.band.tobytes())
    values = memoryview(rows.values.astype("<f4", copy=False).tobytes())
    row_ends = rows.row_offsets.tolist()
    nnz_ends = rows.nnz_offsets[rows.row_offsets].tolist()
    first, begin = row_ends[0], nnz_ends[0]
    for last, end in zip(row_ends[1:], nnz_ends[1:], strict=True):
        if last == first:
            yield b""
            continue
        yield b"".join(
            (
                _HEAD.pack(VERSION, c, s, p, last - first),
                contexts[c * first : c * last],
                bands[first:last],
                counts[s * first : s * last],
                positions[p * begin : p * end],
                values[4 * begin : 4 * end],
            )
        )
        first, begin = last, end


def unpack_rows(data: Bytes) -> ContextRows:
    """One feature's contexts, as :func:`pack_rows` wrote them."""
    version, c, s, p, n = _HEAD.unpack_from(data or _NOTHING)
    check_version(version)
    view = memoryview(data or _NOTHING)
    ends = offsets(np.array([_HEAD.size, c * n, n, s * n])).tolist()
    contexts, band, counts = (view[a:b] for a, b in pairwise(ends[1:]))
    sizes = widen(counts, s)
    n_values = int(sizes.sum())
    middle = ends[-1] + p * n_values
    return ContextRows(
        row_offsets=np.array([0, n], np.int64),
        context_index=widen(contexts, c).view(np.int32),
        band=np.frombuffer(band, np.int8),
        nnz_offsets=offsets(sizes),
        positions=widen(view[ends[-1] : middle], p).astype(np.uint16),
        values=np.frombuffer(view[middle:], "<f4", count=n_values),
    )


def pack_random(rows: ContextRows) -> tuple[bytes, Iterator[bytes]]:
    """The contexts that all features share, and each feature's bytes.

    Where every feature has the same contexts and the silent ones stand last by number, they are
    written once, and a feature keeps only those on which it fires. Else the shared bytes are empty
    and each feature keeps all.
    """
    shared = _shared(rows)
    if shared is None:
        return b"", pack_rows(rows)
    return narrow(shared, 4), pack_rows(_select(rows, np.diff(rows.nnz_offsets) > 0))


def unpack_random(shared: Bytes, data: Bytes) -> ContextRows:
    """One feature's random contexts, as :func:`pack_random` wrote them."""
    firing = unpack_rows(data)
    if not shared:
        return firing
    silent = np.setdiff1d(widen(shared, 4).view(np.int32), firing.context_index)
    n = len(silent)
    return ContextRows(
        row_offsets=np.array([0, len(firing.context_index) + n], np.int64),
        context_index=np.concatenate([firing.context_index, silent]),
        band=np.concatenate([firing.band, np.full(n, Band.RANDOM, np.int8)]),
        nnz_offsets=np.concatenate([firing.nnz_offsets, np.repeat(firing.nnz_offsets[-1:], n)]),
        positions=firing.positions,
        values=firing.values,
    )


def join_rows(features: Sequence[ContextRows]) -> ContextRows:
    """The contexts of several features, one after another."""
    n_rows = [np.zeros(0, np.int64), *(np.diff(f.row_offsets) for f in features)]
    sizes = [np.zeros(0, np.int64), *(np.diff(f.nnz_offsets) for f in features)]
    return ContextRows(
        row_offsets=offsets(np.concatenate(n_rows)),
        context_index=np.concatenate([np.zeros(0, np.int32), *(f.context_index for f in features)]),
        band=np.concatenate([np.zeros(0, np.int8), *(f.band for f in features)]),
        nnz_offsets=offsets(np.concatenate(sizes)),
        positions=np.concatenate([np.zeros(0, np.uint16), *(f.positions for f in features)]),
        values=np.concatenate([np.zeros(0, np.float32), *(f.values for f in features)]),
    )


def _shared(rows: ContextRows) -> npt.NDArray[np.int32] | None:
    """The contexts of every feature by number, if all have the same and the silent stand last."""
    n_rows = np.diff(rows.row_offsets)
    if len(n_rows) == 0 or n_rows[0] == 0 or np.any(n_rows != n_rows[0]):
        return None
    contexts = rows.context_index.reshape(len(n_rows), -1)
    silent = (np.diff(rows.nnz_offsets) == 0).reshape(contexts.shape)
    shared = np.sort(contexts[0])
    pair = silent[:, :-1]
    ascending = contexts[:, 1:] > contexts[:, :-1]
    fits = (
        np.all(rows.band == Band.RANDOM)
        and np.all(np.diff(shared) > 0)
        and not np.any(pair & ~silent[:, 1:])
        and not np.any(pair & ~ascending)
        and np.all(np.sort(contexts, axis=1) == shared)
    )
    return shared if fits else None


def _select(rows: ContextRows, kept: npt.NDArray[np.bool_]) -> ContextRows:
    """The kept rows; those left out must be silent."""
    before = offsets(kept.astype(np.int64))
    return ContextRows(
        row_offsets=before[rows.row_offsets],
        context_index=rows.context_index[kept],
        band=rows.band[kept],
        nnz_offsets=offsets(np.diff(rows.nnz_offsets)[kept]),
        positions=rows.positions,
        values=rows.values,
    )
