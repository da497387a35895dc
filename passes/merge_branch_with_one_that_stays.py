"""Merge a linear branch with one that is read elsewhere, too: that one stays, and is computed again within the sum.

    let y = W2 * x + b2  in  (W1 * x + b1 + y, y)  =  ((W1 + W2) * x + (b1 + b2), y)

Exact as merge_parallel_branches is.  It pays where W2 adds little to W1: a smaller kernel, or fewer channels.
Source: Ding et al., Diverse Branch Block, CVPR 2021, Transforms II and VI.
"""

from repcompiler.addition import add
from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Sum
from repcompiler.pattern import linear
from repcompiler.rewriter import rewrite
from repcompiler.structure import forms


@rewrite(Sum.of(linear("x", name="first"), linear("x", name="second", stays=True)))
def merge_branch_with_one_that_stays(x: Value, first: Conv, second: Conv) -> tuple[Expr, ...]:
    return forms(add(first, second, x.spatial(len(first.stride))), x)
