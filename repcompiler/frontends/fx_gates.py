"""What torch has to make gates of, as operations of the neutral graph: sigmoids, softmaxes, means, and numbers taken apart.

Each entry is written with the signature of what it stands for, and takes the context first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import fx, nn

from repcompiler.frontends.fx_arithmetic import Context, Entry, Lifted, tensor
from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_layout import reshape
from repcompiler.frontends.fx_modules import Readers, Unliftable, spread
from repcompiler.ir import Shape
from repcompiler.ops import GlobalAvgPool, Identity, Select, Sigmoid, Softmax, Stack, Take


def _sigmoid(c: Context, x: Any) -> Lifted:
    return Sigmoid(), (_shaped(c, x)[0],)


def _softmax(c: Context, x: Any, dim: Any, dtype: Any = None) -> Lifted:
    x, shape = _shaped(c, x)
    if dtype is not None:
        raise Unliftable
    return Softmax(_axis(dim, len(shape))), (x,)


def _functional_softmax(c: Context, x: Any, dim: Any = None, _stacklevel: Any = 3, dtype: Any = None) -> Lifted:
    return _softmax(c, x, dim, dtype)


def _aten_softmax(c: Context, x: Any, dim: Any, half_to_float: Any) -> Lifted:
    return _softmax(c, x, dim, half_to_float or None)


def mean_of_pixels(c: Context, x: Any, dim: Any = None, keepdim: Any = False, *, dtype: Any = None) -> Lifted:
    """Over all of them."""
    x, shape = _shaped(c, x)
    axes = dim if isinstance(dim, (tuple, list)) else (dim,)
    if type(keepdim) is not bool or dtype is not None or len(shape) < 3:
        raise Unliftable
    if sorted(_axis(axis, len(shape)) for axis in axes) != list(range(2, len(shape))):
        raise Unliftable
    return GlobalAvgPool(0 if keepdim else len(shape) - 2), (x,)


def _adaptive(axes: int) -> Entry:
    def lift(c: Context, x: Any, output_size: Any) -> Lifted:
        x, shape = _shaped(c, x)
        if len(shape) != axes + 2:
            raise Unliftable
        return _whole(axes, output_size), (x,)

    return lift


def _whole(axes: int, size: Any) -> GlobalAvgPool:
    """An adaptive average pooling to one pixel."""
    if set(spread(size, axes)) != {1}:
        raise Unliftable
    return GlobalAvgPool()


def stack(c: Context, tensors: Any, dim: Any = 0) -> Lifted:
    """Side by side along a new axis."""
    parts = [_shaped(c, part) for part in tensors] if isinstance(tensors, (tuple, list)) else []
    if not parts or len({len(shape) for _, shape in parts}) > 1 or any(c.constant(part) is not None for part, _ in parts):
        raise Unliftable
    return Stack(_axis(dim, len(parts[0][1]) + 1), new=True), tuple(part for part, _ in parts)


def stack_singles(c: Context, tensors: Any, dim: Any = 0) -> Lifted:
    """A concatenation along an axis of which each part has one number."""
    _, parts = stack(c, tensors, dim)
    axis = _axis(dim, len(_shaped(c, parts[0])[1]))
    if any(_shaped(c, part)[1][axis] != 1 for part in parts):
        raise Unliftable
    return Stack(axis, new=False), parts


def select(c: Context, x: Any, dim: Any, index: Any) -> Lifted:
    """What is at one index of an axis, which goes."""
    x, shape = _shaped(c, x)
    axis = _axis(dim, len(shape))
    return Take(axis, _index(index, shape, axis), keep=False), (x,)


def _narrow(c: Context, x: Any, dim: Any, start: Any, length: Any) -> Lifted:
    """One place along an axis, or channels."""
    x, shape = _shaped(c, x)
    axis = _axis(dim, len(shape))
    if length == 0 or (length != 1 and (axis != 1 or len(shape) < 3)):
        raise Unliftable
    if length != 1:
        first = _index(start, shape, axis)
        return Select(tuple(range(first, first + length))), (x,)
    return Take(axis, _index(start, shape, axis), keep=True), (x,)


def _squeeze(c: Context, x: Any, dim: Any) -> Lifted:
    x, shape = _shaped(c, x)
    gone = {_axis(axis, len(shape)) for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))}
    if any(shape[axis] != 1 for axis in gone):
        raise Unliftable
    return reshape(c, x, *(size for axis, size in enumerate(c.extents(x) or ()) if axis not in gone))


def _unsqueeze(c: Context, x: Any, dim: Any) -> Lifted:
    x, shape = _shaped(c, x)
    known, axis = c.extents(x) or (), _axis(dim, len(shape) + 1)
    return reshape(c, x, *known[:axis], 1, *known[axis:])


def _expand_as(c: Context, x: Any, other: Any) -> Lifted:
    """Which a product with that very tensor does by itself."""
    pairs = [{*user.args} for user in c.node.users if target_name(user.target) == "mul" and not user.kwargs]
    if not pairs or len(pairs) < len(c.node.users) or any(pair != {c.node, other} for pair in pairs):
        raise Unliftable
    return Identity(), (_shaped(c, x)[0],)


def _shaped(c: Context, x: Any) -> tuple[fx.Node, Shape]:
    """A floating-point tensor of known rank."""
    shape = c.shape(tensor(x))
    if shape is None or not c.is_floating(x):
        raise Unliftable
    return x, shape


def _axis(dim: Any, rank: int) -> int:
    if type(dim) is not int or not -rank <= dim < rank:
        raise Unliftable
    return dim % rank


def _index(index: Any, shape: Shape, axis: int) -> int:
    extent = shape[axis]
    if type(index) is not int or not isinstance(extent, int) or not -extent <= index < extent:
        raise Unliftable
    return index % extent


GATES: Mapping[str, Entry] = {
    "sigmoid": _sigmoid,
    "softmax": _softmax,
    "select": select,
    "narrow": _narrow,
    "squeeze": _squeeze,
    "unsqueeze": _unsqueeze,
    "expand_as": _expand_as,
}
"""Methods by name; most are functions of torch and of aten too."""

POOLS = {f"adaptive_avg_pool{axes}d": _adaptive(axes) for axes in (1, 2, 3)}

ATEN: Mapping[str, Entry] = {**GATES, **POOLS, "_softmax": _aten_softmax, "stack": stack}
"""What torch.export makes of a program, by name."""

FUNCTIONS: Mapping[Any, Entry] = {
    **{getattr(torch, name): entry for name, entry in GATES.items() if hasattr(torch, name)},
    **{getattr(F, name): entry for name, entry in POOLS.items()},
    torch.stack: stack,
    F.sigmoid: _sigmoid,
    F.softmax: _functional_softmax,
}
"""Functions by identity."""

MODULES: Readers = {
    nn.AdaptiveAvgPool1d: (lambda m: _whole(1, m.output_size), 3),
    nn.AdaptiveAvgPool2d: (lambda m: _whole(2, m.output_size), 4),
    nn.AdaptiveAvgPool3d: (lambda m: _whole(3, m.output_size), 5),
    nn.Sigmoid: (lambda m: Sigmoid(), None),
}

CALLS: Mapping[type[nn.Module], Callable[[Any], tuple[Any, ...]]] = {nn.Softmax: lambda m: (F.softmax, m.dim)}
"""Modules that say no more than the function they call: it, and what it is given beside the input."""
