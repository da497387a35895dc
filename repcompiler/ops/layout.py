"""Operations that only move numbers: around the image, or from channel to channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from repcompiler.ir import Shape
from repcompiler.ops.base import Array, Op, Padding, window

if TYPE_CHECKING:
    from repcompiler.pattern import Pattern, RootPattern


@dataclass(frozen=True)
class Pad(Op):
    """Zeros around the spatial axes; a negative amount crops."""

    padding: Padding

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        ones = (1,) * len(self.padding)
        return (*shapes[0][:2], *map(window, shapes[0][2:], ones, ones, self.padding, ones))


@dataclass(frozen=True, eq=False)
class Frame(Op):
    """A frame around the spatial axes that holds one number a channel: `value`, of shape (channels,)."""

    padding: Padding
    value: Array

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return Pad(self.padding).infer_shape(shapes)


@dataclass(frozen=True)
class Subsample(Op):
    """Every stride-th pixel of an axis, from the pixel `first` on (0 where it is not given): x[:, :, f::s, f::s]."""

    stride: tuple[int, ...]
    first: tuple[int, ...] = ()

    @property
    def padding(self) -> Padding:
        """The pixels before the first as a crop."""
        return tuple((-pixel, 0) for pixel in self.first or (0,) * len(self.stride))

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        ones = (1,) * len(self.stride)
        return (*shapes[0][:2], *map(window, shapes[0][2:], ones, self.stride, self.padding, ones))


@dataclass(frozen=True)
class Concat(Op):
    """The operands' channels one behind the other (axis 1)."""

    @classmethod
    def of(cls, *operands: str | Pattern, name: str = "") -> RootPattern:
        """A pattern that matches neighbours in a concatenation which are linear in one value, whatever else it joins."""
        from repcompiler.joins import ConcatPattern
        from repcompiler.pattern import LinearPattern

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
class PadChannels(Op):
    """Channels of zeros before and behind those of the operand."""

    before: int
    after: int

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        channels = shapes[0][1]
        total = channels + self.before + self.after if isinstance(channels, int) else None
        return (shapes[0][0], total, *shapes[0][2:])


@dataclass(frozen=True)
class Reshape(Op):
    """The same numbers in row-major order under another shape, as ONNX says it: 0 keeps an extent, one -1 is inferred.

    `target` is said of the axes before the last `tail`, which stay as they are, whatever their extents.
    """

    target: tuple[int, ...]
    tail: int = 0

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        shape = shapes[0]
        resolved = None if shape is None else self.resolve(shape)
        kept = (None,) * self.tail if shape is None else shape[len(shape) - self.tail :]
        return resolved or (*(size if size > 0 else None for size in self.target), *kept)

    def resolve(self, shape: Shape) -> Shape | None:
        """The result's shape where the batch axis stays (a symbol, too) and every extent behind it is known; else None."""
        behind = [size for size in shape[1:] if isinstance(size, int)]
        target = (*self.target, *behind[len(behind) - self.tail :])
        if len(behind) < len(shape) - 1 or len(target) < 2:
            return None
        rest = [shape[axis] if size == 0 and axis < len(shape) else size for axis, size in enumerate(target)][1:]
        numbers, total = [size for size in rest if isinstance(size, int)], prod(behind)
        explicit = prod(size for size in numbers if size > 0)
        if target[0] == -1:
            kept = -1 not in rest and explicit == total
        else:
            kept = target[0] in (0, shape[0]) and explicit > 0 and total % explicit == 0
        if not kept or len(numbers) < len(rest) or (-1 not in rest and explicit != total):
            return None
        return (shape[0], *(total // explicit if size == -1 else size for size in numbers))

    def kept_axes(self, shape: Shape) -> dict[int, int]:
        """Where each axis of `shape` is in the result, if axes of one number are all that comes and goes; else nothing.

        An axis that is inferred is the one left over: all others keep their extents, and so does it.
        """
        here = [axis for axis, size in enumerate(shape) if size != 1]
        there = [axis for axis, size in enumerate(self.target) if size != 1]
        if self.tail or len(here) != len(there):
            return {}
        pairs = dict(zip(here, there, strict=True))
        same = (self.target[b] in (-1, shape[a]) or (self.target[b] == 0 and a == b) for a, b in pairs.items())
        return pairs if all(same) else {}


def steps(shape: Shape) -> dict[int, tuple[int, int]]:
    """(numbers from one index to the next, extent) of each axis but the batch, row-major; 0 where that is not known."""
    sizes = [size if isinstance(size, int) else 0 for size in shape]
    return {axis: (prod(sizes[axis + 1 :]), sizes[axis]) for axis in range(1, len(sizes))}


@dataclass(frozen=True)
class Transpose(Op):
    """Axis i of the result is axis perm[i] of the operand."""

    perm: tuple[int, ...]

    def keeps_order(self, shape: Shape) -> bool:
        """Whether numbers of that shape, as far as it is known, stay in row-major order: only axes of one number move."""
        wide = [axis for axis in self.perm if shape[axis : axis + 1] != (1,)]
        return wide == sorted(wide)

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return None if shapes[0] is None else tuple(shapes[0][axis] for axis in self.perm)


@dataclass(frozen=True)
class Stack(Op):
    """The operands side by side along `axis` of the result: a new one, or one along which each has a single number."""

    axis: int
    new: bool

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        return (*shapes[0][: self.axis], len(shapes), *shapes[0][self.axis + (not self.new) :])


@dataclass(frozen=True)
class Take(Op):
    """What is at `index` of `axis`; the axis stays, with that one number, or goes."""

    axis: int
    index: int
    keep: bool

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        return (*shapes[0][: self.axis], *((1,) if self.keep else ()), *shapes[0][self.axis + 1 :])
