"""Weigh two values by a sigmoid instead of the softmax of two.

    a s_1 + b s_2  =  b + sigmoid(u - v) (a - b)        (s_1, s_2) = softmax(u, v)
    u - v          =  mean(a - b)                       where u, v = mean(a), mean(b)

Exact always: s_1 + s_2 = 1, s_1 = e^u / (e^u + e^v) = sigmoid(u - v), and the mean over all pixels is linear.  The difference
a - b is computed once and read twice; where a and b are linear in one value, it is one convolution.
Source: Liu et al., SPConv, IJCAI 2020, eq. 5 (the two branches are fused by attention over their means).
"""

from repcompiler.ir import Expr, Value
from repcompiler.mixture import Mixture
from repcompiler.ops import GlobalAvgPool, Mul, Sigmoid, Sum
from repcompiler.rewriter import rewrite


@rewrite(Mixture())
def softmax_of_two_to_sigmoid(a: Value, b: Value, u: Value | None = None, v: Value | None = None) -> Expr:
    difference = Sum((1, -1))(a, b)
    logit = GlobalAvgPool()(difference) if u is None or v is None else Sum((1, -1))(u, v)
    return Sum((1, 1))(b, Mul()(Sigmoid()(logit), difference))
