"""To test passes with: graphs written as expressions, random operations that hide nothing, and an exact comparison.

    rng = np.random.default_rng(0)
    conv3, conv1 = random_conv(rng, 8, 8, 3, padding=1), random_conv(rng, 8, 8, 1)
    graph = build(lambda x: Sum((1, 1))(conv3(x), conv1(x)), x=(None, 8, None, None))
    log = check_pass(merge_parallel_branches, graph)
    assert render(graph) == ...

Comparison runs the float64 interpreter on odd, on non-square and on tiny inputs, and tells apart by the distance from the
border where two graphs differ: what is inexact only at the border is the commonest mistake of all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from repcompiler.cost import OBJECTIVES
from repcompiler.interpreter import trace
from repcompiler.ir import Expr, Graph, Shape, Value
from repcompiler.ops import BatchNorm, Conv, ConvTranspose, Linear, Opaque, Padding, Scale
from repcompiler.printer import render
from repcompiler.rewrite_log import Log
from repcompiler.rewriter import Pass, Rewriter

NDArray = np.ndarray[Any, Any]
Axes = int | Sequence[int]
"""One number for all spatial axes, or one an axis."""

TOLERANCE = 1e-12
"""Largest error that is rounding, relative to the largest magnitude of the expected output (and 1)."""

SIZES = ((13, 18, 9), (10, 7, 11), (4, 5, 3), (1, 2, 1), (1, 1, 1))
"""Extents given to unknown spatial axes: odd, even and non-square, then so small that everything is border."""


def build(function: Callable[..., Expr | Mapping[str, Expr | Value]], **inputs: Shape) -> Graph:
    """The graph of an expression.

    `function` takes the inputs, whose names and shapes are given as keywords, and returns the result, which is named `y`, or
    a mapping of names to results.  An expression object that occurs twice becomes one node that is read twice.  Values in
    between are named after their operation: conv1, conv2, batchnorm1.
    """
    graph = Graph()
    graph.inputs += [Value(name, shape) for name, shape in inputs.items()]
    built = function(*graph.inputs)
    results = built if isinstance(built, Mapping) else {"y": built}
    names = {id(result): name for name, result in results.items()}
    made: dict[int, Value] = {}
    counts: dict[str, int] = {}

    def value_of(term: Expr | Value) -> Value:
        if isinstance(term, Value):
            return term
        if id(term) not in made:
            operands = [value_of(operand) for operand in term.operands]
            kind = term.op.kind.lower()
            counts[kind] = counts.get(kind, 0) + 1
            shape = term.op.infer_shape([operand.shape for operand in operands])
            made[id(term)] = Value(names.get(id(term), f"{kind}{counts[kind]}"), shape)
            graph.add(term.op, operands, [made[id(term)]])
        return made[id(term)]

    graph.outputs += [value_of(result) for result in results.values()]
    return graph


def random_conv(
    rng: np.random.Generator,
    in_channels: int,
    out_channels: int,
    kernel_size: Axes,
    *,
    stride: Axes = 1,
    padding: int | Sequence[int | tuple[int, int]] = 0,
    dilation: Axes = 1,
    groups: int = 1,
    bias: bool = True,
) -> Conv:
    """A convolution with normally distributed weights; two-dimensional unless `kernel_size` has another length.

    `padding` is one number, or for each axis a number or a (before, after) pair.
    """
    kernel = _axes(kernel_size, 2)
    sides = (padding,) * len(kernel) if isinstance(padding, int) else padding
    pairs: Padding = tuple((side, side) if isinstance(side, int) else side for side in sides)
    weight = rng.normal(size=(out_channels, in_channels // groups, *kernel))
    stride, dilation = _axes(stride, len(kernel)), _axes(dilation, len(kernel))
    return Conv(weight, _bias(rng, out_channels, bias), stride, pairs, dilation, groups)


def random_conv_transpose(
    rng: np.random.Generator,
    in_channels: int,
    out_channels: int,
    kernel_size: Axes,
    *,
    stride: Axes = 1,
    padding: int | Sequence[int | tuple[int, int]] = 0,
    output_padding: Axes = 0,
    dilation: Axes = 1,
    groups: int = 1,
    bias: bool = True,
) -> ConvTranspose:
    """A transposed convolution; arguments as for `random_conv`."""
    like = random_conv(
        rng, out_channels, in_channels, kernel_size, stride=stride, padding=padding, dilation=dilation, groups=groups
    )
    out = _axes(output_padding, len(like.stride))
    bias_array = _bias(rng, out_channels, bias)
    return ConvTranspose(like.weight, bias_array, like.stride, like.padding, out, like.dilation, groups)


def random_linear(rng: np.random.Generator, in_channels: int, out_channels: int, *, bias: bool = True) -> Linear:
    """A fully connected layer."""
    return Linear(rng.normal(size=(out_channels, in_channels)), _bias(rng, out_channels, bias))


def random_batch_norm(rng: np.random.Generator, channels: int, eps: float = 1e-5) -> BatchNorm:
    """A batch norm as after training: gamma of both signs, mean and beta far from 0, var far from 1.

    A fresh one (gamma 1, the rest 0 and 1) is nearly the identity and hides every mistake.
    """
    gamma, beta, mean = rng.normal(size=(3, channels))
    gamma = gamma + np.where(np.arange(channels) % 2, -0.5, 0.5)
    return BatchNorm(gamma, beta, mean + 1.0, rng.uniform(0.2, 3.0, size=channels), eps)


def random_scale(rng: np.random.Generator, channels: int, axis: int = 1) -> Scale:
    """A scale and shift for each channel of `axis`; `channels` 1 treats the whole tensor alike."""
    return Scale(rng.normal(size=channels), rng.normal(size=channels), axis)


def opaque(label: str, function: Callable[..., NDArray]) -> Opaque:
    """An operation that no rewrite looks into and the interpreter can run: `opaque("Relu", lambda x: np.maximum(x, 0))`."""
    return Opaque(label, lambda arrays: [function(*arrays)])


relu = opaque("Relu", lambda x: np.maximum(x, 0))
"""The usual fence between linear operations."""


@dataclass(frozen=True)
class Deviation:
    """How far a result is from what was expected, relative to the largest expected magnitude."""

    output: str
    by_depth: tuple[float, ...]
    """The largest error at each distance from the border, outermost pixels first; one entry where there are no pixels."""

    @property
    def border(self) -> float:
        """The error at the outermost pixels."""
        return self.by_depth[0]

    @property
    def interior(self) -> float:
        """The error at the pixels farthest from the border."""
        return self.by_depth[-1]

    @property
    def worst(self) -> float:
        """The largest error anywhere; NaN where one is."""
        return float(np.max(self.by_depth))

    def __str__(self) -> str:
        frame = max((depth + 1 for depth, error in enumerate(self.by_depth) if not error <= TOLERANCE), default=0)
        depths = " ".join(f"{error:.1e}" for error in self.by_depth)
        if 0 < frame < len(self.by_depth):
            return f"%{self.output} differs within {frame} px of the border, not inside: {depths} from the border inwards"
        return f"%{self.output} differs by {self.worst:.1e} everywhere: {depths} from the border inwards"


def deviations(before: Graph, after: Graph, size: Sequence[int] = SIZES[0]) -> list[Deviation]:
    """How far each output of `after` is from that of `before`, on a random input with spatial extents `size`."""
    feeds = random_feeds(before, size)
    return _deviations(_run(before, feeds), _run(after, _feeds_for(after, feeds)))


def assert_equivalent(before: Graph, after: Graph) -> None:
    """Assert that two graphs compute the same outputs, to rounding, on inputs of all `SIZES` that `before` can take.

    Raises:
        AssertionError: they differ; the message says in which output, on which input and how far from the border.
    """
    for feeds, expected in _cases(before):
        _assert_close(expected, after, _feeds_for(after, feeds))


def check_pass(passes: Pass | Sequence[Pass], graph: Graph, objective: str = "plain") -> Log:
    """Apply passes to `graph`, in place, and assert that it still is a graph and computes what it did.

    Returns the log: empty `steps` say that nothing happened, and `declined` why.  The default objective rewards plainness
    alone, so that a test of an equation does not depend on what an operation is estimated to cost.

    Raises:
        AssertionError: the outputs differ; the message says in which output, on which input and how far from the border.
        ValueError: the graph is broken (`Graph.check`).
    """
    cases = list(_cases(graph))
    log = Rewriter(graph, passes if isinstance(passes, Sequence) else [passes], OBJECTIVES[objective]).run()
    graph.check()
    for feeds, expected in cases:
        _assert_close(expected, graph, feeds)
    return log


def random_feeds(graph: Graph, size: Sequence[int] = SIZES[0]) -> dict[Value, NDArray]:
    """A normally distributed array for each input: 2 where batch or channels are unknown, `size` for unknown further axes."""
    rng = np.random.default_rng(len(size))
    feeds = {}
    for value in graph.inputs:
        if value.shape is None:
            raise ValueError(f"the input {value!r} needs a shape, if only one of None")
        extents = zip(value.shape, (2, 2, *size), strict=False)
        feeds[value] = rng.normal(size=[known if isinstance(known, int) else extent for known, extent in extents])
    return feeds


def _feeds_for(graph: Graph, feeds: Mapping[Value, NDArray]) -> dict[Value, NDArray]:
    return dict(zip(graph.inputs, feeds.values(), strict=True))


def _run(graph: Graph, feeds: Mapping[Value, NDArray]) -> dict[str, NDArray]:
    """The outputs by name; asserts that every value has the shape that the graph states."""
    results = {}
    for value, array in trace(graph, feeds):
        stated = array.shape if value.shape is None else value.shape
        agree = len(stated) == array.ndim and all(
            not isinstance(dim, int) or dim == n for dim, n in zip(stated, array.shape, strict=True)
        )
        assert agree, f"{value!r} is stated to be {stated} and is {array.shape}"
        if graph.is_output(value):
            results[value.name] = array
    return {value.name: results[value.name] for value in graph.outputs}


def _cases(graph: Graph) -> Iterator[tuple[dict[Value, NDArray], dict[str, NDArray]]]:
    """Inputs of all `SIZES` that the graph can take (the first it must), each once, with the outputs."""
    seen = set()
    for size in SIZES:
        feeds = random_feeds(graph, size)
        shapes = tuple(array.shape for array in feeds.values())
        if shapes not in seen and (size is SIZES[0] or _can_take(graph, feeds)):
            seen.add(shapes)
            yield feeds, _run(graph, feeds)


def _can_take(graph: Graph, feeds: Mapping[Value, NDArray]) -> bool:
    """Whether no window is larger than what it moves over."""
    try:
        return all(array.size for _, array in trace(graph, feeds))
    except ValueError:
        return False


def _deviations(expected: Mapping[str, NDArray], actual: Mapping[str, NDArray]) -> list[Deviation]:
    assert list(actual) == list(expected), f"the outputs are {list(actual)}, not {list(expected)}"
    return [Deviation(name, _errors_by_depth(expected[name], actual[name])) for name in expected]


def _errors_by_depth(expected: NDArray, actual: NDArray) -> tuple[float, ...]:
    assert actual.shape == expected.shape, f"the shape is {actual.shape}, not {expected.shape}"
    error = np.abs(actual - expected) / max(1.0, float(np.abs(expected).max()))
    depth = np.full(error.shape[2:], max(error.shape[2:], default=0))
    for axis, extent in enumerate(error.shape[2:]):
        from_border = np.minimum(np.arange(extent), np.arange(extent)[::-1])
        depth = np.minimum(depth, from_border.reshape([-1 if other == axis else 1 for other in range(depth.ndim)]))
    return tuple(float(error[..., depth == pixels].max()) for pixels in np.unique(depth))


def _assert_close(expected: Mapping[str, NDArray], graph: Graph, feeds: Mapping[Value, NDArray]) -> None:
    for deviation in _deviations(expected, _run(graph, feeds)):
        if not deviation.worst <= TOLERANCE:
            shapes = ", ".join(f"{value!r} of shape {array.shape}" for value, array in feeds.items())
            raise AssertionError(f"on {shapes}: {deviation}\n{render(graph)}")


def _axes(values: Axes, axes: int) -> tuple[int, ...]:
    return (values,) * axes if isinstance(values, int) else tuple(values)


def _bias(rng: np.random.Generator, channels: int, wanted: bool) -> NDArray:
    return rng.normal(size=channels) if wanted else np.zeros(channels)
