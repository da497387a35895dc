"""Apply fully connected layers to an image of one pixel, rather than to the row of its channels and back.

    reshape(f(W reshape(x, (N, C)) + b), (N, O, 1, 1))  =  f(W * x + b)        W * a 1x1 convolution, x of one pixel

Exact always: both hold the same numbers in the same order, and f acts on each by itself.  The mean of all pixels is such an x,
whether the axes of the image stay or go.  (Gates of squeeze and excitation are written so, and are known as such once they are
convolutions.)
Source: Hu et al., Squeeze-and-Excitation Networks, CVPR 2018, section 3; Lin et al., Network in Network, ICLR 2014.
"""

from collections.abc import Sequence

from repcompiler.cost import shape_of
from repcompiler.ir import Expr, Value
from repcompiler.ops import ACTIVATIONS, Conv, GlobalAvgPool, Identity, Linear, Mul, Op, Reshape, Scale, Sum
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite
from repcompiler.term import term

FLATTENED = term("y", until=(Reshape, GlobalAvgPool), through=(Linear, Identity, Mul, Scale, Sum, *ACTIVATIONS))


@rewrite(Reshape.of(FLATTENED, name="unflatten"))
def unflatten_linear(y: Expr, unflatten: Reshape) -> Expr | Value | tuple[()]:
    if not any(isinstance(part.op, Linear) for part in y.parts()):
        return ()
    shape = shape_of(y) or ()
    image = unflatten.resolve(shape) or ()
    if len(shape) != 2 or len(image) < 3 or image != (*shape, *(1,) * (len(image) - 2)):
        refuse("it makes another image than one of a single pixel")
    made: dict[Expr | Value, Expr | Value] = {}
    for part in y.parts():
        made[part] = _of_pixels(part.op, [made.get(operand, operand) for operand in part.operands], (1,) * (len(image) - 2))
    return made[y]


def _of_pixels(op: Op, operands: Sequence[Expr | Value], ones: tuple[int, ...]) -> Expr | Value:
    x = operands[0]
    shape = x.shape or () if isinstance(x, Value) else ()
    if op == GlobalAvgPool(dropped=len(ones)):
        return GlobalAvgPool()(x)
    if shape[2:] == ones and isinstance(op, Reshape) and op.resolve(shape) == shape[:2]:
        return x
    rows = [operand for operand in operands if isinstance(operand, Value) and operand.rank != len(ones) + 2]
    if isinstance(op, (Reshape, GlobalAvgPool)) or rows:
        refuse("it reads more than the channels of one pixel")
    if isinstance(op, Scale) and op.channels > 1 and op.axis != 1:
        refuse("it scales an axis that is counted from behind")
    if isinstance(op, Linear):
        padding = ((0, 0),) * len(ones)
        return Conv(op.weight.reshape(*op.weight.shape, *ones), op.bias, ones, padding, ones, 1)(x)
    return op(*operands)
