"""Remove what passes its input on: Identity, Dropout in eval mode, a cast to the type a tensor already has.

    id(x) = x

Exact always.  Refused where the result is an output of the graph, whose name must not move.
"""

from repcompiler.ir import Value
from repcompiler.ops import Identity
from repcompiler.rewriter import rewrite


@rewrite(Identity.of("x"))
def eliminate_identity(x: Value) -> Value:
    return x
