"""Whole numbers in the fewest bytes."""

import numpy as np
import numpy.typing as npt

Whole = npt.NDArray[np.integer]
Bytes = bytes | memoryview
VERSION = 1

_LARGEST = (1 << 8, 1 << 16, 1 << 24)


def check_version(version: int) -> None:
    """Refuse bytes of another format."""
    if version != VERSION:
        raise ValueError(f"packed bytes are of format {version}, this is {VERSION}")


def width_of(values: Whole) -> int:
    """Bytes that hold every value as an unsigned number; 4 if one is negative.

    >>> width_of(np.array([3, 255])), width_of(np.array([256])), width_of(np.array([-1]))
    (1, 2, 4)
    """
    if values.size == 0:
        return 1
    if values.min() < 0:
        return 4
    return 1 + sum(int(values.max()) >= limit for limit in _LARGEST)


def narrow(values: Whole, width: int) -> bytes:
    """The values as little-endian numbers of so many bytes each.

    >>> narrow(np.array([1, 258]), 2).hex()
    '01000201'
    """
    four = np.ascontiguousarray(values.astype("<i8").astype("<u4"))
    return four.view(np.uint8).reshape(-1, 4)[:, :width].tobytes()


def widen(data: Bytes, width: int) -> npt.NDArray[np.uint32]:
    """The numbers that :func:`narrow` wrote."""
    planes = np.zeros((len(data) // width, 4), np.uint8)
    planes[:, :width] = np.frombuffer(data, np.uint8).reshape(-1, width)
    return planes.view("<u4").reshape(-1)


def offsets(sizes: Whole) -> npt.NDArray[np.int64]:
    """Where each stretch begins, and where the last ends.

    >>> offsets(np.array([2, 0, 3])).tolist()
    [0, 2, 2, 5]
    """
    ends = np.zeros(len(sizes) + 1, np.int64)
    np.cumsum(sizes, out=ends[1:])
    return ends
