"""Merge a convolution and a fully connected layer on the same image whose flattened results are added or subtracted.

    vec(W * x + b) + (L vec(x) + c)  =  (T + L) vec(x) + (b + c)          with T the matrix of W *, b at each pixel

Exact where the extents are known: then the convolution, its padding included, is a matrix.
Source: Ding et al., RepMLP, CVPR 2022, section 3.2 (merging convolutions into the fully connected layer beside them).
"""

from repcompiler.algebra import float64
from repcompiler.algebra_transposed import as_linear
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Linear, Reshape, Sum
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite

MAP = Reshape.of(Conv.of("x", name="conv"), name="flatten")
LAYER = Linear.of(Reshape.of("x", name="image"), name="linear")


@rewrite(one_of(Sum)(MAP, LAYER, name="sum"), one_of(Sum)(LAYER, MAP, name="mirrored"))
def merge_parallel_conv_and_linear(
    x: Value, conv: Conv, flatten: Reshape, image: Reshape, linear: Linear, **order: Sum
) -> Expr:
    [(name, total)] = order.items()
    a, b = total.signs if name == "sum" else total.signs[::-1]
    size = [extent for extent in x.spatial(len(conv.stride)) if extent is not None]
    if x.shape is None or len(size) < len(conv.stride) or image.resolve(x.shape) != (x.shape[0], linear.in_channels):
        refuse("the image is not flattened as a whole, or its extents are not known")
    result = conv.infer_shape([x.shape])
    if result is None or flatten.resolve(result) != (x.shape[0], linear.out_channels):
        refuse("the convolution's result is not flattened as a whole")
    matrix = as_linear(conv, size)
    weight = a * matrix.weight + b * float64(linear.weight)
    return Linear(weight, a * matrix.bias + b * float64(linear.bias))(image(x))
