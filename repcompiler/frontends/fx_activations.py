"""What torch has of activations and of other resolutions, as operations of the neutral graph: modules and functions.

Each entry for a function is written with the signature of what it stands for, and takes the context first.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name it has everywhere
from torch import fx, nn

from repcompiler.frontends.fx_arithmetic import Context, Entry, Lifted, tensor
from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_memory import is_known
from repcompiler.frontends.fx_modules import Readers, Unliftable, floating
from repcompiler.frontends.slopes import chosen, extreme
from repcompiler.ops import Clip, DepthToSpace, Gated, HardSigmoid, Identity, Odd, PRelu, Relu, Resize, SpaceToDepth

LINEAR = ("linear", "bilinear", "trilinear")
INTERPOLATIONS = {
    "nearest": ("nearest", "asymmetric", "floor"),
    "nearest-exact": ("nearest", "half_pixel", "round_prefer_ceil"),
    **dict.fromkeys(LINEAR, ("linear", "half_pixel", "floor")),
}
"""torch's modes, in ONNX's words: what is mixed, where a pixel lies, how its place is rounded."""


def interpolation(mode: Any, size: Any, scale_factor: Any, align_corners: Any) -> Resize:
    """From torch's arguments; one number holds for all axes, and None in `size` for one that is computed."""
    if mode not in INTERPOLATIONS or (size is None) == (scale_factor is None):
        raise Unliftable
    kind, coordinates, rounding = INTERPOLATIONS[mode]
    coordinates = "align_corners" if align_corners else coordinates
    given = scale_factor if size is None else size
    values = tuple(given) if isinstance(given, (tuple, list)) else (given,)
    if mode in LINEAR and values != (None,):  # these say how many axes there are
        values *= LINEAR.index(mode) + 1 if len(values) == 1 else 1
    if size is None and all(type(value) in (int, float) for value in values):
        return Resize(kind, coordinates, rounding, scales=tuple(map(float, values)))
    if size is None or not all(type(value) in (int, type(None)) for value in values):
        raise Unliftable
    return Resize(kind, coordinates, rounding, sizes=values)


def bounds(minimum: Any, maximum: Any) -> Clip:
    """Between two numbers, either of which may be missing."""
    if not all(type(bound) in (int, float, type(None)) for bound in (minimum, maximum)):
        raise Unliftable
    return Clip(-inf if minimum is None else float(minimum), inf if maximum is None else float(maximum))


def _slope(slope: Any) -> PRelu | Identity:
    if type(slope) not in (int, float):
        raise Unliftable
    if slope == 1:
        return Identity()
    return PRelu(np.array([float(slope)]))


def _gelu(approximate: Any) -> Gated:
    return Gated({"none": "gelu", "tanh": "gelu_tanh"}[approximate])


def _blocks(kind: type[SpaceToDepth | DepthToSpace], factor: Any) -> SpaceToDepth | DepthToSpace:
    if type(factor) is not int:
        raise Unliftable
    return kind(factor, "CRD")


def _upsample(m: Any) -> Resize:
    if m.recompute_scale_factor:
        raise Unliftable
    return interpolation(m.mode, m.size, m.scale_factor, m.align_corners)


MODULES: Readers = {
    nn.ReLU: (lambda m: Relu(), None),
    nn.ReLU6: (lambda m: bounds(m.min_val, m.max_val), None),
    nn.Hardtanh: (lambda m: bounds(m.min_val, m.max_val), None),
    nn.LeakyReLU: (lambda m: _slope(m.negative_slope), None),
    nn.SiLU: (lambda m: Gated("silu"), None),
    nn.GELU: (lambda m: _gelu(m.approximate), None),
    nn.Hardsigmoid: (lambda m: HardSigmoid(1 / 6, 0.5), None),
    nn.Hardswish: (lambda m: Gated("hardswish"), None),
    nn.Tanh: (lambda m: Odd("tanh"), None),
    nn.PReLU: (lambda m: PRelu(floating(m.weight)), None),
    nn.PixelUnshuffle: (lambda m: _blocks(SpaceToDepth, m.downscale_factor), 4),
    nn.PixelShuffle: (lambda m: _blocks(DepthToSpace, m.upscale_factor), 4),
    nn.Upsample: (_upsample, None),
    nn.UpsamplingNearest2d: (_upsample, 4),
    nn.UpsamplingBilinear2d: (_upsample, 4),
}


def _relu(c: Context, x: Any, inplace: Any = False) -> Lifted:
    return Relu(), (tensor(x),)


def _relu6(c: Context, x: Any, inplace: Any = False) -> Lifted:
    return Clip(0.0, 6.0), (tensor(x),)


def _hardtanh(c: Context, x: Any, min_val: Any = -1.0, max_val: Any = 1.0, inplace: Any = False) -> Lifted:
    return bounds(min_val, max_val), (tensor(x),)


def _clamp(c: Context, x: Any, min: Any = None, max: Any = None) -> Lifted:  # noqa: A002 - torch's names
    return bounds(min, max), (tensor(x),)


def _clamp_min(c: Context, x: Any, min: Any) -> Lifted:  # noqa: A002
    return bounds(min, None), (tensor(x),)


def _clamp_max(c: Context, x: Any, max: Any) -> Lifted:  # noqa: A002
    return bounds(None, max), (tensor(x),)


def _leaky_relu(c: Context, x: Any, negative_slope: Any = 0.01, inplace: Any = False) -> Lifted:
    return _slope(negative_slope), (tensor(x),)


def _silu(c: Context, x: Any, inplace: Any = False) -> Lifted:
    return Gated("silu"), (tensor(x),)


def _hardswish(c: Context, x: Any, inplace: Any = False) -> Lifted:
    return Gated("hardswish"), (tensor(x),)


def _hardsigmoid(c: Context, x: Any, inplace: Any = False) -> Lifted:
    return HardSigmoid(1 / 6, 0.5), (tensor(x),)


def _odd(function: str) -> Entry:
    return lambda c, x: (Odd(function), (tensor(x),))


def power(c: Context, x: Any, exponent: Any) -> Lifted:
    """The cube."""
    if exponent != 3:
        raise Unliftable
    return Odd("cube"), (tensor(x),)


def _gaussian(c: Context, x: Any, approximate: Any = "none") -> Lifted:
    return _gelu(approximate), (tensor(x),)


def _prelu(c: Context, x: Any, weight: Any) -> Lifted:
    slope = c.constant(weight)
    if slope is None or slope.ndim > 1:
        raise Unliftable
    return PRelu(slope.reshape(-1)), (tensor(x),)


def _where(c: Context, condition: Any, x: Any, other: Any) -> Lifted:
    """By the sign of one of them, of which the other is a multiple."""
    if not isinstance(condition, fx.Node) or not is_known(condition) or len(condition.args) != 2 or condition.kwargs:
        raise Unliftable
    compared, zero = tensor(condition.args[0]), condition.args[1]
    if compared not in (x, other) or not _is_zero(c, zero) or not c.is_settled(condition) or not c.is_floating(compared):
        raise Unliftable
    op = chosen(target_name(condition.target), *map(c.value, (compared, tensor(x), tensor(other))))
    if op is None:
        raise Unliftable
    return op, (compared,)


def _where_of(c: Context, x: Any, condition: Any, other: Any) -> Lifted:
    return _where(c, condition, x, other)


def _is_zero(c: Context, arg: Any) -> bool:
    number = c.constant(arg)
    return number is not None and number.size == 1 and number.item() == 0 and number.ndim <= 1


def _extreme(larger: bool) -> Entry:
    """Of a value and a multiple of it."""

    def lift(c: Context, x: Any, other: Any) -> Lifted:
        if not c.is_floating(x) or not c.is_floating(other):
            raise Unliftable
        found = extreme(larger, c.value(x), c.value(other))
        if found is None:
            raise Unliftable
        return found[0], (x if c.value(x) is found[1] else other,)

    return lift


def _pixel_unshuffle(c: Context, x: Any, downscale_factor: Any) -> Lifted:
    return _blocks(SpaceToDepth, downscale_factor), (_image(c, x, 4),)


def _pixel_shuffle(c: Context, x: Any, upscale_factor: Any) -> Lifted:
    return _blocks(DepthToSpace, upscale_factor), (_image(c, x, 4),)


def _interpolate(
    c: Context,
    x: Any,
    size: Any = None,
    scale_factor: Any = None,
    mode: Any = "nearest",
    align_corners: Any = None,
    recompute_scale_factor: Any = None,
    antialias: Any = False,
) -> Lifted:
    if recompute_scale_factor or antialias:
        raise Unliftable
    given = [*size] if isinstance(size, (tuple, list)) else [size]
    computed = tuple(part for part in given if isinstance(part, fx.Node))
    if computed:
        size = tuple(None if isinstance(part, fx.Node) else part for part in given)
    return interpolation(mode, size, scale_factor, align_corners), (_image(c, x), *computed)


def _upsample_nearest(c: Context, x: Any, output_size: Any, scale_factors: Any = None) -> Lifted:
    return interpolation("nearest", output_size, scale_factors, None), (_image(c, x),)


def _upsample_exact(c: Context, x: Any, output_size: Any, scale_factors: Any = None) -> Lifted:
    return interpolation("nearest-exact", output_size, scale_factors, None), (_image(c, x),)


def _upsample_linear(c: Context, x: Any, output_size: Any, align_corners: Any, scale_factors: Any = None) -> Lifted:
    return interpolation("linear", output_size, scale_factors, align_corners), (_image(c, x),)


def _image(c: Context, x: Any, rank: int | None = None) -> fx.Node:
    """A batch of images: torch also takes one."""
    shape = c.shape(tensor(x))
    if shape is None or len(shape) < 3 or rank not in (None, len(shape)):
        raise Unliftable
    return tensor(x)


ACTIVATIONS: Mapping[str, Entry] = {
    **dict.fromkeys(("relu", "relu_"), _relu),
    **dict.fromkeys(("clamp", "clamp_", "clip", "clip_"), _clamp),
    **dict.fromkeys(("clamp_min", "clamp_min_"), _clamp_min),
    **dict.fromkeys(("clamp_max", "clamp_max_"), _clamp_max),
    "prelu": _prelu,
    **dict.fromkeys(("max", "maximum"), _extreme(larger=True)),
    **dict.fromkeys(("min", "minimum"), _extreme(larger=False)),
    **dict.fromkeys(("tanh", "tanh_"), _odd("tanh")),
    **dict.fromkeys(("erf", "erf_"), _odd("erf")),
    **dict.fromkeys(("pow", "pow_"), power),
}
"""Methods by name, which are functions of torch and of aten too."""

METHODS: Mapping[str, Entry] = {**ACTIVATIONS, "where": _where_of}

ATEN: Mapping[str, Entry] = {
    **ACTIVATIONS,
    "relu6": _relu6,
    **dict.fromkeys(("hardtanh", "hardtanh_"), _hardtanh),
    **dict.fromkeys(("leaky_relu", "leaky_relu_"), _leaky_relu),
    **dict.fromkeys(("silu", "silu_"), _silu),
    **dict.fromkeys(("hardsigmoid", "hardsigmoid_"), _hardsigmoid),
    **dict.fromkeys(("hardswish", "hardswish_"), _hardswish),
    "gelu": _gaussian,
    "where": _where,
    "pixel_unshuffle": _pixel_unshuffle,
    "pixel_shuffle": _pixel_shuffle,
    **{f"upsample_nearest{axes}d": _upsample_nearest for axes in (1, 2, 3)},
    **{f"_upsample_nearest_exact{axes}d": _upsample_exact for axes in (1, 2, 3)},
    **{f"upsample_{mode}": _upsample_linear for mode in ("linear1d", "bilinear2d", "trilinear3d")},
}
"""What torch.export makes of a program, by name."""

FUNCTIONS: Mapping[Any, Entry] = {
    **{getattr(torch, name): entry for name, entry in ACTIVATIONS.items() if hasattr(torch, name)},
    **{getattr(F, name): entry for name, entry in ATEN.items() if hasattr(F, name) and "upsample" not in name},
    torch.where: _where,
    torch.pixel_unshuffle: _pixel_unshuffle,
    torch.pixel_shuffle: _pixel_shuffle,
    F.interpolate: _interpolate,
}
"""Functions by identity."""
