"""All of a feature's evidence but its contexts, as bytes: histogram, neighbours, logit effect."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from core.db.packing.numbers import VERSION, Bytes, check_version, narrow, offsets, widen
from core.domain.activation import HISTOGRAM_BINS, Histogram, SaeHarvest

_HEAD = struct.Struct("<BBhHHH")  # version, width of counts, exponent, k of the three lists

Ids = npt.NDArray[np.int32]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One feature's histogram and lists; index -1 fills places of a list that have none."""

    histogram: Histogram
    coactivation_index: Ids
    coactivation_value: Values
    coactivation_support: Ids
    cosine_index: Ids
    cosine_value: Values
    top_ids: Ids
    top_values: Values
    bottom_ids: Ids
    bottom_values: Values


def pack_summaries(harvest: SaeHarvest) -> Iterator[bytes]:
    """The bytes of each feature, in the order of features."""
    logits = harvest.logit_effect
    lists = (
        *(harvest.coactivation.index, harvest.coactivation.value, harvest.coactivation_support),
        *(harvest.decoder_cosine.index, harvest.decoder_cosine.value),
        *(logits.top_ids, logits.top_values, logits.bottom_ids, logits.bottom_values),
    )
    sizes = tuple(lists[i].shape[1] for i in (0, 3, 5))
    joined = np.concatenate([_as_bytes(values) for values in lists], axis=1)
    fixed, step = memoryview(joined.tobytes()), joined.shape[1]
    counts = {width: memoryview(narrow(harvest.histogram, width)) for width in (1, 2, 3, 4)}
    largest = harvest.histogram.max(axis=1, initial=0)
    widths = 1 + np.sum([largest >= limit for limit in (1 << 8, 1 << 16, 1 << 24)], axis=0)
    exponents = harvest.histogram_exponent.tolist()
    for feature, (width, exponent) in enumerate(zip(widths.tolist(), exponents, strict=True)):
        bins = width * HISTOGRAM_BINS
        yield b"".join(
            (
                _HEAD.pack(VERSION, width, exponent, *sizes),
                counts[width][feature * bins : (feature + 1) * bins],
                fixed[feature * step : (feature + 1) * step],
            )
        )


def unpack_summary(data: Bytes) -> Summary:
    """One feature's evidence, as :func:`pack_summaries` wrote it."""
    version, width, exponent, n_coactivation, n_cosine, n_logits = _HEAD.unpack_from(data)
    check_version(version)
    place = _HEAD.size + width * HISTOGRAM_BINS
    counts = widen(memoryview(data)[_HEAD.size : place], width)
    ks = (*(n_coactivation,) * 3, *(n_cosine,) * 2, *(n_logits,) * 4)
    places = (place + 4 * offsets(np.array(ks))).tolist()

    def ids(i: int) -> Ids:
        return np.frombuffer(data, "<i4", ks[i], places[i])

    def values(i: int) -> Values:
        return np.frombuffer(data, "<f4", ks[i], places[i])

    return Summary(
        histogram=Histogram(exponent=exponent, counts=counts),
        coactivation_index=ids(0),
        coactivation_value=values(1),
        coactivation_support=ids(2),
        cosine_index=ids(3),
        cosine_value=values(4),
        top_ids=ids(5),
        top_values=values(6),
        bottom_ids=ids(7),
        bottom_values=values(8),
    )


def _as_bytes(values: Ids | Values) -> npt.NDArray[np.uint8]:
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(len(values), 4 * values.shape[1])
