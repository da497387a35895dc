"""Move a 1x1 convolution behind the resize that follows it, where that is cheaper: to shrink comes first.

    resize(W x + b)  =  W resize(x) + b

Exact always, as is move_pointwise_before_resize: the same equation, read from the other side.  The cost tells which side it is.
The convolution must neither stride, pad nor look at other pixels.
Source: the linearity of interpolation.
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Resize
from repcompiler.ops.sampling import SIZES
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(*(Resize.of(Conv.of("x", name="mix"), *sizes, name="resize") for sizes in SIZES))
def move_pointwise_behind_resize(x: Value, mix: Conv, resize: Resize, **sizes: Value) -> Expr:
    if not mix.is_pointwise:
        refuse("it does more than mix the channels of one pixel")
    return mix(resize(x, *sizes.values()))
