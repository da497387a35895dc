"""What a model without example inputs seems to take: a guess, which is true where the model runs on it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import fx, nn

from repcompiler.document import InputSpec
from repcompiler.frontends.fx_calls import target_name
from repcompiler.frontends.fx_layout import ELEMENTWISE
from repcompiler.frontends.fx_lift import lift
from repcompiler.frontends.fx_run import AXES, Values
from repcompiler.ir import Node, Shape, Value
from repcompiler.ops import Conv, ConvTranspose, GlobalAvgPool, Linear, Opaque, Reshape

SIZES = {
    0: ((),),
    1: ((256,),),
    2: ((128, 160), (224, 224), (256, 256), (240, 240), (196, 196), (384, 384), (512, 512), (97, 131), (32, 32), (9, 7)),
    3: ((16, 64, 64), (32, 32, 32), (16, 224, 224)),
}
"""What is tried, by number of spatial axes: an image of any size, and those that networks insist on."""

Outputs = list[torch.Tensor]

PICTURE = 3
"""Channels of a picture, which a model may rearrange before its first convolution."""


def guess_inputs(region: fx.GraphModule) -> list[InputSpec]:
    """Of each input the channels and the rank that the nearest convolution or fully connected layer reads."""
    dtype = next((str(p.dtype) for p in region.parameters() if p.is_floating_point()), "torch.float32").removeprefix("torch.")
    inputs = [value for value in lift(region).inputs if value.origin.graph is region.graph and not value.origin.args]
    return [InputSpec(value.name, _read_behind(value), dtype) for value in inputs]


def first_taken(
    region: fx.GraphModule, specs: Sequence[InputSpec], run: Callable[[Values], Outputs]
) -> tuple[Values, Outputs] | None:
    """The first made-up inputs that a model runs on, and what it returns; None where it runs on none.

    An error that two sizes share is not of the size, unless it is an assertion: these have the same words, or none.
    """
    for guess in _guesses(specs):
        said: set[str] = set()
        for values in _made_up(region, guess):
            outcome = _outcome(run, values)
            if not isinstance(outcome, Exception):
                return values, outcome
            if str(outcome) in said and not isinstance(outcome, AssertionError):
                break
            said.add(str(outcome))
    return None


def _outcome(run: Callable[[Values], Outputs], values: Values) -> Outputs | Exception:
    """What is returned; a guess that is wrong may run all the same, but not for two at a time."""
    try:
        outputs = run(values)
        run(tuple(torch.cat([value, value]) for value in values))
        return outputs
    except Exception as error:  # whatever a model raises
        return error


def _guesses(specs: Sequence[InputSpec]) -> Iterable[tuple[Shape, ...]]:
    """Of all inputs what was read behind them, and pictures in the place of images; nothing where one is unknown."""
    known = tuple(spec.shape for spec in specs if spec.shape is not None)
    pictures = tuple((*shape[:1], PICTURE, *shape[2:]) if len(shape) in AXES else shape for shape in known)
    return dict.fromkeys((known, pictures)) if specs and len(known) == len(specs) else ()


def _made_up(region: fx.GraphModule, guess: Sequence[Shape]) -> Iterator[Values]:
    """Normally distributed numbers of a few sizes."""
    like = next((p for p in region.parameters() if p.is_floating_point()), torch.zeros(0))
    random = torch.Generator().manual_seed(0)
    for sizes in SIZES[max(len(shape) for shape in guess) - 2]:
        shapes = [[1, int(str(shape[1])), *sizes][: len(shape)] for shape in guess]
        yield tuple(torch.randn(shape, generator=random).to(like.device, like.dtype) for shape in shapes)


def _read_behind(value: Value) -> Shape | None:
    """What the nearest convolution reads, or else the nearest fully connected layer; None where there is neither."""
    ranks: dict[Value, int] = {value: 0}
    alike, pending = {value}, [value]
    rows: Shape | None = None
    for current in pending:
        for user in current.uses:
            shape, rank = _read_by(user), ranks[current] or _rank_of(user.origin)
            if shape is not None and len(shape) in AXES:
                return (*shape[:2], *AXES[rank or len(shape)])
            rows = rows or (shape if current in alike else None)
            if current in alike and _keeps_rows(user):
                alike.update(user.outputs)
            pending += [output for output in user.outputs if output not in ranks]
            ranks.update({output: rank for output in user.outputs if output not in ranks})
    return rows


def _keeps_rows(node: Node) -> bool:
    """Whether it reads the rows that it makes."""
    if isinstance(node.op, Opaque):
        return node.op.label.lower() in ELEMENTWISE
    return not isinstance(node.op, (Reshape, GlobalAvgPool))


def _read_by(node: Node) -> Shape | None:
    if isinstance(node.op, (Conv, ConvTranspose)):
        return ("batch", node.op.in_channels, *AXES[node.op.weight.ndim])
    if isinstance(node.op, Linear):
        return ("batch", node.op.in_channels)
    return _read_within(node.origin)  # of convolutions alone: how many axes there are before a row, only the model knows


def _rank_of(call: fx.Node) -> int:
    """How many axes a layer or function of images reads, as its name says: 4 for AvgPool2d, avg_pool2d; 0 where it does not."""
    owner = call.graph.owning_module
    layer = type(owner.get_submodule(str(call.target))) if call.op == "call_module" and owner is not None else call.target
    found = re.search(r"([123])d$", target_name(layer))
    return int(found[1]) + 2 if found else 0


def _read_within(call: fx.Node) -> Shape | None:
    """What the first such layer of a module reads that was not looked into."""
    owner = call.graph.owning_module
    if call.op != "call_module" or owner is None:
        return None
    for module in owner.get_submodule(str(call.target)).modules():
        if isinstance(module, nn.modules.conv._ConvNd):
            return ("batch", module.in_channels, *AXES[module.weight.ndim])
    return None
