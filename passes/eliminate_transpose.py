"""Remove a transposition that undoes the one before it, or moves nothing.

    transpose(transpose(x, p), q)  =  x        where p[q[i]] = i
    transpose(x, (0, 1, 2, ...))   =  x

Exact always: no number changes.  The one before stays where something else reads it.  (Exporters of channels-last networks
surround each convolution with a pair.)
"""

from repcompiler.ir import Value
from repcompiler.ops import Transpose
from repcompiler.rewriter import rewrite


@rewrite(Transpose.of("x", name="second"))
def eliminate_transpose(x: Value, second: Transpose) -> Value | tuple[()]:
    axes = tuple(range(len(second.perm)))
    if second.perm == axes:
        return x
    if x.producer is None or not isinstance(first := x.producer.op, Transpose):
        return ()
    return x.producer.inputs[0] if tuple(first.perm[axis] for axis in second.perm) == axes else ()
