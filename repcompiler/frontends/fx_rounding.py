"""What rounding may change: two runs that agree but for it, and one in which each result differs in its last bit, at random.

What the second changes in the outputs is what rounding does to them, also where no input leads: a norm of numbers that are
equal but for rounding makes something of that alone.
Source: Vignes, A stochastic arithmetic for reliable scientific computation, 1993; Parker, Monte Carlo Arithmetic, 1997.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only


def agree(expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor]) -> bool:
    """Equal up to what the order of a parallel sum may change."""
    try:
        torch.testing.assert_close(list(actual), list(expected), equal_nan=True)
    except AssertionError:
        return False
    return True


class OtherRounding(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered; the same seed, the same numbers."""

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.random = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(returned.alias_info is not None for returned in func._schema.returns):  # a view, or what was written to
            return result
        nudged: Callable[[Any], Any] = self._nudged
        return tree_map_only(torch.Tensor, nudged, result)

    def _nudged(self, result: torch.Tensor) -> torch.Tensor:
        if not result.is_floating_point():
            return result
        ways = torch.randint(2, result.shape, generator=self.random).to(result.device) * 2 - 1
        return result * (1 + torch.finfo(result.dtype).eps * ways.to(result.dtype))
