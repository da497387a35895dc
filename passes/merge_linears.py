"""Merge two fully connected layers that follow each other.

    W2 (W1 x + b1) + b2  =  (W2 W1) x + (W2 b1 + b2)

Exact always.  Dearer where the width between is the smallest of the three: then the cost refuses it.
Source: Guo et al., ExpandNets, NeurIPS 2020.
"""

from repcompiler.algebra import compose_linear
from repcompiler.ir import Expr, Value
from repcompiler.ops import Linear
from repcompiler.rewriter import rewrite


@rewrite(Linear.of(Linear.of("x", name="first"), name="second"))
def merge_linears(x: Value, first: Linear, second: Linear) -> Expr:
    return compose_linear(first, second)(x)
