"""Apply fully connected layers to an image of one pixel, rather than to the row of its channels and back.

    reshape(f(W reshape(x, (N, C)) + b), (N, O, 1, 1))  =  f(W * x + b)        W * a 1x1 convolution, x of one pixel

Exact always: both hold the same numbers in the same order, and f acts on each by itself (`repcompiler.one_pixel`).  The mean of
all pixels is such an x, whether the axes of the image stay or go.  (Gates of squeeze and excitation are written so, and are
known as such once they are convolutions.)
Source: Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, section 3; Lin et al., Network in Network, ICLR 2014.
"""

from repcompiler.ir import Expr, Value
from repcompiler.one_pixel import on_one_pixel
from repcompiler.ops import ACTIVATIONS, GlobalAvgPool, Identity, Linear, Mul, Reshape, Scale, Sum
from repcompiler.rewriter import rewrite
from repcompiler.term import term

FLATTENED = term("y", until=(Reshape, GlobalAvgPool), through=(Linear, Identity, Mul, Scale, Sum, *ACTIVATIONS))


@rewrite(Reshape.of(FLATTENED, name="unflatten"))
def unflatten_linear(y: Expr, unflatten: Reshape) -> Expr | Value | tuple[()]:
    return on_one_pixel(unflatten(y)) if any(isinstance(part.op, Linear) for part in y.parts()) else ()
