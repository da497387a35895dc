"""A torch model in double precision, whatever it says of types: what it casts, creates or keeps in others is double too."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from repcompiler.frontends.fx_calls import is_in_place
from repcompiler.frontends.fx_containers import OF_A_TYPE

DOUBLE = {
    torch.float32: torch.float64,
    torch.float16: torch.float64,
    torch.bfloat16: torch.float64,
    torch.complex64: torch.complex128,
}

CASTS = dict.fromkeys((torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16), torch.Tensor.double)


class InDouble(TorchFunctionMode):
    """Gives every function of torch double tensors, and makes its results double.

        softmax(q @ k.float(), dtype=torch.float32)        torch.arange(n).float()        torch.zeros(shape)

    A function that writes into its first argument gets that very one.  What was answered by a type stays as it was answered.
    """

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        if func is torch._assert and str(args[-1]).startswith(OF_A_TYPE):
            return None
        written = args[:1] if is_in_place(func) else ()
        func = CASTS.get(func, func)
        result = func(*written, *_doubled(args[len(written) :]), **_doubled(kwargs or {}))
        return result if written else _doubled(result)


def _doubled(values: Any) -> Any:
    return pytree.tree_map(_double, values)


def _double(value: Any) -> Any:
    if isinstance(value, torch.dtype):
        return DOUBLE.get(value, value)
    return value.to(DOUBLE[value.dtype]) if isinstance(value, torch.Tensor) and value.dtype in DOUBLE else value
