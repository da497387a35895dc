"""New modules and parameters of a traced region, and the nodes that read them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from repcompiler.ops import Array


@dataclass(frozen=True)
class Place:
    """Where something new goes: in whose place, of what type, and whether it is trained."""

    name: str
    """What its module or parameter is called, but for a suffix that makes it unique."""
    dtype: torch.dtype
    device: torch.device
    trainable: bool
    rank: int | None
    """Of the result."""
    sources: frozenset[str] = frozenset()
    """The modules and tensors it is made of."""


Made = dict[tuple[Any, ...], str]
"""The names of a region's new modules: by what they are made of, how they are shaped, and a hash of their numbers."""


class Writer:
    """Adds what is new at the insertion point of the region's graph."""

    def __init__(self, region: fx.GraphModule, place: Place, made: Made) -> None:
        self.region, self.graph, self.place, self.made = region, region.graph, place, made

    def _module(self, module: Any, x: fx.Node, weight: Array, bias: Array) -> fx.Node:
        """A call of a new module: of one made before, where that is made of the same and has the same numbers."""
        place = self.place
        numbers = [sha256(np.asarray(array, np.float64).tobytes()).digest() for array in (weight, bias)]
        key = (repr(module), place.sources, place.dtype, place.device, place.trainable, *numbers)
        if key in self.made:
            return self.graph.call_module(self.made[key], (x,))
        module.weight = nn.Parameter(self._tensor(weight), self.place.trainable)
        if module.bias is not None:
            module.bias = nn.Parameter(self._tensor(bias), self.place.trainable)
        module.training = self.region.training
        name = self.made[key] = self._fresh("")
        self.region.add_submodule(name, module)
        return self.graph.call_module(name, (x,))

    def _parameter(self, suffix: str, array: Array) -> fx.Node:
        """A get_attr of a new parameter, or of a buffer where it is not trained."""
        name = self._fresh(suffix)
        path, _, leaf = name.rpartition(".")
        owner = self.region
        for part in path.split(".") if path else ():
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        tensor = self._tensor(array)
        if self.place.trainable and tensor.is_floating_point():
            owner.register_parameter(leaf, nn.Parameter(tensor))
        else:
            owner.register_buffer(leaf, tensor)
        return self.graph.get_attr(name)

    def _tensor(self, array: Array) -> torch.Tensor:
        if array.dtype.kind in "iub":
            return torch.tensor(array, device=self.place.device)
        return torch.tensor(np.asarray(array, np.float64)).to(self.place.device, self.place.dtype)

    def _fresh(self, suffix: str) -> str:
        """A path that nothing in the region has."""
        wish = f"{self.place.name}_merged" + (f"_{suffix}" if suffix else "")
        name, count = wish, 1
        while _has(self.region, name):
            name, count = f"{wish}_{count}", count + 1
        return name


def _has(module: Any, path: str) -> bool:
    for part in path.split("."):
        if not hasattr(module, part):
            return False
        module = getattr(module, part)
    return True
