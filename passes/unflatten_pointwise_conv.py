"""Apply a 1x1 convolution to an image rather than to the row of its pixels.

    reshape(W * reshape(x, (N, I, HW)) + b, (N, O, H, W))  =  W * x + b

Exact always: the matrix acts on each pixel by itself, and both reshapes keep the pixels in their order.
Source: Lin et al., Network in Network, ICLR 2014, section 3.1.
"""

from dataclasses import replace
from math import prod

from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Reshape
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Reshape.of(Conv.of(Reshape.of("x", name="flatten"), name="mix"), name="unflatten"))
def unflatten_pointwise_conv(x: Value, flatten: Reshape, mix: Conv, unflatten: Reshape) -> Expr:
    if len(mix.stride) != 1 or not mix.is_pointwise:
        refuse("it does more than mix the channels of one pixel")
    if x.shape is None or not all(isinstance(extent, int) for extent in x.shape[1:]):
        refuse("the extents of the image are not known")
    batch, channels, *spatial = x.shape
    pixels = prod(extent for extent in spatial if isinstance(extent, int))
    if flatten.resolve(x.shape) != (batch, channels, pixels):
        refuse("the pixels are not all in one row")
    if unflatten.resolve((batch, mix.out_channels, pixels)) != (batch, mix.out_channels, *spatial):
        refuse("it is another image than the one whose pixels were taken")
    ones = (1,) * len(spatial)
    weight = mix.weight.reshape(*mix.weight.shape[:2], *ones)
    return replace(mix, weight=weight, stride=ones, padding=((0, 0),) * len(spatial), dilation=ones)(x)
