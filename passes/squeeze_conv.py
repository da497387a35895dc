"""Apply a convolution to a row of pixels rather than to an image of one row.

    squeeze(W * unsqueeze(x) + b)  =  w * x + b        w the one row, or column, of W

Exact always, where the kernel sees one pixel of the new axis and no padding: what it strides over there is one pixel.
(Keras exports its convolutions of sequences so.)
"""

from repcompiler.ir import Expr, Value
from repcompiler.ops import Conv, Reshape
from repcompiler.refusal import refuse
from repcompiler.rewriter import rewrite


@rewrite(Reshape.of(Conv.of(Reshape.of("x", name="unsqueeze"), name="conv"), name="squeeze"))
def squeeze_conv(x: Value, unsqueeze: Reshape, conv: Conv, squeeze: Reshape) -> Expr:
    shape, one = x.shape or (), {0: 0, 1: 1}  # a batch of one, or one channel
    given = one | unsqueeze.kept_axes(shape)
    rows = [there - 2 for here, there in given.items() if here >= 2]  # spatial axes of the image that are those of x
    if len(shape) < 3 or len(rows) != len(shape) - 2 or (given[0], given[1], shape[1]) != (0, 1, conv.in_channels):
        refuse("it does not only get an axis of one row")
    others = [axis for axis in range(len(conv.stride)) if axis not in rows]
    if any(conv.kernel_size[axis] != 1 or any(conv.padding[axis]) for axis in others):
        refuse("it looks at more than the one row")
    made = one | squeeze.kept_axes(conv.infer_shape([unsqueeze.infer_shape([shape])]) or ())
    back = one | {row + 2: axis for axis, row in enumerate(rows, 2)}
    if len(squeeze.target) != len(shape) or any(made.get(axis) != there for axis, there in back.items()):
        refuse("not that axis alone is taken away again")
    weight = conv.weight.reshape(*conv.weight.shape[:2], *(conv.kernel_size[row] for row in rows))
    stride, dilation = (tuple(sizes[row] for row in rows) for sizes in (conv.stride, conv.dilation))
    return Conv(weight, conv.bias, stride, tuple(conv.padding[row] for row in rows), dilation, conv.groups)(x)
