"""Merge a convolution into the fully connected layer that reads its flattened result.

    L vec(W * x + b) + c  =  (W^T L) vec(x)  +  (L vec(b) + c)

Exact where the extents are known: each row of L is an image of the convolution's result, which W^T carries back to the pixels
it was made from; what it carries to the padding meets zeros.  b is at every pixel of the result, so its response is L's sum.
Source: Ding et al., RepMLP, CVPR 2022, section 3.2 (a convolution as a fully connected layer).
"""

from math import prod

from repcompiler.algebra import float64, namespace
from repcompiler.algebra_transposed import pull_back
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Linear, Reshape
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Linear.of(Reshape.of(Conv.of("x", name="conv"), name="flatten"), name="linear"))
def merge_conv_into_linear(x: Value, conv: Conv, flatten: Reshape, linear: Linear) -> Expr:
    size = [extent for extent in x.spatial(len(conv.stride)) if extent is not None]
    result = conv.infer_shape([x.shape])
    if len(size) < len(conv.stride) or result is None or flatten.resolve(result) != (result[0], linear.in_channels):
        refuse("the convolution's result is not flattened as a whole, or its extents are not known")
    shape = [extent for extent in result[1:] if isinstance(extent, int)]
    xp = namespace(linear.weight)
    images = xp.reshape(float64(linear.weight), (linear.out_channels, *shape))
    weight = xp.reshape(pull_back(images, conv, size), (linear.out_channels, -1))
    sums = xp.sum(xp.reshape(images, (linear.out_channels, conv.out_channels, -1)), axis=2)
    bias = sums @ float64(conv.bias) + float64(linear.bias)
    return Linear(weight, bias)(Reshape((0, conv.in_channels * prod(size)))(x))
