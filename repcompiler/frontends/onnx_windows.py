"""The ONNX operators that move a window over the spatial axes and have no weight: pooling, padding, cropping, sampling.

One function each, as in `repcompiler.frontends.onnx_ops`; also the padding that all windows share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from repcompiler.frontends.onnx_lift import Lift, Lifted, attribute
from repcompiler.ir import Dim, Value
from repcompiler.ops import AvgPool, MaxPool, Pad, PadChannels, Padding, Select, Subsample
from repcompiler.ops.base import may_be_partial
from repcompiler.refusal import refuse

END = 2**31 - 1
"""An end this large means 'to the end' in a Slice."""


def padding_of(node: onnx_ir.Node, spatial: int, extent: Sequence[int], stride: Sequence[int], x: Value) -> Padding:
    """Explicit padding, whatever `auto_pad` says; refuses where SAME depends on a size that is not known."""
    auto = attribute(node, "auto_pad", "NOTSET")
    if auto == "NOTSET":
        pads = attribute(node, "pads", (0,) * (2 * spatial))
        return tuple(zip(pads[:spatial], pads[spatial:], strict=True))
    if auto not in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        refuse(f"its auto_pad is '{auto}'")
    if auto == "VALID":
        return ((0, 0),) * spatial
    result = []
    for size, reach, step in zip(x.spatial(spatial), extent, stride, strict=True):
        if size is None and step != 1 and (reach, step) != (1, 2):
            refuse("its padding depends on the size of the image (auto_pad)")
        total = reach - 1 if size is None else (-(-size // step) - 1) * step + reach - size
        if total < -1:  # onnxruntime crops as much before as behind, others crop nothing; they agree on one pixel, behind
            refuse("its windows leave out pixels, and which ones SAME does not say")
        result.append(_halves(max(total, 0), auto))
    return tuple(result)


def crop_of(node: onnx_ir.Node, extent: Sequence[int], stride: Sequence[int], extra: Sequence[int], x: Value) -> Padding:
    """What a transposed convolution crops of its result, also where the size that is to be left is stated.

    SAME leaves `stride` pixels for each that is read, so what goes does not depend on the size; `output_shape` is a size.
    """
    auto, stated = attribute(node, "auto_pad", "NOTSET"), attribute(node, "output_shape", None)
    spatial = len(extent)
    if stated is None and not auto.startswith("SAME_"):
        return padding_of(node, spatial, extent, stride, x)
    sizes = (None,) * spatial if stated is None else stated[-spatial:]
    result = []
    for size, left, reach, step, more in zip(x.spatial(spatial), sizes, extent, stride, extra, strict=True):
        if left is not None and size is None:
            refuse("its padding depends on the size of the image (output_shape)")
        total = reach + more - step if left is None else ((size or 1) - 1) * step + reach + more - left
        if total < 0:
            refuse("it makes more pixels than its kernel reaches")
        result.append(_halves(total, auto))
    return tuple(result)


def _halves(total: int, auto: str) -> tuple[int, int]:
    """A padding before and after; SAME_UPPER has the odd pixel behind."""
    return (total // 2, total - total // 2) if auto == "SAME_UPPER" else (total - total // 2, total // 2)


def average_pool(lift: Lift, node: onnx_ir.Node) -> Lifted:
    """An average over whole windows, padded zeros counted in."""
    x, kernel = lift.data(node), tuple(attribute(node, "kernel_shape", ()))
    ones = (1,) * len(kernel)
    stride = tuple(attribute(node, "strides", ones))
    padding = padding_of(node, len(kernel), kernel, stride, x)
    if attribute(node, "ceil_mode", 0) and any(map(may_be_partial, x.spatial(len(kernel)), kernel, stride, padding, ones)):
        refuse("its windows may be partial (ceil_mode)")
    if any(d != 1 for d in attribute(node, "dilations", ones)):
        refuse("its windows are dilated")
    if any(map(any, padding)) and not attribute(node, "count_include_pad", 0):
        refuse("it does not count padded zeros (count_include_pad)")
    return Lifted(AvgPool(kernel, stride, padding, int(np.prod(kernel))), (x,))


def max_pool(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """The maximum over whole windows; a window of one pixel only samples."""
    x, kernel = lift.data(node), tuple(attribute(node, "kernel_shape", ()))
    ones = (1,) * len(kernel)
    stride, dilation = tuple(attribute(node, "strides", ones)), tuple(attribute(node, "dilations", ones))
    if len(node.outputs) > 1:
        return None
    padding = padding_of(node, len(kernel), [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)], stride, x)
    if attribute(node, "ceil_mode", 0) and any(map(may_be_partial, x.spatial(len(kernel)), kernel, stride, padding, dilation)):
        return None
    if any(d > 1 and any(p) for d, p in zip(dilation, padding, strict=True)):
        return None  # a window may miss a small image between its taps
    sampled = kernel == ones and not any(map(any, padding))
    return Lifted(Subsample(stride) if sampled else MaxPool(kernel, stride, padding, dilation), (x,))


def pad(lift: Lift, node: onnx_ir.Node) -> Lifted:
    """Zeros, or a crop, on the spatial axes."""
    x = lift.data(node)
    pads, fill, axes = lift.integers(node, 1, "pads"), lift.optional(node, 2), lift.integers(node, 3, "axes")
    zero = attribute(node, "value", 0.0) == 0 and (fill is None or (fill.constant is not None and not np.any(fill.constant())))
    if attribute(node, "mode", "constant") != "constant" or pads is None or not zero:
        refuse("it pads with something else than zeros")
    if x.rank is None or x.rank < 3:
        refuse("it is not known to pad an image")
    axes = list(range(x.rank)) if axes is None else [axis % x.rank for axis in axes]
    amounts = dict(zip(axes, zip(pads[: len(axes)], pads[len(axes) :], strict=True), strict=True))
    padded = [axis for axis, pair in amounts.items() if any(pair)]
    if padded == [1] and min(amounts[1]) >= 0:
        return Lifted(PadChannels(*amounts[1]), (x,), lift.parameters(node))
    if any(amounts.get(axis, (0, 0)) != (0, 0) for axis in (0, 1)):
        refuse("it pads the batch, or the channels and more")
    return Lifted(Pad(tuple(amounts.get(axis, (0, 0)) for axis in range(2, x.rank))), (x,), lift.parameters(node))


def slice_(lift: Lift, node: onnx_ir.Node) -> Lifted | None:
    """Some channels; or a crop of the spatial axes, or every s-th pixel of them to the end."""
    x = lift.data(node)
    starts, ends = lift.integers(node, 1, "starts"), lift.integers(node, 2, "ends")
    axes, steps = lift.integers(node, 3, "axes"), lift.integers(node, 4, "steps")
    if starts is None or ends is None or x.shape is None or len(x.shape) < 3:
        return None
    rank = len(x.shape)
    if axes is not None and [axis % rank for axis in axes] == [1] and isinstance(x.shape[1], int):
        index = range(x.shape[1])[slice(starts[0], ends[0], steps[0] if steps else 1)]
        return Lifted(Select(tuple(index)), (x,), lift.parameters(node)) if index else None
    crop, stride = [(0, 0)] * rank, [1] * rank
    for axis, start, end, step in zip(axes or range(len(starts)), starts, ends, steps or [1] * len(starts), strict=True):
        first, last = _ends(x.shape[axis], start, end)
        if first < 0 or last > 0 or step < 1:
            return None
        crop[axis], stride[axis] = (-first, last), step
    if any(map(any, crop[:2])) or any(step > 1 for step in stride[:2]):
        return None
    if all(step == 1 for step in stride):
        return Lifted(Pad(tuple(crop[2:])), (x,), lift.parameters(node))
    if any(last for _, last in crop):
        return None
    begin = tuple(-before for before, _ in crop[2:])
    return Lifted(Subsample(tuple(stride[2:]), begin if any(begin) else ()), (x,), lift.parameters(node))


def _ends(size: Dim, start: int, end: int) -> tuple[int, int]:
    """The first pixel of a slice counted from the front, and its end counted from the back (0: all; negative: so many less).

    What cannot be said so without knowing the size comes back as a first pixel below 0 or an end above 0; so does a slice
    that is empty.
    """
    if not isinstance(size, int):
        return start, 0 if end >= END else end or 1
    start, end = (min(max(bound + size if bound < 0 else bound, 0), size) for bound in (start, end))
    return (start, end - size) if start < end else (-1, 1)
