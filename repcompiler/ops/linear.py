"""Operations that compute: each is linear in its operand, up to a bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repcompiler.ir import Dim, Shape
from repcompiler.ops.base import Array, Op, Padding, window


@dataclass(frozen=True, eq=False)
class Conv(Op):
    """Cross-correlation: weight (O, I/groups, *kernel_size), bias (O,), as torch and ONNX define it."""

    weight: Array
    bias: Array
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    @property
    def extent(self) -> tuple[int, ...]:
        """Pixels one application reaches over, an axis: dilation * (kernel_size - 1) + 1."""
        return tuple(d * (k - 1) + 1 for k, d in zip(self.kernel_size, self.dilation, strict=True))

    @property
    def is_pointwise(self) -> bool:
        """Whether it does no more than mix the channels of each pixel."""
        return all(n == 1 for n in (*self.kernel_size, *self.stride)) and not any(map(any, self.padding))

    def channel_axis(self, rank: int | None) -> int:
        return 1

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        shape = shapes[0]
        spatial: Sequence[Dim] = shape[2:] if shape is not None else [None] * len(self.stride)
        sizes = map(window, spatial, self.kernel_size, self.stride, self.padding, self.dilation)
        return (shape[0] if shape else None, self.out_channels, *sizes)

    def __str__(self) -> str:
        size = "x".join(map(str, self.kernel_size))
        return f"Conv {self.in_channels}->{self.out_channels} {size}" + (f" g{self.groups}" if self.groups > 1 else "")


@dataclass(frozen=True, eq=False)
class DynamicConv(Op):
    """Cross-correlation of its first operand with the second, a kernel that depends on data; the bias, (O,), is a constant.

    The kernel has `weight_shape`, (O, I/groups, *kernel_size).  `each`: every sample of the first operand has its own, and the
    second operand holds them one behind the other, whatever its shape.
    """

    weight_shape: tuple[int, ...]
    bias: Array
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]
    groups: int
    each: bool = False

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return self.weight_shape[2:]

    @property
    def in_channels(self) -> int:
        return self.weight_shape[1] * self.groups

    @property
    def out_channels(self) -> int:
        return self.weight_shape[0]

    def with_kernel(self, weight: Array) -> Conv:
        """The convolution that it is for one kernel, a number for each of `weight_shape`."""
        return Conv(weight.reshape(self.weight_shape), self.bias, self.stride, self.padding, self.dilation, self.groups)

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        image = shapes[0] if shapes[0] is not None else (None,) * len(self.weight_shape)
        sizes = map(window, image[2:], self.kernel_size, self.stride, self.padding, self.dilation)
        return (image[0], self.out_channels, *sizes)

    def __str__(self) -> str:
        return f"DynamicConv {self.in_channels}->{self.out_channels}"


@dataclass(frozen=True, eq=False)
class ConvTranspose(Op):
    """Transposed convolution: weight (I, O/groups, *kernel_size), bias (O,)."""

    weight: Array
    bias: Array
    stride: tuple[int, ...]
    padding: Padding
    output_padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return tuple(self.weight.shape[2:])

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[1]) * self.groups

    def channel_axis(self, rank: int | None) -> int:
        return 1

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        shape = shapes[0]
        spatial: Sequence[Dim] = shape[2:] if shape is not None else [None] * len(self.stride)
        sizes = [
            (n - 1) * s - sum(p) + d * (k - 1) + e + 1 if isinstance(n, int) else None
            for n, k, s, p, e, d in zip(
                spatial, self.kernel_size, self.stride, self.padding, self.output_padding, self.dilation, strict=True
            )
        ]
        return (shape[0] if shape else None, self.out_channels, *sizes)


@dataclass(frozen=True, eq=False)
class Linear(Op):
    """y = x W^T + b on the last axis: weight (O, I), bias (O,)."""

    weight: Array
    bias: Array

    @property
    def in_channels(self) -> int:
        return int(self.weight.shape[1])

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[0])

    def channel_axis(self, rank: int | None) -> int:
        """The last axis; -1 where the rank is unknown, which equals no axis counted from the front."""
        return -1 if rank is None else rank - 1

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return None if shapes[0] is None else (*shapes[0][:-1], self.out_channels)

    def __str__(self) -> str:
        return f"Linear {self.in_channels}->{self.out_channels}"


@dataclass(frozen=True, eq=False)
class BatchNorm(Op):
    """Batch normalisation in eval mode, on axis 1: gamma (x - mean) / sqrt(var + eps) + beta, all of shape (C,)."""

    gamma: Array
    beta: Array
    mean: Array
    var: Array
    eps: float

    @property
    def channels(self) -> int:
        return int(self.mean.shape[0])

    def channel_axis(self, rank: int | None) -> int | None:
        return 1

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return _with_channels(self, shapes[0])


@dataclass(frozen=True, eq=False)
class Scale(Op):
    """scale * x + shift, a number each channel of `axis` (shape (C,)) or one for the whole tensor (shape (1,)).

    `axis` counts from the front; from the back (negative) only where the rank is unknown.
    """

    scale: Array
    shift: Array
    axis: int = 1

    @property
    def channels(self) -> int:
        return max(int(self.scale.shape[0]), int(self.shift.shape[0]))

    def channel_axis(self, rank: int | None) -> int | None:
        """The axis it tells apart, or None where it treats the whole tensor alike."""
        if self.channels == 1:
            return None
        return self.axis + rank if self.axis < 0 and rank is not None else self.axis

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return _with_channels(self, shapes[0])


@dataclass(frozen=True)
class AvgPool(Op):
    """Average over a window, padded zeros counted in (count_include_pad), no partial windows (ceil_mode)."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding
    divisor: int

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        ones = (1,) * len(self.stride)
        return (*shapes[0][:2], *map(window, shapes[0][2:], self.kernel_size, self.stride, self.padding, ones))


def _with_channels(op: BatchNorm | Scale, shape: Shape | None) -> Shape | None:
    """The shape of what `op` makes of a value of `shape`: how many channels there are is told by its numbers."""
    axis = None if shape is None else op.channel_axis(len(shape))
    if shape is None or axis is None or axis >= len(shape) or isinstance(shape[axis], int):
        return shape
    return (*shape[:axis], op.channels, *shape[axis + 1 :])


LinearOp = Conv | ConvTranspose | Linear
"""Operations with a weight and a bias: y = W(x) + b."""

Affine = BatchNorm | Scale
"""Operations that map each channel c to t_c x + s_c."""
