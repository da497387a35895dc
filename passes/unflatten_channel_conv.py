"""Apply a convolution along the channels of an image of one pixel as a 1x1 convolution of that image.

    reshape(f(w * reshape(x, (N, 1, C)) + b), (N, D, 1, 1))  =  f(T * x + b)        T[o, s o - p + d j] = w[j], 0 elsewhere

Exact always, the border included: T is the band of w, cut off where the signal is padded with zeros, and f acts on each number
by itself.  (Gates of efficient channel attention are written so, and are known as such once they are 1x1 convolutions.)
Source: Wang et al., ECA-Net, CVPR 2020, section 3.2 (a convolution of the channels' means as a band matrix).
"""

from repcompiler.algebra import broadcast
from repcompiler.algebra_transposed import band
from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Shape
from repcompiler.ops import ACTIVATIONS, Conv, GlobalAvgPool, Identity, Reshape, Transpose
from repcompiler.pattern import one_of
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.term import term

SIGNAL = term("y", until=(GlobalAvgPool,), through=(Conv, Identity, Reshape, Transpose, *ACTIVATIONS))


@rewrite(one_of(Reshape, Transpose)(SIGNAL, name="unflatten"))
def unflatten_channel_conv(y: Expr, unflatten: Reshape | Transpose) -> Expr | tuple[()]:
    pool, *steps = unflatten(y).parts()
    if not any(isinstance(step.op, Conv) and len(step.op.stride) == 1 for step in steps):
        return ()
    made, shape = GlobalAvgPool()(*pool.operands), shape_of(pool)
    image = shape_of(made)
    if shape is None or image is None:
        refuse("the rank of the image is not known")
    ones = (1,) * len(image[2:])
    for op in (step.op for step in steps):
        if isinstance(op, (Reshape, Transpose)):
            shape = _in_order(op, shape)
        elif isinstance(op, Conv):
            if len(shape) != 3 or shape[1] != 1 or op.out_channels != 1 or not isinstance(channels := shape[2], int):
                refuse("it mixes more than one channel, or how many numbers they hold is not known")
            matrix = band(op, channels)
            shape, bias = (*shape[:2], len(matrix)), broadcast(op.bias, len(matrix))
            made = Conv(matrix.reshape(*matrix.shape, *ones), bias, ones, ((0, 0),) * len(ones), ones, 1)(made)
        else:
            if any(array.shape != (1,) for array in op.arrays.values()):
                refuse("it has a constant a channel")
            made = op(made)
    if shape != shape_of(made):
        refuse("it makes another image than one of a single pixel")
    return made


def _in_order(op: Reshape | Transpose, shape: Shape) -> Shape:
    """The shape that an operation gives numbers which stay in their order."""
    if isinstance(op, Transpose) and (op.perm[0] != 0 or not op.keeps_order(shape)):
        refuse("it moves channels past each other")
    made = op.resolve(shape) if isinstance(op, Reshape) else op.infer_shape([shape])
    if made is None:
        refuse("the number of channels is not known")
    return made
