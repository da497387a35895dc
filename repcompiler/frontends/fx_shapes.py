"""The shapes in a traced model, as far as they do not depend on the size of what it is given.

The model is run on its examples and once more on larger ones (batch and spatial axes), or on smaller images where it takes no
larger ones, and an extent that changes is unknown.  A model that takes no other size has fixed it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import fx

from repcompiler.document import InputSpec
from repcompiler.frontends.fx_memory import WRITES
from repcompiler.frontends.fx_run import (
    AXES,
    SHAPE,
    TYPICAL,
    Observations,
    Program,
    Seen,
    Values,
    only_shapes,
    replace_tensors,
    tensors_of,
)
from repcompiler.frontends.fx_trace import regions
from repcompiler.ir import Dim

LARGER = {1: ((67,), (64,)), 2: ((67, 97), (64, 96)), 3: ((19, 35, 67), (16, 32, 64))}
"""Pixels to add an axis: odd ones first, then such that a network of strides that must divide its input takes."""

ODD, STRIDES, TWICE, HALF, SAME = range(5)
"""How an image is made larger: by the former, by the latter, or twofold, which whatever divides it divides too; or smaller."""

ONE_MORE, TWICE_AS_MANY, AS_MANY = range(3)
"""How much larger a batch is made: a video model takes a number of clips, all frames of each side by side."""

ATTEMPTS = (
    (ONE_MORE, ODD),
    (ONE_MORE, STRIDES),
    (TWICE_AS_MANY, ODD),
    (TWICE_AS_MANY, STRIDES),
    (TWICE_AS_MANY, TWICE),
    (AS_MANY, ODD),
    (AS_MANY, STRIDES),
    (AS_MANY, TWICE),
    (ONE_MORE, HALF),
    (TWICE_AS_MANY, HALF),
    (ONE_MORE, SAME),
    (TWICE_AS_MANY, SAME),
    (AS_MANY, HALF),
)
"""What is tried in turn: (batch, image)."""


def learn_shapes(model: fx.GraphModule, program: Program, values: Values, seen: Observations) -> list[InputSpec]:
    """Keep in the nodes' meta what a run on `values` has `seen`, as far as a run on larger ones agrees.

    Returns what the model can be fed: axes that can be larger are free.
    """
    typical = only_shapes(seen)
    tensors = tensors_of(model, values)
    changed = tensors
    for enlarged in larger([*tensors.values()]):
        try:
            _, more = program.observe(replace_tensors(values, iter(enlarged)))
        except Exception:  # not a size it can take: whatever it raises
            continue
        changed = dict(zip(tensors, enlarged, strict=True))
        for key, found in more.items():
            seen.setdefault(key, Seen()).add(found)
        break
    for path, region in regions(model):
        for node in region.graph.nodes:
            if (path, node.name) in seen:
                found = seen[path, node.name]
                node.meta[WRITES] = tuple(sorted(found.writes))
                if (shape := found.shape()) is not None:
                    node.meta[SHAPE] = (shape, *found.dtypes)
                    node.meta[TYPICAL] = typical.get((path, node.name))
    symbols: dict[str, int] = {}
    return [_spec(name, tensor, changed[name], symbols) for name, tensor in tensors.items()]


def larger(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """Larger tensors in the place of those that a model takes: of sizes that it may take, too, the likeliest first."""
    for batch, image in ATTEMPTS:
        yield [_enlarge(tensor, batch, image) for tensor in tensors]


def _enlarge(tensor: torch.Tensor, batch: int, image: int) -> torch.Tensor:
    """The tensor repeated to a larger extent along its batch and spatial axes, or cut to a smaller one."""
    more = [0] * tensor.ndim
    if tensor.ndim and batch != AS_MANY:
        more[0] = 1 if batch == ONE_MORE else len(tensor)
    if tensor.ndim in AXES and image != SAME:
        changed = {TWICE: tensor.shape[2:], HALF: [-(extent // 2) for extent in tensor.shape[2:]]}
        more[2:] = changed[image] if image in changed else LARGER[tensor.ndim - 2][image]
    for axis, (extent, extra) in enumerate(zip(tensor.shape, more, strict=True)):
        if extent and extra:
            tensor = tensor.index_select(axis, torch.arange(extent + extra, device=tensor.device) % extent)
    return tensor


def _spec(name: str, tensor: torch.Tensor, changed: torch.Tensor, symbols: dict[str, int]) -> InputSpec:
    """An input whose axes are free where `changed` has another extent.  Equal extents share a symbol."""
    shape: list[Dim] = list(tensor.shape)
    axes = ("batch", "", *AXES.get(tensor.ndim, ("",) * tensor.ndim))
    for axis, (extent, other) in enumerate(zip(tensor.shape, changed.shape, strict=True)):
        if extent != other:
            known = symbols.setdefault(axes[axis], extent)
            shape[axis] = axes[axis] if known == extent else f"{name}_{axes[axis]}"
    return InputSpec(name, tuple(shape), str(tensor.dtype).removeprefix("torch."))
