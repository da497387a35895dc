"""Distances in units in the last place of a floating-point type."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

NDArray = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Floating:
    """A type that weights are written in: `digits` binary ones, `smallest` the least positive number."""

    name: str
    dtype: np.dtype[Any]
    digits: int
    smallest: float

    @classmethod
    def of(cls, name: str) -> Floating:
        """The type of that name; float32 where it is none of real numbers."""
        if name == "bfloat16":
            from ml_dtypes import bfloat16

            return cls(name, np.dtype(bfloat16), 8, 2.0**-133)
        info = np.finfo(np.dtype(name if name in ("float16", "float64") else "float32"))
        return cls(str(info.dtype), info.dtype, info.nmant + 1, float(info.smallest_subnormal))

    def round(self, array: NDArray) -> NDArray:
        """Each number as the type holds it; infinite where it overflows."""
        with np.errstate(over="ignore"):
            return np.asarray(array.astype(self.dtype).astype(np.float64))

    def distance(self, written: NDArray, true: NDArray, error: NDArray, size: NDArray) -> float:
        """By how many units the worst of `written` is off, the true numbers being known to within `error`.

        The unit is that of the true number, or of the terms it is a sum of, where these are larger.  At most one half is what
        rounding once gives; a bound that only just reaches beyond is told as it is.
        """
        _, exponent = np.frexp(np.maximum(np.abs(true), size))
        unit = np.maximum(np.ldexp(1.0, exponent - self.digits), self.smallest)
        return float(np.max((np.abs(written - true) + error) / unit, initial=0.0))
