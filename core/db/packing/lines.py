"""Where the lines of a preference set's file are, and which are held out, as bytes."""

import numpy as np
import numpy.typing as npt

from core.db.packing.numbers import VERSION, Bytes, check_version, narrow, widen, width_of

_HEAD = 6  # format, width of a length, number of lines


def pack_lines(lengths: npt.NDArray[np.int64], held_out: npt.NDArray[np.bool_]) -> bytes:
    """Length of each line in bytes, its end of line included, and one bit for its split.

    >>> lengths, held_out = unpack_lines(pack_lines(np.array([3, 700]), np.array([False, True])))
    >>> lengths.tolist(), held_out.tolist()
    ([3, 700], [False, True])
    """
    width = width_of(lengths)
    head = bytes((VERSION, width)) + len(lengths).to_bytes(4, "little")
    return head + narrow(lengths, width) + np.packbits(held_out).tobytes()


def unpack_lines(data: Bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """What :func:`pack_lines` wrote."""
    check_version(data[0])
    width, n = data[1], int.from_bytes(data[2:_HEAD], "little")
    middle = _HEAD + width * n
    bits = np.frombuffer(data, np.uint8, offset=middle)
    lengths = widen(memoryview(data)[_HEAD:middle], width).astype(np.int64)
    return lengths, np.unpackbits(bits, count=n).astype(np.bool_)
