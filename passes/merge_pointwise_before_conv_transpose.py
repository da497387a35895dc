"""Merge a 1x1 convolution and the transposed convolution that follows it.

    W ^ (M x + c) + b  =  (W M) ^ x  +  (W ^ c + b)

Exact where c is zero, or where W ^ c is one number a channel: at every pixel all taps meet, that is, without a stride and with
the border cropped away.  Else a stride lets other taps meet from pixel to pixel, and the border fewer of them.
Source: the associativity of linear maps; cf. Ding et al., Diverse Branch Block, CVPR 2021, Transform III.
"""

from repcompiler.algebra_transposed import pointwise_before
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, ConvTranspose
from repcompiler.rewriter import rewrite


@rewrite(ConvTranspose.of(Conv.of("x", name="mix"), name="up"))
def merge_pointwise_before_conv_transpose(x: Value, mix: Conv, up: ConvTranspose) -> Expr:
    return pointwise_before(mix, up)(x)
