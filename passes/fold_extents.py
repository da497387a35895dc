"""Reshape to what the shape is known to be, not to what the model computes it to be.

    reshape(x, s(shape(y)))  =  reshape(x, n)        n_i = 0 for an extent of x that stays, -1 for one that is not known

Exact always: the frontend has followed the extents through s, number by number (a free batch is a symbol, and stays one).  What
only computed them goes, and no longer reads y.  So does what a written-out activation was computed from (`frontends.slopes`).
Source: constant folding, with symbols.
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Op
from repcompiler.pattern import Implied
from repcompiler.rewriter import rewrite


@rewrite(Implied("x", name="op"))
def fold_extents(x: Value, op: Op) -> Expr:
    return op(x)
