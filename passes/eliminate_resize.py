"""Remove a resize to the size that the image has.

    resize(x, to the extents of x)  =  x

Exact always: whichever pixels a pixel of the result is a mean of, at this size it is its own alone.  (Decoders bring all levels
of a pyramid to the size of the largest, itself among them.)
"""

from repcompiler.ir import Value
from repcompiler.ops import Resize
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Resize.of("x", name="resize"))
def eliminate_resize(x: Value, resize: Resize) -> Value:
    same = set(resize.scales) == {1.0} and not resize.sizes
    if resize.sizes and x.shape is not None:
        result = resize.infer_shape([x.shape])
        same = result is not None and result[2:] == x.shape[2:] and None not in result[2:]
    if not same:
        refuse("it is not known to keep the size of the image")
    return x
