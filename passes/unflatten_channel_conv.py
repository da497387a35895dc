"""Apply a convolution along the channels of an image of one pixel as a 1x1 convolution of that image.

    reshape(f(w * reshape(x, (N, 1, C)) + b), (N, D, 1, 1))  =  f(T * x + b)        T[o, s o - p + d j] = w[j], 0 elsewhere

Exact always, the border included: T is the band of w, cut off where the signal is padded with zeros, and f acts on each number
by itself (`repcompiler.one_pixel`).  (Gates of efficient channel attention are written so, and are known as such once they are
1x1 convolutions.)
Source: Wang et al., ECA-Net, CVPR 2020, section 3.2 (a convolution of the channels' means as a band matrix).
"""

from repcompiler.ir import Expr, Value
from repcompiler.one_pixel import on_one_pixel
from repcompiler.ops import ACTIVATIONS, Conv, GlobalAvgPool, Identity, Reshape, Transpose
from repcompiler.pattern import one_of
from repcompiler.rewriter import rewrite
from repcompiler.term import term

SIGNAL = term("y", until=(GlobalAvgPool,), through=(Conv, Identity, Reshape, Transpose, *ACTIVATIONS))


@rewrite(one_of(Reshape, Transpose)(SIGNAL, name="unflatten"))
def unflatten_channel_conv(y: Expr, unflatten: Reshape | Transpose) -> Expr | Value | tuple[()]:
    along = any(isinstance(part.op, Conv) and len(part.op.stride) == 1 for part in y.parts())
    return on_one_pixel(unflatten(y)) if along else ()
