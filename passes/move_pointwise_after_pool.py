"""Move a 1x1 convolution behind the average pool that follows it, where that is cheaper: to shrink comes first.

    avg(W x + b)  =  W avg(x) + b

Exact where the mean is taken over pixels alone, or over zeros too if there is no bias: padding comes after W x + b, as zeros.
The convolution must neither stride, pad nor look at other pixels.  The quotient of window and divisor scales b.
Source: the linearity of the mean; Huang et al., DenseNet, CVPR 2017 (the transition layers).
"""

from dataclasses import replace
from math import prod

from repcompiler.algebra import float64, known_zero, regroup
from repcompiler.ir import Expr, Value
from repcompiler.ops import AvgPool, Conv, GlobalAvgPool, Linear
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(one_of(AvgPool, GlobalAvgPool)(Conv.of("x", name="mix"), name="pool"))
def move_pointwise_after_pool(x: Value, mix: Conv, pool: AvgPool | GlobalAvgPool) -> Expr:
    if not mix.is_pointwise:
        refuse("the convolution does more than mix the channels of one pixel")
    if isinstance(pool, GlobalAvgPool):
        return (mix if not pool.dropped else Linear(regroup(mix, 1).reshape(mix.out_channels, -1), mix.bias))(pool(x))
    if any(map(any, pool.padding)) and not known_zero(mix.bias):
        refuse("the pool counts padded zeros, which carry no bias")
    share = prod(pool.kernel_size) / pool.divisor
    return replace(mix, bias=float64(mix.bias) * share)(pool(x))
