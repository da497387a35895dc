"""Merge two transpositions that follow each other into one.

    transpose(transpose(x, p), q)  =  transpose(x, r)        r[i] = p[q[i]]

Exact always: no number changes.
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Identity, Transpose
from repcompiler.rewriter import rewrite


@rewrite(Transpose.of(Transpose.of("x", name="first"), name="second"))
def merge_transposes(x: Value, first: Transpose, second: Transpose) -> Expr:
    perm = tuple(first.perm[axis] for axis in second.perm)
    return Identity()(x) if perm == tuple(range(len(perm))) else Transpose(perm)(x)
