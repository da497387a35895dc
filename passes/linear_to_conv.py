"""Show a fully connected layer as a convolution without spatial axes.

    (W x + b)_o  =  sum_i W[o, i] x_i + b_o

Exact always; its channels are the last axis, so it meets only what acts on the last axis, too.  So layers in sequence, in
parallel (a low-rank adapter W x + s B A x) and stacked layers merge by the equations of convolutions.
Source: Hu et al., LoRA, ICLR 2022, eq. 3; Guo et al., ExpandNets, NeurIPS 2020.
"""

from repcompiler.ops import Conv, Linear
from repcompiler.rewriter import as_convolution


@as_convolution(Linear)
def linear_to_conv(op: Linear, channels: int, spatial: int) -> Conv:
    return Conv(op.weight, op.bias, (), (), (), 1)
