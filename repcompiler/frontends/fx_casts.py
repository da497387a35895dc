"""Changes of type that change nothing, for the tensor has that type, and copies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import fx

from repcompiler.frontends.fx_arithmetic import Context, Entry, Lifted, tensor
from repcompiler.frontends.fx_layout import contiguous
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.ops import Identity


def _cast(name: str) -> Entry:
    """To a type that the tensor already has."""

    def lift(c: Context, x: Any) -> Lifted:
        if c.dtype(tensor(x)) != name:
            raise Unliftable
        return Identity(), (x,)

    return lift


def _to(c: Context, x: Any, dtype: Any) -> Lifted:
    """x.to(torch.float32), x.to(weight.dtype)."""
    if (
        isinstance(dtype, fx.Node)
        and dtype.target is getattr
        and dtype.args[1] == "dtype"
        and isinstance(dtype.args[0], fx.Node)
    ):
        return _cast(c.dtype(dtype.args[0]))(c, x)
    if not isinstance(dtype, torch.dtype):
        raise Unliftable
    return _cast(str(dtype).removeprefix("torch."))(c, x)


def _type_as(c: Context, x: Any, other: Any) -> Lifted:
    return _cast(c.dtype(tensor(other)))(c, x)


def clone(c: Context, x: Any, *, memory_format: Any = torch.preserve_format) -> Lifted:
    """Memory of its own, which only a write could tell: what would then be seen is copied again."""
    if memory_format is not torch.preserve_format:
        return contiguous(c, x, memory_format=memory_format)
    return Identity(), (tensor(x),)


CASTS: Mapping[str, Entry] = {
    "float": _cast("float32"),
    "double": _cast("float64"),
    "half": _cast("float16"),
    "bfloat16": _cast("bfloat16"),
    "to": _to,
    "type": _to,
    "type_as": _type_as,
    "clone": clone,
}
"""Methods by name."""
