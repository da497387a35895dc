"""Move a 1x1 convolution before the resize that it follows, where that is cheaper: to enlarge comes last.

    W resize(x) + b  =  resize(W x + b)

Exact always: each pixel of a resize is a mean of pixels, the same ones in each channel, with weights that sum to 1 (frontends
lift nothing else as Resize), so W and b pass it.  The convolution must neither stride, pad nor look at other pixels.
Source: the linearity of interpolation; cf. Shi et al., ESPCN, CVPR 2016 (work at low resolution).
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Resize
from repcompiler.ops.sampling import SIZES
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(*(Conv.of(Resize.of("x", *sizes, name="resize"), name="mix") for sizes in SIZES))
def move_pointwise_before_resize(x: Value, resize: Resize, mix: Conv, **sizes: Value) -> Expr:
    if not mix.is_pointwise:
        refuse("it does more than mix the channels of one pixel")
    return resize(mix(x), *sizes.values())
