"""Merge a transposed convolution and the 1x1 convolution that follows it.

    M (W ^ x + b) + c  =  (M W) ^ x  +  (M b + c)

Exact always, with ^ the transposed convolution: its bias is at every pixel it makes, also where no tap reaches, and M looks at
one pixel only.  Refused where M strides, pads or looks at other pixels.
Source: the associativity of linear maps; cf. Ding et al., Diverse Branch Block, CVPR 2021, Transform III.
"""

from repcompiler.algebra_transposed import pointwise_after
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, ConvTranspose
from repcompiler.rewriter import rewrite


@rewrite(Conv.of(ConvTranspose.of("x", name="up"), name="mix"))
def merge_pointwise_after_conv_transpose(x: Value, up: ConvTranspose, mix: Conv) -> Expr:
    return pointwise_after(up, mix)(x)
