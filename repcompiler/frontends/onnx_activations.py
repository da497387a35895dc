"""The ONNX operators that act on each number by itself, or bring the image to another resolution.

Each returns what `Lift` is to put in the node's place; None, or a refusal, where this node has a form outside the algebra.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import onnx_ir

from repcompiler.frontends.onnx_channels import per_channel
from repcompiler.frontends.onnx_lift import Lift, Lifted, Operator, array_of, attribute
from repcompiler.frontends.onnx_opaque import STANDARD
from repcompiler.frontends.slopes import chosen, extreme
from repcompiler.ir import Value
from repcompiler.ops import Clip, DepthToSpace, Gated, HardSigmoid, Identity, Odd, PRelu, Relu, Resize, SpaceToDepth


def relu(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """max(x, 0)."""
    return Lifted(Relu(), (lift.data(node),))


def hard_swish(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """x clip(x / 6 + 1/2, 0, 1)."""
    return Lifted(Gated("hardswish"), (lift.data(node),))


def hard_sigmoid(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """clip(alpha x + beta, 0, 1)."""
    return Lifted(HardSigmoid(attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)), (lift.data(node),))


def gelu(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """x times the normal distribution function, or times its approximation by a tanh."""
    approximate = attribute(node, "approximate", "none")
    return Lifted(Gated("gelu_tanh" if approximate == "tanh" else "gelu"), (lift.data(node),))


def leaky_relu(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """One slope for all."""
    alpha = attribute(node, "alpha", 0.01)
    return Lifted(Identity() if alpha == 1 else PRelu(np.array([alpha], np.float32)), (lift.data(node),))


def prelu(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """One slope for all, or one a channel: a slope that varies along another axis (the last, for shape (C,)) is neither."""
    x, slope = lift.data(node), per_channel(lift.weight(node, 1), lift.data(node).shape)
    return Lifted(PRelu(slope[0]), (x,), lift.parameters(node)) if slope is not None and slope[1] == 1 else None


def where(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """By the sign of one of two values, of which the other is a multiple."""
    test = node.inputs[0].producer() if node.inputs[0] is not None else None
    if test is None or test.domain not in STANDARD or len(test.inputs) != 2:
        return None
    x, zero = lift.data(test), lift.data(test, 1)
    if zero.constant is None or x.constant is not None or zero.shape not in ((), (1,)) or array_of(zero).item() != 0:
        return None
    op = chosen(test.op_type.lower(), x, lift.data(node, 1), lift.data(node, 2))
    return Lifted(op, (x,)) if op is not None and x.rank else None


def clip(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Between constant bounds: attributes up to opset 10, inputs from there."""
    bounds = []
    for index, (name, default) in enumerate((("min", -inf), ("max", inf)), start=1):
        bound = lift.optional(node, index)
        if bound is not None and (bound.constant is None or array_of(bound).size != 1):
            return None
        bounds.append(float(attribute(node, name, default) if bound is None else array_of(bound).item()))
    return Lifted(Clip(*bounds), (lift.data(node),), lift.parameters(node))


def bound(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Min or Max of data and one constant number: a clip from one side; or of data and a multiple of it."""
    values = [lift.data(node, index) for index in range(len(node.inputs))]
    leaky = extreme(node.op_type == "Max", *values) if len(values) == 2 else None
    if leaky is not None:
        return Lifted(leaky[0], leaky[1:])
    data = [value for value in values if value.constant is None]
    limits = [value for value in values if value.constant is not None]
    if len(data) != 1 or any(array_of(limit).size != 1 for limit in limits) or not _as_is(data[0], limits):
        return None
    numbers = [float(array_of(limit).item()) for limit in limits]
    clip = Clip(-inf, min(numbers, default=inf)) if node.op_type == "Min" else Clip(max(numbers, default=-inf), inf)
    return Lifted(clip, (data[0],), tuple(limits))


def _as_is(x: Value, constants: Sequence[Value]) -> bool:
    """Whether constants of one number leave the rank of x as it is."""
    return x.rank is not None and all((constant.rank or 0) <= x.rank for constant in constants)


def odd(function: str) -> Operator:
    """A function of each number that changes its sign with it."""
    return lambda lift, node: Lifted(Odd(function), (lift.data(node),))


def power(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """The cube."""
    x, exponent = lift.data(node), lift.data(node, 1)
    if exponent.constant is None or array_of(exponent).size != 1 or not _as_is(x, [exponent]):
        return None
    return Lifted(Odd("cube"), (x,), (exponent,)) if float(array_of(exponent).item()) == 3 else None


def space_to_depth(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Pixels of a block, all channels of one after the other."""
    x = lift.data(node)
    return Lifted(SpaceToDepth(attribute(node, "blocksize", 1), "DCR"), (lift.expect(x, (None,) * 4),))


def depth_to_space(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Its inverse, in either order of the channels."""
    x, mode = lift.data(node), attribute(node, "mode", "DCR")
    if mode not in ("DCR", "CRD"):
        return None
    return Lifted(DepthToSpace(attribute(node, "blocksize", 1), mode), (lift.expect(x, (None,) * 4),))


def resize(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Nearest or linear, on the spatial axes, with weights that sum to 1: neither cubic nor extrapolated, nor antialiased.

    Upsample, and Resize before opset 11, have a form of their own: factors alone, pixels counted from the corner.
    """
    x, modern = lift.data(node), node.op_type == "Resize" and lift.opset >= 11
    mode = attribute(node, "mode", "nearest")
    coordinates = attribute(node, "coordinate_transformation_mode", "half_pixel" if modern else "asymmetric")
    rounding = attribute(node, "nearest_mode", "round_prefer_floor" if modern else "floor")
    if mode not in ("nearest", "linear") or coordinates not in COORDINATES or x.shape is None or len(x.shape) < 3:
        return None
    if any(attribute(node, name, plain) != plain for name, plain in PLAIN.items()):
        return None
    scales, sizes = _floats(lift, node, 2 if modern else 1), lift.integers(node, 3, "sizes") if modern else None
    if sizes and all(isinstance(n, int) for n in x.shape):
        scales = [size / n for size, n in zip(sizes, x.shape, strict=True) if isinstance(n, int)]
    if len(scales) != len(x.shape) or scales[:2] != [1.0, 1.0] or not all(map(_exact, scales)):
        return None
    if not modern and min(scales) < 1:
        return None  # onnxruntime rounds up then
    return Lifted(Resize(mode, coordinates, rounding, tuple(scales[2:])), (x,), lift.parameters(node))


PLAIN = {"antialias": 0, "exclude_outside": 0, "axes": None, "keep_aspect_ratio_policy": "stretch"}
COORDINATES = ("asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners")


def _exact(scale: float) -> bool:
    """Whether coordinates come out alike in any precision: the factor has a few binary digits, and so has no rounded half."""
    return scale > 0 and (64 * scale).is_integer()


def _floats(lift: Lift, node: onnx_ir.Node, index: int) -> list[float]:
    if "scales" in node.attributes:
        return list(node.attributes["scales"].as_floats())
    given = lift.optional(node, index)
    if given is None or given.shape == (0,):
        return []
    return [float(number) for number in lift.weight(node, index).reshape(-1)]
