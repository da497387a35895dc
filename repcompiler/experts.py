"""Dynamic convolutions whose kernel is a mixture of experts: (sum_i a_i W_i + W_0) * x + b, with gates a of any sum.

What is linear in the kernel is done to each expert, and to what the mixture adds to them: an expert whose gate is 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import prod

from repcompiler.algebra import float64, namespace
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, DynamicConv, Linear, Reshape
from repcompiler.pattern import Pattern
from repcompiler.refusal import refuse

MIXED: Pattern = Reshape.of(Linear.of("gates", name="experts")) | Linear.of("gates", name="experts")
"""The kernel of a dynamic convolution."""


def map_experts(conv: DynamicConv, experts: Linear, change: Callable[[Conv, bool], Conv]) -> tuple[DynamicConv, Linear]:
    """The dynamic convolution of changed experts.

    `change` takes the convolution with one expert's kernel and the constant bias, and whether its gate is always 1; all results
    must agree in all but the kernel.
    """
    if experts.out_channels != prod(conv.weight_shape):
        refuse("it is not told how the mixed experts are laid out as one kernel")
    xp = namespace(experts.weight)
    columns = xp.concat([float64(experts.weight), float64(experts.bias)[:, None]], axis=1)
    gates = columns.shape[1] - 1
    changed = [change(conv.with_kernel(columns[:, index]), index == gates) for index in range(gates + 1)]
    weights = xp.stack([xp.reshape(float64(one.weight), (-1,)) for one in changed], axis=1)
    like = changed[-1]
    mixed = replace(conv, weight_shape=tuple(like.weight.shape), bias=like.bias, stride=like.stride, padding=like.padding)
    mixed = replace(mixed, dilation=like.dilation, groups=like.groups)
    return mixed, Linear(weights[:, :-1], weights[:, -1])


def apply_experts(conv: DynamicConv, experts: Linear, x: Expr | Value, gates: Value) -> Expr:
    """The dynamic convolution of `x`, its kernel mixed by `gates`."""
    kernel = experts(gates)
    return conv(x, kernel if conv.each else Reshape(conv.weight_shape)(kernel))
