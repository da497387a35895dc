"""Computing what must come out the same each time."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Deterministic(TorchDispatchMode):
    """Raises where random numbers are drawn: what is computed once may not be random."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags:
            raise TypeError(f"{func.name()} draws random numbers")
        return func(*args, **(kwargs or {}))
