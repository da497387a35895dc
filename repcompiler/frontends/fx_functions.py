"""What torch's functions, operators and methods are, as operations of the neutral graph.

Each entry is written with the signature of what it stands for, and takes the context first.  A call that does not fit it, or
says something that no equation covers, is not lifted.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import fx

from repcompiler.frontends import fx_activations, fx_gates
from repcompiler.frontends.fx_arithmetic import (
    ARITHMETIC,
    Context,
    Entry,
    Lifted,
    add,
    div,
    mul,
    needed,
    neg,
    optional,
    sub,
    tensor,
)
from repcompiler.frontends.fx_casts import CASTS, clone
from repcompiler.frontends.fx_indexing import CHOICES, channel_shuffle, concatenate, getitem
from repcompiler.frontends.fx_layout import ARITHMETIC as ON_EXTENTS
from repcompiler.frontends.fx_layout import LAYOUT, Undecided, decide
from repcompiler.frontends.fx_modules import (
    Unliftable,
    average,
    channel_padding,
    convolution,
    maximum,
    or_zeros,
    transposed,
    zero_padding,
)
from repcompiler.frontends.fx_norms import aten_batch_norm, batch_norm, instance_norm
from repcompiler.frontends.fx_products import PRODUCTS, matmul
from repcompiler.frontends.fx_samples import computed_kernel
from repcompiler.frontends.fx_sums import SUMS
from repcompiler.ops import Identity, Linear


def _conv(
    c: Context, x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: Any = 1
) -> Lifted:
    if c.constant(weight) is None:
        (rank,) = {None if (shape := c.shape(tensor(weight))) is None else len(shape)}
        return computed_kernel(c, _of_rank(c, x, rank or 0), weight, optional(c, bias), stride, padding, dilation, groups)
    kernel = needed(c, weight)
    return convolution(kernel, optional(c, bias), stride, padding, dilation, groups), (_of_rank(c, x, kernel.ndim),)


def _conv_transpose(
    c: Context,
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: Any = 1,
    dilation: Any = 1,
) -> Lifted:
    kernel = needed(c, weight)
    op = transposed(kernel, optional(c, bias), stride, padding, output_padding, groups, dilation)
    return op, (_of_rank(c, x, kernel.ndim),)


def _convolution(
    c: Context,
    x: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    is_transposed: Any,
    output_padding: Any,
    groups: Any,
) -> Lifted:
    if is_transposed:
        return _conv_transpose(c, x, weight, bias, stride, padding, output_padding, groups, dilation)
    return _conv(c, x, weight, bias, stride, padding, dilation, groups)


def _linear(c: Context, x: Any, weight: Any, bias: Any = None) -> Lifted:
    matrix = needed(c, weight)
    if matrix.ndim != 2:
        raise Unliftable
    return Linear(matrix, or_zeros(optional(c, bias), matrix.shape[0])), (tensor(x),)


def _avg_pool(axes: int) -> Entry:
    def lift(
        c: Context,
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: Any = False,
        count_include_pad: Any = True,
        divisor_override: Any = None,
    ) -> Lifted:
        op = average(c.shape(tensor(x)), axes, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return op, (_of_rank(c, x, axes + 2),)

    return lift


def _max_pool(axes: int) -> Entry:
    def lift(
        c: Context,
        x: Any,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: Any = False,
        return_indices: Any = False,
    ) -> Lifted:
        shape = c.shape(tensor(x))
        op = maximum(shape, axes, kernel_size, stride, padding, dilation, ceil_mode, return_indices)
        return op, (_of_rank(c, x, axes + 2),)

    return lift


def _pad(c: Context, x: Any, pad: Any, mode: Any = "constant", value: Any = None) -> Lifted:
    shape = c.shape(x)
    if mode != "constant":
        raise Unliftable(f"its mode is {mode}")
    if shape is not None and len(shape) > 2 and len(pad) == 2 * (len(shape) - 1):
        return channel_padding(pad, value), (tensor(x),)
    if shape is None or len(pad) % 2 or len(pad) > 2 * (len(shape) - 2):
        raise Unliftable("it is not known to pad an image")
    missing = len(shape) - 2 - len(pad) // 2
    op = zero_padding(tuple(pad) + (0,) * (2 * missing), value)
    return op, (tensor(x),)


def _constant_pad(c: Context, x: Any, pad: Any, value: Any = 0) -> Lifted:
    return _pad(c, x, pad, "constant", value)


def _dropout(c: Context, x: Any, p: Any = 0.5, training: Any = True, inplace: Any = False) -> Lifted:
    if training is not False:
        raise Unliftable
    return Identity(), (tensor(x),)


def _alpha_dropout(c: Context, x: Any, p: Any = 0.5, training: Any = False, inplace: Any = False) -> Lifted:
    return _dropout(c, x, p, training)


def _aten_dropout(c: Context, x: Any, p: Any, train: Any) -> Lifted:
    return _dropout(c, x, p, train)


def _of_rank(c: Context, arg: Any, rank: int) -> fx.Node:
    """With a batch: torch also takes one image."""
    shape = c.shape(tensor(arg))
    if shape is not None and len(shape) != rank:
        raise Unliftable("it takes one image, without a batch")
    return tensor(arg)


METHODS: Mapping[str, Entry] = {
    **ARITHMETIC,
    **LAYOUT,
    **PRODUCTS,
    **CASTS,
    **SUMS,
    **CHOICES,
    **fx_activations.METHODS,
    **fx_gates.GATES,
}
"""Methods by name."""

ATEN: Mapping[str, Entry] = {
    **ARITHMETIC,
    **LAYOUT,
    **PRODUCTS,
    **SUMS,
    "clone": clone,
    **fx_activations.ATEN,
    **fx_gates.ATEN,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _conv),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _conv_transpose),
    "convolution": _convolution,
    "linear": _linear,
    **dict.fromkeys(("batch_norm", "instance_norm"), aten_batch_norm),
    "pad": _pad,
    "constant_pad_nd": _constant_pad,
    "dropout": _aten_dropout,
    "cat": concatenate,
    **CHOICES,
    "channel_shuffle": channel_shuffle,
    **{f"avg_pool{axes}d": _avg_pool(axes) for axes in (1, 2, 3)},
    **{f"max_pool{axes}d": _max_pool(axes) for axes in (1, 2, 3)},
}
"""What torch.export makes of a program, by name."""

_TORCH = ("conv1d", "conv2d", "conv3d", "batch_norm", "constant_pad_nd", "dropout", "avg_pool1d")

FUNCTIONS: Mapping[Any, Entry] = {
    **{
        getattr(torch, name): ATEN[name]
        for name in (*ARITHMETIC, *LAYOUT, *PRODUCTS, *SUMS, *CHOICES, *_TORCH)
        if hasattr(torch, name)
    },
    **{getattr(F, name): ATEN[name] for name in ATEN if hasattr(F, name)},
    **fx_activations.FUNCTIONS,
    **fx_gates.FUNCTIONS,
    F.batch_norm: batch_norm,
    F.instance_norm: instance_norm,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d), _dropout),
    **dict.fromkeys((F.alpha_dropout, F.feature_alpha_dropout), _alpha_dropout),
    operator.add: add,
    operator.iadd: add,
    operator.sub: sub,
    operator.isub: sub,
    operator.mul: mul,
    operator.pow: fx_activations.power,
    operator.imul: mul,
    operator.truediv: div,
    operator.itruediv: div,
    operator.neg: neg,
    operator.matmul: matmul,
    torch.clone: clone,
    operator.getitem: getitem,
    **dict.fromkeys((torch.cat, torch.concat, torch.concatenate), concatenate),
    torch.channel_shuffle: channel_shuffle,
}
"""Functions by identity."""


NUMPY = {"axis": "dim", "keepdims": "keepdim"}
"""Names of arguments that torch takes as well."""


def call_op(c: Context, target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Lifted:
    """The operation that a call of a function or method is."""
    if isinstance(target, torch._ops.OpOverload):
        entry = ATEN.get(target.overloadpacket.__name__) if target.namespace == "aten" else None
    else:
        entry = METHODS.get(target) if isinstance(target, str) else FUNCTIONS.get(target)
    if entry is None:
        raise Unliftable
    args = [_number(c, arg) for arg in args]
    first = [kwargs[name] for name in ("input", "self") if name in kwargs]
    rest = {NUMPY.get(name, name): _number(c, value) for name, value in kwargs.items() if name not in ("input", "self")}
    try:
        _signature(entry).bind(c, *first, *args, **rest)
    except TypeError as error:
        raise Unliftable from error
    return entry(c, *first, *args, **rest)


def _number(c: Context, arg: Any) -> Any:
    """The number that an argument is at every size, as in groups=x.shape[1]; else the argument."""
    if isinstance(arg, fx.Node) and (arg.target in (operator.getitem, "size", *ON_EXTENTS)):
        with suppress(Undecided):
            found = decide(arg, c.extents)
            return found if type(found) is int else arg
    return arg


_signature = cache(inspect.signature)
