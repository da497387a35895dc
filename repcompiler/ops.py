"""The operations a rewrite understands.  Each is a frozen record that carries its own constants.

Kernels are written over `*spatial` axes, so one operation serves 1-D, 2-D and 3-D alike; padding is asymmetric, one
(before, after) pair a spatial axis, and may be negative (a crop) while rewriting.  `channel_axis` says which axis of the
result carries output channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from repcompiler.ir import Dim, Expr, Shape, Value

if TYPE_CHECKING:
    from repcompiler.pattern import Pattern, RootPattern

Array = Any
"""An array of any array-API namespace: numpy while compiling, torch while training."""

Padding = tuple[tuple[int, int], ...]


class Op:
    """An operation of the IR.  Calling it on operands builds an expression; `of` builds a pattern."""

    @property
    def pure(self) -> bool:
        """Whether removing an unread application changes nothing."""
        return True

    def __call__(self, *operands: Expr | Value) -> Expr:
        return Expr(self, operands)

    @classmethod
    def of(cls, *operands: str | Pattern, name: str = "") -> RootPattern:
        """A pattern that matches this operation on `operands`; `name` captures the operation itself."""
        from repcompiler.pattern import OpPattern

        return OpPattern((cls,), operands, name)

    @property
    def kind(self) -> str:
        """The name shown to people."""
        return type(self).__name__

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        """Shape of the first result, as far as the operand shapes say."""
        return shapes[0]

    def __str__(self) -> str:
        return self.kind


def _window(size: Dim, kernel: int, stride: int, padding: tuple[int, int], dilation: int) -> Dim:
    if not isinstance(size, int):
        return None
    return (size + sum(padding) - dilation * (kernel - 1) - 1) // stride + 1


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

    def channel_axis(self, rank: int | None) -> int:
        return 1

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        shape = shapes[0]
        spatial: Sequence[Dim] = shape[2:] if shape is not None else [None] * len(self.stride)
        sizes = map(_window, spatial, self.kernel_size, self.stride, self.padding, self.dilation)
        return (shape[0] if shape else None, self.out_channels, *sizes)

    def __str__(self) -> str:
        size = "x".join(map(str, self.kernel_size))
        return f"Conv {self.in_channels}->{self.out_channels} {size}" + (f" g{self.groups}" if self.groups > 1 else "")


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
        return (*shapes[0][:2], *map(_window, shapes[0][2:], self.kernel_size, self.stride, self.padding, ones))


@dataclass(frozen=True)
class Pad(Op):
    """Zeros around the spatial axes; a negative amount crops."""

    padding: Padding

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        ones = (1,) * len(self.padding)
        return (*shapes[0][:2], *map(_window, shapes[0][2:], ones, ones, self.padding, ones))


@dataclass(frozen=True)
class Subsample(Op):
    """Every stride-th pixel, the first one included: x[:, :, ::s, ::s]."""

    stride: tuple[int, ...]

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        ones, none = (1,) * len(self.stride), ((0, 0),) * len(self.stride)
        return (*shapes[0][:2], *map(_window, shapes[0][2:], ones, self.stride, none, ones))


@dataclass(frozen=True)
class Sum(Op):
    """sign_1 x_1 + ... + sign_n x_n: Add, Sub and n-ary sums in one; operands may broadcast."""

    signs: tuple[int, ...]

    @classmethod
    def of(cls, *operands: str | Pattern, name: str = "") -> RootPattern:
        """A pattern that matches two terms of an addition tree, whatever else is added."""
        from repcompiler.pattern import LinearPattern, SumPattern

        first, second = operands
        if not (isinstance(first, LinearPattern) and isinstance(second, LinearPattern)):
            raise TypeError("the terms of a sum are matched as linear(...)")
        return SumPattern(first, second)

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        ranks = {len(shape) for shape in shapes if shape is not None}
        if None in shapes or len(ranks) != 1:
            return None
        columns = zip(*(shape for shape in shapes if shape is not None), strict=True)
        return tuple(max(dims, key=lambda dim: (dim != 1, dim is not None)) for dims in columns)

    def __str__(self) -> str:
        return "Add" if self.signs == (1, 1) else "Sub" if self.signs == (1, -1) else f"Sum{list(self.signs)}"


@dataclass(frozen=True)
class Concat(Op):
    """The operands' channels one behind the other (axis 1)."""

    @classmethod
    def of(cls, *operands: str | Pattern, name: str = "") -> RootPattern:
        """A pattern that matches neighbours in a concatenation which are linear in one value, whatever else it joins."""
        from repcompiler.pattern import ConcatPattern, LinearPattern

        (branches,) = operands
        if not isinstance(branches, LinearPattern):
            raise TypeError("the parts of a concatenation are matched as linear(...)")
        return ConcatPattern(branches)

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        sizes = [None if shape is None else shape[1] for shape in shapes]
        known = [size for size in sizes if isinstance(size, int)]
        return (shapes[0][0], sum(known) if len(known) == len(sizes) else None, *shapes[0][2:])


@dataclass(frozen=True)
class Select(Op):
    """Channels `index` of axis 1, in that order: a slice, one part of a split, a permutation."""

    index: tuple[int, ...]

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return None if shapes[0] is None else (shapes[0][0], len(self.index), *shapes[0][2:])

    def __str__(self) -> str:
        return f"Select {len(self.index)} channels"


@dataclass(frozen=True)
class Reshape(Op):
    """The same numbers in row-major order under another shape, as ONNX says it: 0 keeps an extent, one -1 is inferred."""

    target: tuple[int, ...]

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        resolved = None if shapes[0] is None else self.resolve(shapes[0])
        return resolved or tuple(size if size > 0 else None for size in self.target)

    def resolve(self, shape: Shape) -> Shape | None:
        """The result's shape where the batch axis stays (a symbol, too) and every extent behind it is known; else None."""
        behind = [size for size in shape[1:] if isinstance(size, int)]
        if len(behind) < len(shape) - 1 or len(self.target) < 2:
            return None
        rest = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(self.target)][1:]
        numbers, total = [size for size in rest if isinstance(size, int)], prod(behind)
        explicit = prod(size for size in numbers if size > 0)
        if self.target[0] == -1:
            kept = -1 not in rest and explicit == total
        else:
            kept = self.target[0] in (0, shape[0]) and explicit > 0 and total % explicit == 0
        if not kept or len(numbers) < len(rest) or (-1 not in rest and explicit != total):
            return None
        return (shape[0], *(total // explicit if size == -1 else size for size in numbers))


@dataclass(frozen=True)
class Transpose(Op):
    """Axis i of the result is axis perm[i] of the operand."""

    perm: tuple[int, ...]

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return None if shapes[0] is None else tuple(shapes[0][axis] for axis in self.perm)


@dataclass(frozen=True)
class Identity(Op):
    """x itself (also Dropout in eval mode, and casts to the type a value has)."""


@dataclass(frozen=True, eq=False)
class Constant(Op):
    """A tensor that depends on nothing."""

    array: Array

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return tuple(int(size) for size in self.array.shape)


@dataclass(frozen=True, eq=False)
class Opaque(Op):
    """An operation of the document that no rewrite looks into.

    `evaluate` maps the arrays of the node's inputs to the arrays of its outputs; `foldable` says that the result depends
    on nothing else, so that it can be computed once where all inputs are constants.
    """

    label: str
    evaluate: Callable[[Sequence[Array]], Sequence[Array]] | None = None
    foldable: bool = False
    effect: bool = False

    @property
    def pure(self) -> bool:
        return not self.effect

    @property
    def kind(self) -> str:
        return self.label

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return None


LinearOp = Conv | ConvTranspose | Linear
"""Operations with a weight and a bias: y = W(x) + b."""

Affine = BatchNorm | Scale
"""Operations that map each channel c to t_c x + s_c."""
