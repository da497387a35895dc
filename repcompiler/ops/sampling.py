"""Operations that bring the image to another resolution, each channel by itself or the pixels of a block as channels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from repcompiler.ir import Dim, Shape
from repcompiler.ops.base import Op, Padding, window


@dataclass(frozen=True)
class MaxPool(Op):
    """The largest number in a window, padding left out: every window holds a pixel, and none is partial (ceil_mode)."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: Padding
    dilation: tuple[int, ...]

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        sizes = map(window, shapes[0][2:], self.kernel_size, self.stride, self.padding, self.dilation)
        return (*shapes[0][:2], *sizes)


@dataclass(frozen=True)
class Resize(Op):
    """Nearest or linear interpolation: each pixel a mean of pixels of the same channel, with weights that sum to 1.

    As ONNX names it: `mode` is "nearest" or "linear"; `coordinates` ("asymmetric", "half_pixel", "pytorch_half_pixel",
    "align_corners") says where in the operand a pixel of the result lies, `rounding` ("floor", "ceil", "round_prefer_floor",
    "round_prefer_ceil") which pixel is nearest to that.  One factor a spatial axis in `scales`, or one extent in `sizes`; a
    single one holds for all axes alike.  None in `sizes` stands for a further operand, the number itself (or, alone, whatever
    the document says of the size): the result is then of the size of another value.
    """

    mode: str
    coordinates: str
    rounding: str
    scales: tuple[float, ...] = ()
    sizes: tuple[int | None, ...] = ()

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        batch, channels, *spatial = shapes[0]
        return (batch, channels, *(self.extent(axis, n) if isinstance(n, int) else None for axis, n in enumerate(spatial)))

    def extent(self, axis: int, n: int) -> int | None:
        """The extent that `n` pixels along a spatial axis become; None where an operand says."""
        return self.sizes[axis % len(self.sizes)] if self.sizes else int(n * self.scales[axis % len(self.scales)])


SIZES = ((), ("size",), ("height", "width"), ("depth", "height", "width"))
"""Names of the further operands that a Resize may have, for patterns."""


@dataclass(frozen=True)
class SpaceToDepth(Op):
    """Each square of block x block pixels as one pixel of as many times the channels.

    `mode` is the order of the new channels, as ONNX names it: "CRD", all pixels of one channel after the other (torch's
    PixelUnshuffle), or "DCR", all channels of one pixel after the other (ONNX's SpaceToDepth).
    """

    block: int
    mode: str

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        batch, channels, *spatial = shapes[0]
        sizes: list[Dim] = [n // self.block if isinstance(n, int) else None for n in spatial]
        return (batch, channels * self.block ** len(spatial) if isinstance(channels, int) else None, *sizes)


@dataclass(frozen=True)
class DepthToSpace(Op):
    """The inverse of SpaceToDepth: as many channels as a block has pixels, as those pixels (torch's PixelShuffle is "CRD")."""

    block: int
    mode: str

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        if shapes[0] is None:
            return None
        batch, channels, *spatial = shapes[0]
        sizes: list[Dim] = [n * self.block if isinstance(n, int) else None for n in spatial]
        return (batch, channels // self.block ** len(spatial) if isinstance(channels, int) else None, *sizes)


@dataclass(frozen=True)
class GlobalAvgPool(Op):
    """The mean of all pixels of a channel, as one pixel; or as a number, where the spatial axes, `dropped` in number, go."""

    dropped: int = 0

    def infer_shape(self, shapes: Sequence[Shape | None]) -> Shape | None:
        return None if shapes[0] is None else (*shapes[0][:2], *(1 for _ in shapes[0][2:] if not self.dropped))
