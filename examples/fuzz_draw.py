"""Drawing a plan at random: each step is run as it is drawn, so that shapes fit and numbers stay numbers.

    draw = Draw(np.random.default_rng(seed), (2, 6, 9, 11));  y = draw.conv(0);  z = draw.batch_norm(y)

A method draws one operation on a value and returns its result; where that has none here, it raises `DeadEnd`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fuzz_weights as weights
import numpy as np
import torch
from fuzz_plans import Shape, Step
from fuzz_torch import ACTIVATIONS, perform
from fuzz_weights import chance, pick

LARGEST = 60_000
"""Numbers of one value."""
HUGE = 1e3
CHANNELS = (1, 2, 3, 4, 4, 6, 6, 8)
Pairs = tuple[tuple[int, int], ...]


class DeadEnd(Exception):
    """What was drawn does not fit."""


class Draw:
    """Steps so far, and what each makes of a random input."""

    def __init__(self, rng: np.random.Generator, *inputs: Shape) -> None:
        self.rng = rng
        self.inputs = inputs
        self.values = [torch.from_numpy(rng.standard_normal(shape)) for shape in inputs]
        self.steps: list[Step] = []

    def chance(self, probability: float) -> bool:
        return chance(self.rng, probability)

    def pick(self, *choices: Any) -> Any:
        return pick(self.rng, *choices)

    def shape(self, x: int) -> Shape:
        return tuple(self.values[x].shape)

    def spatial(self, x: int) -> Shape:
        return self.shape(x)[2:]

    def step(self, kind: str, *inputs: int, **attrs: Any) -> int:
        """The number of the value that it makes."""
        step = Step(kind, inputs, {"style": int(self.rng.integers(8)), **attrs})
        try:
            value = perform(step, [self.values[index] for index in inputs])
        except (RuntimeError, ValueError, IndexError, TypeError) as error:
            raise DeadEnd from error
        if not 0 < value.numel() <= LARGEST or not torch.isfinite(value).all() or value.abs().max() > HUGE:
            raise DeadEnd
        self.values.append(value)
        self.steps.append(step)
        return len(self.values) - 1

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What comes to a dead end leaves no trace."""
        count = len(self.steps)
        try:
            yield
        except DeadEnd:
            del self.steps[count:], self.values[len(self.inputs) + count :]

    def again(self, index: int, x: int) -> int:
        """A step once more, with the same weights."""
        step = self.steps[index]
        if len(step.inputs) != 1 or len(self.shape(step.inputs[0])) != len(self.shape(x)):
            raise DeadEnd
        if step.kind not in ("conv", "linear", "batch_norm", "activation") and self.shape(step.inputs[0]) != self.shape(x):
            raise DeadEnd
        number = self.step(step.kind, x, **step.attrs)
        self.steps[-1] = Step(step.kind, (x,), step.attrs)
        return number

    # Windows.

    def geometry(self, x: int, kernel: Shape, dilation: Shape, extra: int = 0) -> Pairs:
        """Padding that keeps the extents but for `extra`, split up at random."""
        pads = []
        for k, d in zip(kernel, dilation, strict=True):
            total = max(d * (k - 1) + extra, 0)
            before = int(self.rng.integers(total + 1)) if self.chance(0.3) else total // 2
            pads.append((before, total - before))
        return tuple(pads)

    def each_axis(self, x: int, *choices: int) -> Shape:
        """One number for all axes, or one an axis."""
        axes = len(self.spatial(x))
        return (self.pick(*choices),) * axes if self.chance(0.7) else tuple(self.pick(*choices) for _ in range(axes))

    def conv(
        self,
        x: int,
        out: int | None = None,
        stride: Shape | None = None,
        kernel: Shape | None = None,
        extra: int = 0,
        groups: int = 0,
    ) -> int:
        axes, channels = len(self.spatial(x)), self.shape(x)[1]
        if not axes:
            raise DeadEnd
        kernel = kernel or self.each_axis(x, *((1, 1, 2, 3) if axes > 2 else (1, 1, 1, 1, 3, 3, 3, 2, 5, 4, 7)))
        stride = stride or ((1,) * axes if self.chance(0.8) else self.each_axis(x, 1, 2, 2, 3))
        dilation = (1,) * axes if self.chance(0.8) else self.each_axis(x, 1, 2, 3)
        if out is None:
            out = self.pick(channels, *CHANNELS)
        if not groups:
            common = [g for g in range(1, channels + 1) if channels % g == 0 and out % g == 0]
            groups = self.pick(1, 1, 1, *common)
        weight = weights.kernel(self.rng, out, channels // groups, kernel)
        attrs = {"stride": stride, "pads": self.geometry(x, kernel, dilation, extra), "dilation": dilation, "groups": groups}
        computed = self.pick("scaled", "transposed", "sum") if self.chance(0.05) else None
        if self.chance(0.02):
            attrs["mode"] = self.pick("reflect", "replicate")
        return self.step("conv", x, weight=weight, bias=weights.bias(self.rng, out), computed=computed, **attrs)

    def unpadded(self, x: int, kernel: Shape | None = None) -> int:
        return self.conv(x, kernel=kernel or self.each_axis(x, 1, 2, 3), extra=-(10**6))

    def depthwise(self, x: int) -> int:
        channels = self.shape(x)[1]
        return self.conv(x, out=channels * self.pick(1, 1, 1, 2), groups=channels)

    def pointwise(self, x: int, out: int | None = None, groups: int = 0) -> int:
        axes = len(self.spatial(x))
        return self.conv(x, out, (1,) * axes, (1,) * axes, groups=groups)

    def conv_transpose(self, x: int, like: Step | None = None) -> int:
        axes, channels = len(self.spatial(x)), self.shape(x)[1]
        if not axes:
            raise DeadEnd
        if like is not None:
            attrs = {name: like.attrs[name] for name in ("stride", "pads", "dilation", "output_padding")}
            kernel, out = like.attrs["weight"].shape[2:], like.attrs["weight"].shape[1] * like.attrs["groups"]
        else:
            kernel, out = self.each_axis(x, 1, 2, 3, 4), self.pick(*CHANNELS)
            stride = self.each_axis(x, 1, 2, 2)
            dilation = (1,) * axes if self.chance(0.8) else self.each_axis(x, 1, 2)
            pads = tuple(
                (p, p) if self.chance(0.8) else (p, 0) for p in (int(self.rng.integers((k + 1) // 2 + 1)) for k in kernel)
            )
            output_padding = tuple(int(self.rng.integers(s)) if self.chance(0.4) else 0 for s in stride)
            attrs = {"stride": stride, "pads": pads, "dilation": dilation, "output_padding": output_padding}
        groups = self.pick(1, 1, *[g for g in (2, 3) if channels % g == 0 and out % g == 0])
        weight = weights.kernel(self.rng, channels, out // groups, kernel)
        return self.step("conv_transpose", x, weight=weight, bias=weights.bias(self.rng, out), groups=groups, **attrs)

    def avg_pool(self, x: int, keep: bool = False) -> int:
        axes = len(self.spatial(x))
        if not axes:
            raise DeadEnd
        kernel = self.each_axis(x, 3, 5) if keep else self.each_axis(x, 1, 2, 3)
        keep = keep or self.chance(0.3)
        stride = (1,) * axes if keep or self.chance(0.4) else self.each_axis(x, 1, 2)
        pads = tuple((k // 2, k // 2) if keep or self.chance(0.15) else (0, 0) for k in kernel)
        counted = self.chance(0.75)
        ceil = self.chance(0.08) and not any(map(any, pads)) and all(s <= k for s, k in zip(stride, kernel, strict=True))
        return self.step("avg_pool", x, kernel=kernel, stride=stride, pads=pads, count_include_pad=counted, ceil_mode=ceil)

    def max_pool(self, x: int) -> int:
        axes = len(self.spatial(x))
        if not axes:
            raise DeadEnd
        kernel = self.each_axis(x, 1, 2, 3)
        stride = (1,) * axes if self.chance(0.5) else self.each_axis(x, 1, 2)
        pads = tuple((k // 2, k // 2) if self.chance(0.4) else (0, 0) for k in kernel)
        dilation = (1,) * axes if self.chance(0.9) else (2,) * axes
        ceil = self.chance(0.08) and not any(map(any, pads)) and all(s <= k for s, k in zip(stride, kernel, strict=True))
        return self.step("max_pool", x, kernel=kernel, stride=stride, pads=pads, dilation=dilation, ceil_mode=ceil)

    def pad(self, x: int) -> int:
        axes = len(self.spatial(x))
        if not axes:
            raise DeadEnd
        pads = tuple((self.pick(0, 1, 1, 2, -1), self.pick(0, 1, 1, 2, -1)) for _ in range(axes))
        if self.chance(0.15):
            pads = tuple((abs(before), abs(after)) for before, after in pads)
            return self.step("pad", x, mode=self.pick("reflect", "replicate"), pads=pads, value=0.0)
        return self.step("pad", x, mode="constant", pads=pads, value=0.0 if self.chance(0.85) else 0.5)

    # One number for one number.

    def batch_norm(self, x: int) -> int:
        rank = len(self.shape(x))
        if rank < 2 or rank > 5:
            raise DeadEnd
        return self.step("batch_norm", x, rank=rank, **weights.batch_norm(self.rng, self.shape(x)[1]))

    def scale(self, x: int) -> int:
        """By a constant of any broadcast form: a channel's (C, 1, 1), the last axis' (W,), which looks alike where C = W."""
        shape = self.shape(x)
        axis = 1 if self.chance(0.75) else int(self.rng.integers(1, len(shape)))
        sizes = tuple(size if index == axis else 1 for index, size in enumerate(shape))
        form = self.pick(sizes, sizes[1:], sizes[axis:], (), (1,))
        if self.chance(0.05):
            form = shape[-2:] if len(shape) > 2 else shape[1:]
        by, reverse = self.pick("add", "sub", "mul", "mul", "div"), self.chance(0.3)
        constant = weights.constant(self.rng, form)
        if by == "div":
            constant = weights.f32(np.where(np.abs(constant) < 0.2, 0.7, constant))
        return self.step("scale", x, constant=constant, by=by, reverse=reverse and by != "div")

    def activation(self, x: int) -> int:
        if self.chance(0.45):
            return self.step("activation", x, name=self.pick("relu", "relu", "relu6", "leaky_relu"))
        if self.chance(0.2) and len(self.shape(x)) > 2:
            channels = self.shape(x)[1]
            slope = weights.f32(self.rng.uniform(-0.3, 0.6, channels if self.chance(0.7) else 1))
            return self.step("prelu", x, slope=np.abs(slope) if self.chance(0.4) else slope)
        return self.step("activation", x, name=self.pick(*ACTIVATIONS))

    def prelu_of_last(self, x: int) -> int:
        size = self.shape(x)[-1]
        return self.step("prelu_of_last", x, slope=weights.f32(self.rng.uniform(-0.3, 0.6, size)))

    def linear(self, x: int, out: int | None = None) -> int:
        shape = self.shape(x)
        out = out or self.pick(shape[-1], *CHANNELS)
        form = {"alpha": 0.5, "beta": self.pick(2.0, 0.25, 1.0)} if len(shape) == 2 and self.chance(0.1) else {}
        computed = self.pick("scaled", "transposed", "sum") if self.chance(0.1) and not form else None
        weight = weights.kernel(self.rng, out, shape[-1], ())
        return self.step("linear", x, weight=weight, bias=weights.bias(self.rng, out), computed=computed, **form)
