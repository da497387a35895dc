"""Channels reserved for what a block skips: y = F(x) + S(x) as one chain of layers, each carrying x beside its own result.

    F = W_L f_(L-1) ... f_1 W_1        y = [W_L  S D] f_(L-1) ... [W_i  0; 0  E D] ... f_1 [W_1; E] x

Between two activations the reserved channels hold E x, and the layer behind finds x again as D f(E x):

    one channel     E = I           D = I              where f(x) = x for every x that can be there (`repcompiler.ranges`)
    two channels    E = [I; -I]     D = [I  -I] / c    where f(x) - f(-x) = c x for every x

Strides and crops are those of the layer: the reserved channels are sampled where its windows stand.
Sources: Meng et al., RMNet, 2021, eqs. 1-4 (one channel, ReLU); two channels: docs/residual_removal.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

import numpy as np

from repcompiler.algebra import add, compose, float64, is_diagonal, known_zero, namespace, negate, pad_axis, regroup
from repcompiler.ir import Expr, Value
from repcompiler.ops import ClipChannels, Conv, Identity, Linear, Op, Padding, PRelu
from repcompiler.passing import Activation, Gate, passing
from repcompiler.ranges import ANYTHING, Interval, image, interval
from repcompiler.refusal import Refusal, refuse


@dataclass(frozen=True)
class Layer:
    """One widened layer: its size, known at once, and its weights, computed when asked for."""

    outline: Conv
    conv: Callable[[], Conv]


def carried(x: Value, body: Sequence[Op | tuple[Op, ...]], shortcut: Conv, outlined: bool = False) -> Expr:
    """`body`, convolutions and activations on x one after the other, plus `shortcut`, as one chain; refuses where it is none.

    A tuple in the body is a gate: what precedes it times what its operations make of that.  The shortcut goes where fewest
    weights come of it.  `outlined`: only the shapes of the weights are right.
    """
    convs, activations = _alternating(body, shortcut)
    if {len(conv.stride) for conv in convs} != {len(shortcut.stride)}:
        refuse("one acts on the channels, the other on the last axis")
    if convs[-1].out_channels != shortcut.out_channels:
        refuse("the branches have different channel counts")
    places = range(len(convs))[-1:] if is_diagonal(shortcut) else range(len(convs))  # as it is, it costs nothing in the last
    plans = [_plan(x, convs, activations, shortcut, place) for place in places]
    found = [plan for plan in plans if not isinstance(plan, Refusal)]
    if not found:
        raise next(plan for plan in plans[::-1] if isinstance(plan, Refusal))
    term: Expr | Value = x
    for step in min(found, key=_weights):
        if isinstance(step, Identity):
            continue
        op = step if not isinstance(step, Layer) else step.outline if outlined else step.conv()
        term = Linear(regroup(op, 1), op.bias)(term) if isinstance(op, Conv) and not op.stride else op(term)
    assert isinstance(term, Expr)
    return term


def _plan(
    x: Value, convs: Sequence[Conv], activations: Sequence[Activation], shortcut: Conv, place: int
) -> Sequence[Layer | Activation] | Refusal:
    try:
        return list(_layers(x, convs, activations, shortcut, place))
    except Refusal as refusal:
        return refusal


def _weights(plan: Sequence[Layer | Activation]) -> int:
    return sum(int(step.outline.weight.size) for step in plan if isinstance(step, Layer))


def _alternating(body: Sequence[Op | tuple[Op, ...]], shortcut: Conv) -> tuple[list[Conv], list[Activation]]:
    """Convolutions, and what stands between each two of them: identities fill the gaps."""
    convs: list[Conv] = []
    activations: list[Activation] = []
    channels = shortcut.in_channels
    plain = _dirac((1,) * len(shortcut.stride), ((0, 0),) * len(shortcut.stride))
    for op in (*body, None):
        if isinstance(op, Conv):
            activations += [Identity()] * (len(convs) - len(activations))
            convs.append(op)
            channels = op.out_channels
            continue
        before = activations[-1] if activations and len(convs) == len(activations) else None
        if isinstance(op, tuple) and before is not None and not isinstance(before, Gate):
            activations[-1] = Gate(op, before)
            continue
        if len(convs) == len(activations):
            convs.append(_repeated(plain, channels))
        if op is not None:
            activations.append(Gate(op) if isinstance(op, tuple) else op)
    return convs, activations


@dataclass(frozen=True)
class Reserved:
    """What the reserved channels hold of x at some point: itself, or where `pair` is c, two numbers c x apart."""

    channels: int
    pair: float
    inside: Interval


def _layers(
    x: Value, convs: Sequence[Conv], activations: Sequence[Activation], shortcut: Conv, place: int
) -> Iterator[Layer | Activation]:
    """The widened layers and activations, with the shortcut in layer `place`."""
    samples = _samples(convs, shortcut, place, x.spatial(len(shortcut.stride)))
    least, most = interval(x)
    channels, inside = shortcut.in_channels, (min(least, 0.0), max(most, 0.0))  # of what is skipped; layers pad it with zeros
    held = Reserved(channels, 0.0, inside)
    for index, (conv, sample, activation) in enumerate(zip(convs, samples, activations, strict=False)):
        how = passing(activation, held.inside)
        if index != place and not how.odd_part:  # they go on as they are
            yield _widened(conv, _repeated(sample, held.channels), 0.0, False, first=index == 0)
        else:
            if index == place:
                channels, inside = shortcut.out_channels, ANYTHING
            else:
                sample = _repeated(sample, channels)
            how = passing(activation, inside)
            yield _widened(conv, sample, held.pair, how.odd_part > 0, first=index == 0)
            both = min(inside[0], -inside[1]), max(inside[1], -inside[0])
            one = Reserved(channels, 0.0, inside)
            held = Reserved(2 * channels, how.odd_part, image(_mapped(activation), [both])) if how.odd_part else one
        widened = how.widened(conv.out_channels, held.channels)
        if isinstance(_mapped(widened), (ClipChannels, PRelu)) and not conv.stride and x.rank != 2:
            refuse(f"{_mapped(widened).kind} has a constant a channel of axis 1, not of the last")
        yield widened
    sample = samples[-1] if place == len(convs) - 1 else _repeated(samples[-1], channels)
    yield _widened(convs[-1], sample, held.pair, False, last=True)


def _mapped(activation: Activation) -> Op:
    """What reserved channels meet of an activation: its gate is one for them."""
    return activation.before if isinstance(activation, Gate) else activation


def _widened(conv: Conv, sample: Conv, pair: float, doubled: bool, first: bool = False, last: bool = False) -> Layer:
    """`conv` on its own channels and `sample` on the reserved ones: both read x in the first layer, both add up in the last."""
    inputs, outputs = sample.in_channels * (2 if pair else 1), sample.out_channels * (2 if doubled else 1)
    split = None if first or last else _equal_groups(conv, inputs, outputs, 1 if pair or doubled else sample.groups)
    own, others = split or (1, 1)
    rows = (conv.out_channels, outputs) if not last else (0, 0)
    columns = (conv.in_channels, inputs) if not (first or split) else (0, 0)
    groups = own + others if split else 1
    anywhere = (None,) * len(conv.stride)
    thin = add(_thin(conv), _thin(sample), anywhere, agreed=True)
    shape = (conv.out_channels + rows[1], conv.in_channels // own + columns[1], *thin.kernel_size)
    outline = replace(thin, weight=np.broadcast_to(np.zeros(()), shape), bias=np.zeros(shape[0]), groups=groups)

    def build() -> Conv:
        other = _recoded(sample, pair, doubled) if pair or doubled else sample
        parts = (
            _placed(conv, own, groups, (0, rows[1]), (0, columns[1])),
            _placed(other, others, groups, (rows[0], 0), (columns[0], 0)),
        )
        return add(*parts, size=anywhere, agreed=True)

    return Layer(outline, build)


def _equal_groups(conv: Conv, inputs: int, outputs: int, groups: int) -> tuple[int, int] | None:
    """The most groups of equal size into which both can be split; None where they cannot."""
    for own in (own for own in range(conv.groups, 0, -1) if conv.groups % own == 0):
        fan_in, fan_out = conv.in_channels // own, conv.out_channels // own
        others = inputs // fan_in
        if others and (inputs, outputs) == (others * fan_in, others * fan_out) and groups % others == 0:
            return own, others
    return None


def _placed(op: Conv, groups: int, total: int, rows: tuple[int, int], columns: tuple[int, int]) -> Conv:
    """`op` in `groups` of `total` groups, with so many rows and columns of zeros around its kernel."""
    weight = pad_axis(pad_axis(regroup(op, groups), 0, *rows), 1, *columns)
    return replace(op, weight=weight, bias=pad_axis(float64(op.bias), 0, *rows), groups=total)


def _recoded(op: Conv, pair: float, doubled: bool) -> Conv:
    """[op; -op] of (p - q) / pair: rows for both signs where `doubled`, columns for both numbers where there are a pair."""
    weight, bias = regroup(op, 1), float64(op.bias)
    xp = namespace(weight)
    weight = xp.concat([weight / pair, -weight / pair], axis=1) if pair else weight
    if doubled:
        weight, bias = xp.concat([weight, -weight]), xp.concat([bias, -bias])
    return replace(op, weight=weight, bias=bias, groups=1)


def _samples(convs: Sequence[Conv], shortcut: Conv, place: int, size: Sequence[int | None]) -> list[Conv]:
    """What each layer takes of the reserved channels: the pixels in its windows' middle, and in layer `place` the shortcut.

    Refuses unless all of them one after the other are the shortcut.
    """
    shrinks = [[e - 1 - sum(p) for e, p in zip(conv.extent, conv.padding, strict=True)] for conv in convs]
    paddings = [tuple((-(n // 2), n // 2 - n) for n in shrink) for shrink in shrinks]
    samples = [_dirac(conv.stride, padding) for conv, padding in zip(convs, paddings, strict=True)]
    before, after = samples[:place], samples[place + 1 :]
    geometry = []
    for axis, (k, d, p) in enumerate(zip(shortcut.kernel_size, shortcut.dilation, shortcut.padding, strict=True)):
        step, offset = _stepped(before, axis)
        _, later = _stepped(after, axis)
        if (k > 1 and d % step) or (p[0] - offset) % step:
            refuse("the shortcut reads pixels that the layers before it leave out")
        spread = d // step if k > 1 else 1
        first = (p[0] - offset) // step - convs[place].stride[axis] * later
        geometry.append((spread, (first, spread * (k - 1) - first - shrinks[place][axis])))
    dilation, padding = tuple(d for d, _ in geometry), tuple(p for _, p in geometry)
    samples[place] = replace(shortcut, stride=convs[place].stride, dilation=dilation, padding=padding)
    whole = reduce(compose, map(_thin, samples))
    rest = add(whole, negate(_thin(shortcut)), size, agreed=True)
    if not (known_zero(rest.weight) and known_zero(rest.bias)):
        refuse("the shortcut reads other pixels than the block")
    return samples


def _stepped(samples: Sequence[Conv], axis: int) -> tuple[int, int]:
    """(a, q) with which pixel a u - q of the first becomes pixel u of the last."""
    step, offset = 1, 0
    for sample in samples:
        offset += step * sample.padding[axis][0]
        step *= sample.stride[axis]
    return step, offset


def _dirac(stride: tuple[int, ...], padding: Padding) -> Conv:
    """One channel, sampled."""
    ones = (1,) * len(stride)
    return Conv(np.ones((1, 1, *ones)), np.zeros(1), stride, padding, ones, 1)


def _repeated(sample: Conv, channels: int) -> Conv:
    """The same for each of so many channels."""
    weight = np.ones((channels, 1, *sample.kernel_size))
    return replace(sample, weight=weight, bias=np.zeros(channels), groups=channels)


def _thin(conv: Conv) -> Conv:
    """Its geometry: one channel, every tap one."""
    bias = np.zeros(1) if known_zero(conv.bias) else np.ones(1)
    return replace(conv, weight=np.ones((1, 1, *conv.kernel_size)), bias=bias, groups=1)
