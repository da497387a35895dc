"""Reshapes and transpositions of torch, whose sizes the graph may read from other tensors: x.view(b, 2, c // 2, h, w).

An extent that is not known is a symbol: the axis of a value.  It is the same number wherever the graph reads it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from math import prod
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import fx, nn

from repcompiler.frontends.fx_arithmetic import Context, Entry, Extent, Extents, Lifted, tensor
from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_memory import minds_order
from repcompiler.frontends.fx_modules import Unliftable
from repcompiler.ops import (
    ACTIVATIONS,
    BatchNorm,
    Concat,
    Conv,
    DynamicConv,
    GlobalAvgPool,
    Identity,
    Linear,
    Mul,
    Op,
    Opaque,
    Reshape,
    Scale,
    Select,
    Softmax,
    Sum,
    Transpose,
)
from repcompiler.ops.base import broadcast

# fmt: off
ELEMENTWISE = frozenset((
    "relu", "relu6", "leakyrelu", "leaky_relu", "prelu", "elu", "selu", "celu", "gelu", "silu", "mish", "sigmoid",
    "logsigmoid", "hardsigmoid", "hardswish", "hardtanh", "tanh", "softplus", "softsign", "clamp", "abs", "exp", "dropout",
    "softmax", "layernorm", "layer_norm",
))
# fmt: on
"""Modules, functions and methods that keep the shape and type of a floating-point tensor."""

ALIKE = (*ACTIVATIONS, BatchNorm, Identity, Scale, Softmax)
"""Operations whose result has the extents of the operand."""

BINARY = frozenset(("add", "iadd", "sub", "isub", "mul", "imul", "multiply", "truediv", "itruediv", "div", "divide"))
"""Functions and methods whose operands broadcast."""


class Undecided(Exception):
    """It depends on more than shapes."""


ARITHMETIC = (operator.floordiv, operator.mul, operator.add, operator.sub, operator.truediv, operator.mod)
COMPARISONS: tuple[Callable[..., Any], ...] = (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)

TYPES = ("dtype", "is_floating_point", "is_complex")
"""Attributes, methods and functions that are said of the type of a tensor, or of a type."""


def decide(term: Any, extents: Callable[[fx.Node], Extents | None]) -> Any:
    """The number, shape or truth value that a term has at every size; an extent that is not known stands for itself.

    Raises Undecided where it is computed from anything else than the `extents` of values.
    """
    if isinstance(term, (tuple, list)):
        return tuple(decide(item, extents) for item in term)
    if not isinstance(term, fx.Node):
        return term
    if term.op == "call_module" or term.kwargs or not term.args:
        raise Undecided
    shape = extents(term.args[0]) if isinstance(term.args[0], fx.Node) else None
    name, count = target_name(term.target), len(term.args)
    if shape is not None and (name in ("dim", "ndimension") or (term.target is getattr and term.args[1] == "ndim")):
        return len(shape)
    if shape is not None and ((name == "size" and count == 1) or (term.target is getattr and term.args[1] == "shape")):
        return shape
    args = [decide(arg, extents) for arg in term.args[1:]]
    if shape is not None and name in ("size", "sym_size") and count == 2:
        return _item(shape, args[0])
    if shape is not None:
        raise Undecided
    first = decide(term.args[0], extents)
    if term.target is operator.getitem:
        return _item(first, args[0])
    if term.target is len and isinstance(first, tuple):
        return len(first)
    if term.target in (*ARITHMETIC, *COMPARISONS):
        return term.target(*map(_known, (first, *args)))
    raise Undecided


def _item(shape: Any, index: Any) -> Any:
    bounds = (index.start, index.stop, index.step) if isinstance(index, slice) else (index,)
    if not isinstance(shape, tuple) or any(type(bound) not in (int, type(None)) for bound in bounds) or index is None:
        raise Undecided
    try:
        return shape[index]
    except IndexError as error:
        raise Undecided from error


def _known(value: Any) -> Any:
    """Numbers that hold at every size, alone or in a shape."""
    if any(type(item) not in (int, float) for item in (value if isinstance(value, tuple) else (value,))):
        raise Undecided
    return value


def reshape(c: Context, x: Any, *shape: Any) -> Lifted:
    """x.view(a, b), x.reshape((a, b)), x.view(y.size()): numbers, and extents of x that stay in their places."""
    if not c.is_floating(x) or (known := c.extents(x)) is None:
        raise Unliftable
    sizes = [_decided(size, c) for size in shape]
    if len(sizes) == 1 and isinstance(sizes[0], tuple):
        (sizes,) = sizes
    elif sizes == [None]:  # of how many sizes is not known
        raise Unliftable
    if not all(size is None or type(size) is int or isinstance(size, Extent) for size in sizes):
        raise Unliftable
    c.state(sizes)
    tail = 0
    while tail < min(len(sizes), len(known)) and sizes[-1 - tail] == known[-1 - tail]:
        tail += 1
    while tail and isinstance(known[-tail], int):
        tail -= 1
    target = [_keep(size, axis, known[: len(known) - tail]) for axis, size in enumerate(sizes[: len(sizes) - tail])]
    if target.count(-1) > 1:
        raise Unliftable
    return Reshape(tuple(target), tail), (x,)


def _decided(size: Any, c: Context) -> Any:
    """None for what is computed."""
    if isinstance(size, (tuple, list)):
        return tuple(_decided(item, c) for item in size)
    try:
        return decide(size, c.extents)
    except Undecided:
        return None


def _keep(size: Any, axis: int, known: Extents) -> int:
    """As ONNX says it: 0 for the extent that stands there, -1 for another one that is not known: the others leave no choice."""
    if size is None or isinstance(size, Extent):
        return 0 if size is not None and known[axis : axis + 1] == (size,) else -1
    if type(size) is not int or size == 0:
        raise Unliftable
    return size


def reshape_as(c: Context, x: Any, other: Any) -> Lifted:
    """To the shape of another tensor."""
    if (known := c.extents(tensor(other))) is None:
        raise Unliftable
    return reshape(c, x, known)


def flatten(c: Context, x: Any, start_dim: Any = 0, end_dim: Any = -1) -> Lifted:
    """The axes from `start_dim` to `end_dim` as one."""
    known = c.extents(tensor(x))
    if known is None or type(start_dim) is not int or type(end_dim) is not int:
        raise Unliftable
    start, end = (axis + len(known) if axis < 0 else axis for axis in (start_dim, end_dim))
    if not 0 <= start < end < len(known):
        raise Unliftable
    return reshape(c, x, *known[:start], -1, *known[end + 1 :])


def unflatten(c: Context, x: Any, dim: Any, sizes: Any) -> Lifted:
    """One axis as several."""
    known = c.extents(tensor(x)) or ()
    if type(dim) is not int or not -len(known) <= dim < len(known):
        raise Unliftable
    axis = dim % len(known)
    extent, sizes = known[axis], [_decided(size, c) for size in (sizes if isinstance(sizes, (tuple, list)) else (sizes,))]
    numbers = [size for size in sizes if type(size) is int and size > 0]
    if isinstance(extent, int) and sizes.count(-1) == 1 and len(numbers) == len(sizes) - 1:
        sizes = [extent // prod(numbers) if size == -1 else size for size in sizes]
    return reshape(c, x, *known[:axis], *sizes, *known[axis + 1 :])


def transpose(c: Context, x: Any, dim0: Any, dim1: Any) -> Lifted:
    """Two axes exchanged."""
    rank = _rank(c, x)
    if not all(type(dim) is int and -rank <= dim < rank for dim in (dim0, dim1)):
        raise Unliftable
    order = list(range(rank))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return Transpose(tuple(order)), (x,)


def permute(c: Context, x: Any, *dims: Any) -> Lifted:
    """All axes in another order."""
    rank = _rank(c, x)
    (order,) = dims if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else (dims,)
    if not all(type(axis) is int for axis in order) or len(order) != rank:
        raise Unliftable
    return Transpose(tuple(axis % rank for axis in order)), (x,)


def movedim(c: Context, x: Any, source: Any, destination: Any) -> Lifted:
    """Axes put elsewhere, the others in their order."""
    rank = _rank(c, x)
    taken, put = ([*dims] if isinstance(dims, (tuple, list)) else [dims] for dims in (source, destination))
    if len(taken) != len(put) or not all(type(dim) is int and -rank <= dim < rank for dim in (*taken, *put)):
        raise Unliftable
    places = {place % rank: axis % rank for axis, place in zip(taken, put, strict=True)}
    others = iter(axis for axis in range(rank) if axis not in places.values())
    return Transpose(tuple(places[place] if place in places else next(others) for place in range(rank))), (x,)


def contiguous(c: Context, x: Any, *, memory_format: Any = torch.contiguous_format) -> Lifted:
    """The same numbers in another order of memory, which a reshape right behind does not mind (nor a view, made a reshape).

    Nor does anything else, unless something shows that memory as another tensor later.
    """
    if memory_format is not torch.contiguous_format or any(user.op == "output" for user in c.node.users):
        raise Unliftable
    pending, seen = [c.node], {c.node}
    while pending:
        node = pending.pop()
        readers = [user for user in node.users if node is not c.node or not _reshapes(user, node)]
        if any(minds_order(user) for user in readers):
            raise Unliftable
        pending += [user for user in readers if user not in seen]
        seen.update(readers)
    return Identity(), (tensor(x),)


def _reshapes(user: fx.Node, node: fx.Node) -> bool:
    called = user.op in ("call_method", "call_function")
    return called and target_name(user.target) in RESHAPES and user.args[:1] == (node,)


def follow(op: Op, *known: Extents) -> tuple[int | Extent | None, ...] | None:
    """The extents of a result, given those of the operands, where they are some of them; None for each that is not."""
    first = known[0]
    if isinstance(op, Transpose):
        return tuple(first[axis] for axis in op.perm)
    if isinstance(op, Reshape):
        sizes = (first[axis] if size == 0 else None if size < 0 else size for axis, size in enumerate(op.target))
        return (*sizes, *first[len(first) - op.tail :])
    if isinstance(op, Linear):
        return (*first[:-1], None)
    if isinstance(op, GlobalAvgPool):
        return (*first[:2], *(1 for _ in first[2:] if not op.dropped))
    if isinstance(op, (Concat, Select)) or (isinstance(op, Conv) and keeps_pixels(op)):
        return (first[0], None, *first[2:])
    if isinstance(op, (Sum, Mul)) or (isinstance(op, Opaque) and op.label.lower() in (*ELEMENTWISE, *BINARY)):
        return broadcast(known)
    return first if isinstance(op, ALIKE) else None


def keeps_pixels(op: Conv | DynamicConv) -> bool:
    """Whether the result has as many pixels as the operand, whatever their number."""
    reach = (dilation * (size - 1) for dilation, size in zip(op.dilation, op.kernel_size, strict=True))
    return set(op.stride) == {1} and all(sum(pair) == more for pair, more in zip(op.padding, reach, strict=True))


def _rank(c: Context, x: Any) -> int:
    known = c.extents(tensor(x))
    if known is None or not c.is_floating(x):
        raise Unliftable
    return len(known)


RESHAPES = ("view", "reshape", "_unsafe_view")

LAYOUT: Mapping[str, Entry] = {
    **dict.fromkeys(RESHAPES, reshape),
    **dict.fromkeys(("reshape_as", "view_as"), reshape_as),
    "flatten": flatten,
    "unflatten": unflatten,
    **dict.fromkeys(("transpose", "swapaxes", "swapdims"), transpose),
    "permute": permute,
    **dict.fromkeys(("movedim", "moveaxis"), movedim),
    "contiguous": contiguous,
}
"""Methods by name; most are functions of torch and of aten too."""

CALLS: Mapping[type[nn.Module], Callable[[Any], tuple[Any, ...]]] = {
    nn.Flatten: lambda m: (torch.flatten, m.start_dim, m.end_dim),
    nn.Unflatten: lambda m: (torch.unflatten, m.dim, m.unflattened_size),
    nn.ChannelShuffle: lambda m: (F.channel_shuffle, m.groups),
}
"""Modules that say no more than the function they call: it, and what it is given beside the input."""
