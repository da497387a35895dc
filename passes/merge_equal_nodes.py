"""Compute once what is computed twice: equal operations on the same operands.

    (f(x), f(x))  =  (y, y)        y = f(x)

Exact where f is a function: equal attributes and equal weights, number by number, and nothing random or remembered.  The one
before stays.  Done when nothing else applies: until then each of the two may become something better with its own neighbours,
and a value with two readers would be in the way.
Source: common subexpression elimination: Cocke, Global Common Subexpression Elimination, 1970.
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Opaque
from repcompiler.pattern import Again
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Again("y", "again"), last=True)
def merge_equal_nodes(y: Value, again: Expr) -> Value | tuple[()]:
    if y.producer is None or not again.op.is_same_as(y.producer.op):
        return ()
    if isinstance(again.op, Opaque):
        refuse("what it computes is not known: it may be random, or depend on what was computed before")
    return y
