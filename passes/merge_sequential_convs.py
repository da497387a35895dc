"""Merge two linear operations that follow each other into one convolution.

    W2 * (W1 * x + b1) + b2  =  (W2 o W1) * x  +  (sum W2) b1 + b2

Kernels compose by full convolution, strides multiply, paddings add up (`algebra.compose`).  Exact only while the border
agrees: the second's zero padding surrounds W1 * x + b1, not x, so a padded second is refused unless W1 * x + b1 would be zero
there anyway (no bias, and along that axis a single tap, enough padding of its own, or a stride that leaves nothing over).
Source: Ding et al., Diverse Branch Block, CVPR 2021, Transform III.
"""

from repcompiler.algebra import compose
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv
from repcompiler.pattern import linear, linear_after
from repcompiler.rewriter import rewrite
from repcompiler.structure import forms


@rewrite(linear_after(linear("x", name="first", least=1), name="second"))
def merge_sequential_convs(x: Value, first: Conv, second: Conv) -> tuple[Expr, ...]:
    return forms(compose(first, second, x.spatial(len(first.stride))), x)
