"""Merge a 1x1 convolution into the convolutions whose results are concatenated before it.

    M [W x + a; R(V y + b); z] + c  =  (M1 W) x + M1 a  +  R((M2 V) y + M2 b)  +  M3 z + c

M = [M1 M2 M3] by columns, R any resize.  Exact always: a matrix acts on each pixel by itself, a resize takes means of pixels.
What no convolution makes (z) needs one of its own, and all make as many channels as M: the cost tells whether it pays.
Source: the linearity of convolution; Xie et al., SegFormer, NeurIPS 2021, section 3.2 (a decoder that ends so).
"""

from dataclasses import replace
from itertools import accumulate, pairwise

from repcompiler.algebra import compose, regroup, zeros_like
from repcompiler.ir import Expr, Value
from repcompiler.ops import Concat, Conv, Resize, Sum
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.selection import channels_of
from repcompiler.term import term


@rewrite(Conv.of(term("y", until=(Conv,), through=(Concat, Resize)), name="mix"))
def merge_pointwise_into_concatenated(y: Expr, mix: Conv) -> Expr:
    if not mix.is_pointwise:
        refuse("it does more than mix the channels of one pixel")
    if not any(isinstance(part.op, Concat) for part in y.parts()):
        refuse("nothing is concatenated before it")
    return total(y, replace(mix, weight=regroup(mix, 1), groups=1))


def total(y: Expr | Value, mix: Conv) -> Expr:
    """mix(y), the mixing done by what makes the parts of y."""
    if isinstance(y, Value):
        return mix(y)
    if isinstance(y.op, Conv):
        return compose(y.op, mix)(*y.operands)
    if isinstance(y.op, Resize):
        return y.op(total(y.operands[0], mix), *y.operands[1:])
    silent = zeros_like(mix.bias, mix.bias.shape)
    ends = pairwise(accumulate(map(channels_of, y.operands), initial=0))
    parts = [replace(mix, weight=mix.weight[:, start:stop], bias=silent if start else mix.bias) for start, stop in ends]
    return Sum((1,) * len(parts))(*map(total, y.operands, parts))
