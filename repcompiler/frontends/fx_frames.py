"""Padding whose frame is then written by slice assignment, as one operation.

    out = F.pad(y, [p, p, p, p]);  out[:, :, :p, :] = f;  out[:, :, -p:, :] = f;  out[:, :, :, :p] = f;  out[:, :, :, -p:] = f

Until its last write nobody reads `out`, and the writes leave no zero in it: so `out` is y in a frame of f.  That is how the
authors of the diverse branch block (BNAndPadLayer) and of ECBSR surround a map with what it makes of zero.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import fx, nn

from repcompiler.algebra import float64
from repcompiler.frontends.frames import framed as frame
from repcompiler.frontends.frames import overwrite, settled, side_of
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.frontends.fx_run import SHAPE
from repcompiler.ir import Node, Shape
from repcompiler.ops import Array, Op, Padding


@dataclass(frozen=True)
class Framed:
    """What surrounds a map, and who writes it."""

    map: fx.Node
    padding: Padding
    writes: tuple[fx.Node, ...]
    """In order; the value is complete with the last of them."""


def frames(region: fx.GraphModule) -> dict[fx.Node, Framed]:
    """Every padding that is framed, by the node that pads."""
    order = {node: index for index, node in enumerate(region.graph.nodes)}
    modules = dict(region.named_modules())
    found = {}
    for node in order:
        padding = _padding(node, modules)
        users = sorted(node.users, key=order.__getitem__)
        count = next((index for index, user in enumerate(users) if not _is_write(user, node)), len(users))
        if padding and node.all_input_nodes and _covers(padding, [user.args[1] for user in users[:count]]):
            found[node] = Framed(node.all_input_nodes[0], padding, tuple(users[:count]))
    return found


def framed_op(framed: Framed, values: Sequence[Array | None], shape: Shape, surrounded: Node | None) -> Op:
    """The operation, if all that is written (in double precision) is the same number at every pixel of a channel."""
    first = _vector(values[0], shape)
    if not all(np.array_equal(first, _vector(value, shape)) for value in values[1:]):
        raise Unliftable
    return frame(framed.padding, settled(first, surrounded, float(np.finfo(np.float64).eps)))


def _vector(value: Array | None, shape: Shape) -> Array:
    """A broadcast constant as one number a channel."""
    if value is None or value.ndim > len(shape) or not isinstance(shape[1], int):
        raise Unliftable
    sizes = (1,) * (len(shape) - value.ndim) + value.shape
    if any(size != 1 for axis, size in enumerate(sizes) if axis != 1) or sizes[1] not in (1, shape[1]):
        raise Unliftable
    return np.broadcast_to(float64(value).reshape(-1), shape[1])


def _padding(node: fx.Node, modules: Mapping[str, nn.Module]) -> Padding | None:
    """The amounts before and after each spatial axis, of what pads all of them and crops none."""
    amounts: Any = None
    if node.target is F.pad and len(node.args) > 1 and node.kwargs.get("mode", (*node.args, "constant")[2]) == "constant":
        amounts = node.args[1]
    elif node.op == "call_module" and type(modules[str(node.target)]) in (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d):
        amounts = modules[str(node.target)].padding
    if not isinstance(amounts, (tuple, list)) or not all(type(amount) is int and amount >= 0 for amount in amounts):
        return None
    shape, _ = node.meta.get(SHAPE, ((), ""))
    axes = tuple(zip(amounts[::2], amounts[1::2], strict=True))[::-1]
    return axes if len(shape) == len(axes) + 2 else None


def _is_write(user: fx.Node, target: fx.Node) -> bool:
    alone = not user.users and all(arg is not target for arg in user.args[1:])
    return user.target is operator.setitem and user.args[0] is target and alone


def _covers(padding: Padding, indices: Sequence[Any]) -> bool:
    """Whether slices of one spatial axis each, none of which reaches the map, are all of the frame."""
    none: Padding = ((0, 0),) * len(padding)
    zeros, frame = padding, none
    for index in indices:
        side = side_of(index, len(padding) + 2)
        if side is None:
            return False
        zeros, frame = overwrite(zeros, frame, side)
    return bool(indices) and zeros == none
