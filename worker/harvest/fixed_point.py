"""Float32 activations as whole numbers, so that sums do not depend on their order.

A positive float32 is ``mantissa * 2**exponent`` with a mantissa below 2**24. Sums are kept in two
64-bit limbs: ``sum = (high + low / 2**32) / 2**8``, that is in units of 2**-40. Every activation
from 2**-17 to 2**30 is a whole number of units, so its part of the sum is exact; smaller ones lose
less than one unit each. Whole numbers add up the same in any order, on any device.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

LARGEST = float(2**30)
_UNIT_BITS = 40
_LOW_BITS = 32


class Scientific(NamedTuple):
    """Positive float32 values as ``mantissa * 2**exponent``, both whole."""

    mantissa: Int64[Tensor, " value"]
    exponent: Int64[Tensor, " value"]


class Limbs(NamedTuple):
    """Numbers in units of 2**-40: ``high * 2**32 + low``."""

    high: Int64[Tensor, " value"]
    low: Int64[Tensor, " value"]


def scientific(values: Float32[Tensor, " value"]) -> Scientific:
    """Mantissa and exponent of positive values.

    >>> scientific(torch.tensor([1.5]))
    Scientific(mantissa=tensor([12582912]), exponent=tensor([-23]))
    """
    bits = values.contiguous().view(torch.int32).long()
    biased = bits >> 23
    mantissa = (bits & 0x7FFFFF) + ((biased > 0).long() << 23)
    return Scientific(mantissa, biased.clamp(min=1) - 150)


def to_limbs(values: Scientific) -> Limbs:
    """The values in units of 2**-40; what is below a unit is cut off.

    >>> to_limbs(scientific(torch.tensor([1.5])))
    Limbs(high=tensor([384]), low=tensor([0]))
    """
    mantissa, shift = values.mantissa, values.exponent + _UNIT_BITS
    small = mantissa >> (-shift).clamp(0, 63)
    middle = mantissa << shift.clamp(0, _LOW_BITS)
    large = mantissa << (shift - _LOW_BITS).clamp(0, 62)
    mask = (1 << _LOW_BITS) - 1
    high = torch.where(shift >= _LOW_BITS, large, torch.where(shift < 0, 0, middle >> _LOW_BITS))
    low = torch.where(shift >= _LOW_BITS, 0, torch.where(shift < 0, small, middle & mask))
    return Limbs(high, low)


def from_limbs(
    high: Int64[np.ndarray, " value"], low: Int64[np.ndarray, " value"]
) -> Float64[np.ndarray, " value"]:
    """Sums of limbs as float64."""
    return (high + low / 2.0**_LOW_BITS) / 2.0 ** (_UNIT_BITS - _LOW_BITS)
