"""The channels of an image of one pixel, however they are laid out: as the image, as a row, as a signal along an axis.

    reshape(x, s)                    the channels of x, laid out as s
    f(reshape(x, s))                 those of f(x), where f acts on each number by itself
    W reshape(x, (N, C)) + b         those of W * x + b, a 1x1 convolution
    w * reshape(x, (N, 1, C)) + b    those of T * x + b, with the band matrix T[o, s o - p + d j] = w[j], 0 elsewhere

All exact: a layout moves no number past another one, and T is cut off where the signal is padded with zeros.
Sources: Lin et al., Network in Network, ICLR 2014, section 3.1; Wang et al., ECA-Net, CVPR 2020, section 3.2.
"""

from __future__ import annotations

from dataclasses import replace
from functools import singledispatch
from typing import NamedTuple

from repcompiler.algebra import broadcast
from repcompiler.algebra_transposed import band
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Shape, Value
from repcompiler.ops import Array, Conv, GlobalAvgPool, Linear, Op, Reshape, Scale, Transpose
from repcompiler.refusal import refuse


class Channels(NamedTuple):
    """Those of `image`, (N, C, 1, ..., 1), in their order, laid out as `shape`."""

    image: Expr | Value
    shape: Shape

    @property
    def pixel(self) -> Shape:
        """The shape of the image."""
        return shape_of(self.image) or ()


def on_one_pixel(y: Expr) -> Expr | Value:
    """`y`, operations on the channels of images of one pixel in any layout, as operations on the images.

    Refuses where they read anything else, or where what they make is laid out otherwise than as such an image.
    """
    made: dict[Expr | Value, Channels] = {}
    for part in y.parts():
        if isinstance(part.op, GlobalAvgPool):
            made[part] = _mean(part)
        else:
            made[part] = _laid_out(part.op, *(made.get(operand) or _given(operand) for operand in part.operands))
    image, shape = made[y]
    if shape != shape_of(image):
        refuse("it makes another image than one of a single pixel")
    return image


def _given(x: Expr | Value) -> Channels:
    shape = shape_of(x) or ()
    if len(shape) < 3 or any(extent != 1 for extent in shape[2:]):
        refuse("it reads more than the channels of one pixel")
    return Channels(x, shape)


def _mean(pool: Expr) -> Channels:
    """The mean of all pixels, whether the axes of the image stay or go."""
    shape = shape_of(pool)
    if shape is None:
        refuse("the rank of the image is not known")
    return Channels(GlobalAvgPool()(*pool.operands), shape)


@singledispatch
def _laid_out(op: Op, *operands: Channels) -> Channels:
    """What acts on each number by itself: in any layout, unless it tells channels apart."""
    ranks = {(len(x.shape), len(x.pixel)) for x in operands}
    tells = len(operands) > 1 or any(array.shape != (1,) for array in op.arrays.values())
    if tells and (len(ranks) > 1 or any(x.shape[:2] != x.pixel[:2] for x in operands)):
        refuse("it acts on each channel by itself, and they are laid out otherwise than along axis 1")
    shape = op.infer_shape([x.shape for x in operands])
    assert shape is not None, "all operands have one"
    return Channels(op(*(x.image for x in operands)), shape)


@_laid_out.register
def _scale(op: Scale, x: Channels) -> Channels:
    if op.channel_axis(len(x.shape)) not in (None, 1):
        refuse("it scales another axis than the channels")
    return _laid_out.dispatch(Op)(replace(op, axis=1), x)


@_laid_out.register(Reshape)
@_laid_out.register(Transpose)
def _layout(op: Reshape | Transpose, x: Channels) -> Channels:
    if isinstance(op, Transpose) and (op.perm[0] != 0 or not op.keeps_order(x.shape)):
        refuse("it moves channels past each other")
    shape = op.resolve(x.shape) if isinstance(op, Reshape) else op.infer_shape([x.shape])
    if shape is None:
        refuse("the number of channels is not known")
    return Channels(x.image, shape)


@_laid_out.register
def _linear(op: Linear, x: Channels) -> Channels:
    if len(x.shape) != 2:
        refuse("it acts on the last axis, which is not that of the channels")
    return Channels(_mixed(op.weight, op.bias, x), (x.shape[0], op.out_channels))


@_laid_out.register
def _along(op: Conv, x: Channels) -> Channels:
    if len(x.shape) != 3 or x.shape[1] != 1 or op.out_channels != 1 or not isinstance(x.shape[2], int):
        refuse("it mixes more than one channel, or how many numbers they hold is not known")
    matrix = band(op, x.shape[2])
    return Channels(_mixed(matrix, broadcast(op.bias, len(matrix)), x), (*x.shape[:2], len(matrix)))


def _mixed(matrix: Array, bias: Array, x: Channels) -> Expr:
    ones = (1,) * (len(x.pixel) - 2)
    return Conv(matrix.reshape(*matrix.shape, *ones), bias, ones, ((0, 0),) * len(ones), ones, 1)(x.image)
