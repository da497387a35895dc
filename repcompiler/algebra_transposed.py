"""Kernel algebra of transposed convolutions, by way of the convolutions that they are the adjoints of.

    <g, A x> = <A^T g, x>          B^T A^T = (A B)^T          A^T + B^T = (A + B)^T

The weight (I, O/groups, *spatial) of a transposed convolution *is* that of A, a convolution of O channels into I.  So every
product and sum of kernels is one of `repcompiler.algebra`, read backwards.  Array API, float64, as there.
Source: Dumoulin and Visin, A guide to convolution arithmetic for deep learning, 2016, chapter 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from math import prod

from repcompiler.algebra import (
    add,
    compose,
    constant_response,
    float64,
    insert_zeros,
    known_zero,
    namespace,
    pad_axis,
    zeros_like,
)
from repcompiler.ops import Array, Conv, ConvTranspose, Linear
from repcompiler.refusal import refuse


def adjoint(op: ConvTranspose) -> Conv:
    """The convolution A whose adjoint `op` is, up to bias, stride and padding: these stay what they are in all that follows."""
    ones = (1,) * len(op.stride)
    bias = zeros_like(float64(op.weight), (op.in_channels,))
    return Conv(op.weight, bias, ones, ((0, 0),) * len(ones), op.dilation, op.groups)


def transposed_pointwise(mix: Conv) -> Conv:
    """M^T of a 1x1 convolution M; refuses what does more than mix the channels of one pixel."""
    if not mix.is_pointwise:
        refuse("the convolution does more than mix the channels of one pixel")
    weight = _exchanged(mix)
    return replace(mix, weight=weight, bias=zeros_like(weight, (mix.in_channels,)))


def _exchanged(op: Conv) -> Array:
    """The weight with inputs and outputs exchanged, within each group."""
    xp, weight = namespace(op.weight), float64(op.weight)
    grouped = xp.reshape(weight, (op.groups, -1, *weight.shape[1:]))  # (g, O/g, I/g, *k)
    axes = (0, 2, 1, *range(3, grouped.ndim))
    return xp.reshape(xp.permute_dims(grouped, axes), (op.in_channels, -1, *op.kernel_size))


def pointwise_after(up: ConvTranspose, mix: Conv) -> ConvTranspose:
    """mix(up(x)): M (A^T x + b) + c = (A M^T)^T x + (M b + c).  The bias is at every pixel that `up` makes: always exact."""
    kernel = compose(transposed_pointwise(mix), adjoint(up))
    bias = constant_response(mix, float64(up.bias)) + float64(mix.bias)
    return replace(up, weight=kernel.weight, bias=bias, groups=kernel.groups)


def pointwise_before(mix: Conv, up: ConvTranspose) -> ConvTranspose:
    """up(mix(x)): A^T (M x + c) + b = (M^T A)^T x + (A^T c + b).

    Refuses a bias c that the taps do not meet alike at every pixel.
    """
    kernel = compose(adjoint(up), transposed_pointwise(mix))
    bias = float64(up.bias)
    if not known_zero(mix.bias):
        if not _sees_all_taps(up):
            refuse("its bias meets fewer taps at the border, or other ones from pixel to pixel: exact only without")
        backwards = Conv(_exchanged(adjoint(up)), bias, up.stride, up.padding, up.dilation, up.groups)
        bias = bias + constant_response(backwards, float64(mix.bias))
    return replace(up, weight=kernel.weight, bias=bias, groups=kernel.groups)


def _sees_all_taps(up: ConvTranspose) -> bool:
    """Whether every pixel it makes is a sum over all taps: it does not stride, and its border is cropped away."""
    axes = zip(up.kernel_size, up.stride, up.dilation, up.padding, up.output_padding, strict=True)
    return all(s == 1 and min(before, after - extra) >= d * (k - 1) for k, s, d, (before, after), extra in axes)


def add_transposed(first: ConvTranspose, second: ConvTranspose, signs: tuple[int, ...]) -> ConvTranspose:
    """+-first(x) +- second(x) as one, on the lattice that holds the taps of both; refuses as `add` does.

    Tap t writes pixel i stride + t dilation - padding, the pixel that tap t of A reads.  So sizes agree where they do for A.
    """
    one, other = (_reading(op, sign) for op, sign in zip((first, second), signs, strict=True))
    kernel = add(one, other, (None,) * len(first.stride))
    weight, padding, output_padding = kernel.weight, [], []
    given = map(max, first.output_padding, second.output_padding)
    axes = zip(kernel.padding, given, kernel.stride, kernel.dilation, strict=True)
    for axis, ((before, after), most, stride, dilation) in enumerate(axes, start=2):
        most = min(most, max(stride, dilation) - 1)  # torch takes no more, nor all runtimes more than there was
        even = before - after  # with which torch's module, whose padding is the same on both sides, needs no crop behind it
        extra = min(max(0, even if even <= most else -after), most)
        missing = -min(0, (after + extra) // dilation)  # taps of zero, where that does not reach the last pixel
        weight = pad_axis(weight, axis, 0, missing)
        padding.append((before, after + extra + missing * dilation))
        output_padding.append(extra)
    bias = signs[0] * float64(first.bias) + signs[1] * float64(second.bias)
    return ConvTranspose(weight, bias, kernel.stride, tuple(padding), tuple(output_padding), kernel.dilation, kernel.groups)


def _reading(op: ConvTranspose, sign: int) -> Conv:
    """+-A with its stride and padding, which is less behind the image by what `op` extends it: of sizes, too, its inverse."""
    padding = ((before, after - extra) for (before, after), extra in zip(op.padding, op.output_padding, strict=True))
    return replace(adjoint(op), weight=sign * float64(op.weight), stride=op.stride, padding=tuple(padding))


def pull_back(functionals: Array, op: Conv, size: Sequence[int]) -> Array:
    """`functionals` (R, O, *result) of the result of `op`, as functionals (R, I, *size) of the image: f(W * x) = (W^T f)(x).

    Each tap carries the functional of an output pixel to the pixel it reads; what it would carry to the padding is dropped,
    for there are zeros.  The bias of `op` is not in it.
    """
    xp, weight = namespace(op.weight), float64(op.weight)
    rows = xp.reshape(weight, (op.groups, -1, *weight.shape[1:]))  # (g, O/g, I/g, *k)
    grouped = xp.reshape(float64(functionals), (functionals.shape[0], op.groups, rows.shape[1], -1))
    total = zeros_like(weight, (functionals.shape[0], op.in_channels, *size))
    for tap in product(*map(range, op.kernel_size)):
        part = xp.matrix_transpose(rows[(..., *tap)]) @ grouped
        part = insert_zeros(xp.reshape(part, (*total.shape[:2], *functionals.shape[2:])), op.stride)
        for axis, (t, d, p, n) in enumerate(zip(tap, op.dilation, op.padding, size, strict=True), start=2):
            part = _placed(part, axis, t * d - p[0], n)
        total = total + part
    return total


def as_linear(op: Conv, size: Sequence[int]) -> Linear:
    """The fully connected layer that `op` is on a flattened image of extents `size`, its padding included."""
    shape = op.infer_shape([(1, op.in_channels, *size)])
    assert shape is not None
    extents = [int(extent) for extent in shape[1:] if isinstance(extent, int)]
    weight, bias = float64(op.weight), float64(op.bias)
    xp, rows = namespace(weight), prod(extents)
    pixels = xp.eye(rows, dtype=xp.float64, device=weight.device)
    matrix = pull_back(xp.reshape(pixels, (rows, *extents)), op, size)
    return Linear(xp.reshape(matrix, (rows, -1)), xp.repeat(bias, rows // op.out_channels))


def band(op: Conv, size: int) -> Array:
    """The matrix (result, size) of a convolution of a signal of one channel: T[o, s o - p + d j] = w[j], cut at the border."""
    (stride,), (dilation,), ((before, after),) = op.stride, op.dilation, op.padding
    weight, rows = float64(op.weight), before + size + after - op.extent[0] + 1
    xp, kept = namespace(weight), {"dtype": weight.dtype, "device": weight.device}
    taps = range(op.kernel_size[0])
    return sum(weight[0, 0, j] * xp.eye(rows, size, k=dilation * j - before, **kept) for j in taps)[::stride]


def _placed(array: Array, axis: int, start: int, extent: int) -> Array:
    """`array` from index `start` on of `extent` zeros along one axis; what lies outside is cut off."""
    first = min(max(start, 0), extent)
    last = max(min(start + array.shape[axis], extent), first)
    inside = array[(slice(None),) * axis + (slice(first - start, last - start),)]
    return pad_axis(inside, axis, first, extent - last)
