"""New modules and parameters of a traced region, and the nodes that read them."""

from __future__ import annotations

from dataclasses import dataclass
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


class Writer:
    """Adds what is new at the insertion point of the region's graph."""

    def __init__(self, region: fx.GraphModule, place: Place) -> None:
        self.region, self.graph, self.place = region, region.graph, place

    def _module(self, module: Any, x: fx.Node, weight: Array, bias: Array) -> fx.Node:
        module.weight = nn.Parameter(self._tensor(weight), self.place.trainable)
        if module.bias is not None:
            module.bias = nn.Parameter(self._tensor(bias), self.place.trainable)
        module.training = self.region.training
        name = self._fresh("")
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
