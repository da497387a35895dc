"""Recognise a fully connected layer on the channels of an image: they go to the end, through the layer, and back.

    transpose(W transpose(x, to last) + b, to first)  =  W * x + b        a convolution with a 1 x ... x 1 kernel

Exact always.  (Decoders of vision transformers treat maps so, and are rid of two copies of them.)
Source: Lin et al., Network in Network, ICLR 2014, section 3.1.
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Linear, Transpose
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Transpose.of(Linear.of(Transpose.of("x", name="forth"), name="linear"), name="back"))
def recognise_pointwise_conv(x: Value, forth: Transpose, linear: Linear, back: Transpose) -> Expr:
    rank = len(forth.perm)
    if rank < 3 or forth.perm != (0, *range(2, rank), 1) or back.perm != (0, rank - 1, *range(1, rank - 1)):
        refuse("the axes do not only take the channels to the end and back")
    ones = (1,) * (rank - 2)
    weight = linear.weight.reshape(linear.out_channels, linear.in_channels, *ones)
    return Conv(weight, linear.bias, ones, ((0, 0),) * (rank - 2), ones, 1)(x)
