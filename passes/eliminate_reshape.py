"""Remove a reshape, and a transposition before it, that leave every number in its place.

    reshape(x, shape(x))  =  x              reshape(transpose(x), shape(x))  =  x

Exact where the shape comes out as it went in (an extent that is inferred does if all others do), and the transposition moves
only axes that hold one number: then the row-major order stays.  (Convolutions with one kernel a sample are exported so, the
batch being one.)
"""

from repcompiler.ir import Value
from repcompiler.ops import Reshape, Transpose
from repcompiler.rewriter import rewrite


@rewrite(Reshape.of(Transpose.of("x", name="swap"), name="reshape"), Reshape.of("x", name="reshape"))
def eliminate_reshape(x: Value, reshape: Reshape, swap: Transpose | None = None) -> Value | tuple[()]:
    shape = x.shape or ()
    if swap is None:
        same = shape != () and len(reshape.target) + reshape.tail == len(shape)
        same = same and all(size in (0, -1, here) for size, here in zip(reshape.target, shape, strict=False))
    else:
        same = swap.keeps_order(shape) and reshape.tail == 0 and reshape.target == shape
    return x if same else ()
