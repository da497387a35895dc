"""Merge two transposed convolutions on the same input whose results are added or subtracted.

    (W1 ^ x + b1) + (W2 ^ x + b2)  =  (W1 + W2) ^ x + (b1 + b2)

Exact where the strides are equal and the results of one size, stride (n - 1) + dilation (kernel_size - 1) + 1 - padding +
output_padding along each axis.  Tap t writes pixel i stride + t dilation - padding before the image: W1 + W2 adds taps that
write the same pixel, on the lattice of both; both biases are at every pixel.  A dense kernel widens a grouped one.
Source: Ding et al., Diverse Branch Block, CVPR 2021, Transforms II and VI; Dumoulin and Visin, 2016, chapter 4.
"""

from repcompiler.algebra_transposed import add_transposed
from repcompiler.ir import Expr, Value
from repcompiler.ops import ConvTranspose, Sum
from repcompiler.pattern import one_of
from repcompiler.rewriter import rewrite


@rewrite(one_of(Sum)(ConvTranspose.of("x", name="first"), ConvTranspose.of("x", name="second"), name="sum"))
def merge_parallel_conv_transposes(x: Value, first: ConvTranspose, second: ConvTranspose, sum: Sum) -> Expr:  # noqa: A002
    return add_transposed(first, second, sum.signs)(x)
