"""Channels reserved for what a block skips: y = F(x) + S(x) as one chain of layers, each carrying x beside its own result.

    F = W_L f_(L-1) ... f_1 W_1        y = [W_L  S D] f_(L-1) ... [W_i  0; 0  E D] ... f_1 [W_1; E] x

Between two activations the reserved channels hold E x, and the layer behind finds x again as D f(E x):

    one channel     E = I           D = I              where f(x) = x for every x that can be there (`repcompiler.ranges`)
    two channels    E = [I; -I]     D = [I  -I] / c    where f(x) - f(-x) = c x for every x

Strides and crops are those of the layer: the reserved channels are sampled where its windows stand.
Sources: Meng et al., RMNet, 2021, eqs. 1-4 (one channel, ReLU); two channels: docs/residual_removal.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from typing import NamedTuple

import numpy as np

from repcompiler.algebra import add, compose, is_diagonal, known_zero, negate, regroup
from repcompiler.ir import Expr, Value
from repcompiler.ops import ClipChannels, Concat, Conv, Identity, Linear, Op, Padding, PRelu, Select
from repcompiler.passing import Activation, Gate, Passing, in_pairs, passing, rearranged
from repcompiler.pattern import Fork, Forked
from repcompiler.ranges import ANYTHING, Interval, image, interval
from repcompiler.refusal import Refusal, refuse
from repcompiler.selection import channels_of
from repcompiler.widening import Layer, chosen, interleaved, live, recoded, thinned, widened


def carried(
    x: Value, body: Sequence[Op | Fork | tuple[Op, ...]], shortcut: Conv, outlined: bool = False, among: Sequence[Value] = ()
) -> Expr | Forked:
    """`body`, convolutions and activations on x one after the other, plus `shortcut`, as one chain; refuses where it is none.

    A tuple in the body is a gate: what precedes it times what its operations make of that.  What precedes a fork is made, too,
    as a choice of channels.  The shortcut goes where fewest weights come of it.  `outlined`: only the shapes of the weights are
    right.  `among`: the body does not read x, but the channels of these, to which x is joined.
    """
    channels = sum(channels_of(value) for value in among) or shortcut.in_channels
    convs, activations, forks = _alternating(body, channels, len(shortcut.stride))
    if {len(conv.stride) for conv in convs} != {len(shortcut.stride)}:
        refuse("one acts on the channels, the other on the last axis")
    if forks and not shortcut.stride and x.rank != 2:
        refuse("what is read elsewhere is a choice of channels of axis 1, not of the last")
    if convs[-1].out_channels != shortcut.out_channels:
        refuse("the branches have different channel counts")
    places = range(len(convs))[-1:] if is_diagonal(shortcut) else range(len(convs))  # as it is, it costs nothing in the last
    orders = sorted({1, convs[0].groups, convs[-1].groups})  # what comes first or last mixes nothing that it need not
    wider = [i for i, conv in enumerate(convs[1:-1], 1) if conv.out_channels > conv.in_channels]  # pairs may make equal groups
    plans = [
        _plan(x, convs, activations, shortcut, place, order, doubled, bool(among))
        for place, order, doubled in product(places, orders, (None, *wider))
    ]
    found = [plan for plan in plans if not isinstance(plan, Refusal)]
    if not found:
        refusal = plans[-1 - len(wider)]
        assert isinstance(refusal, Refusal)
        raise refusal
    term: Expr | Value = Concat()(*among, x) if among else x
    kept: dict[int, Expr] = {}
    for index, (step, own) in enumerate(min(found, key=_weights)):
        if not isinstance(step, Identity):
            op = step if not isinstance(step, Layer) else step.outline if outlined else step.conv()
            term = Linear(regroup(op, 1), op.bias)(term) if isinstance(op, Conv) and not op.stride else op(term)
        kept[index] = Select(own)(term)
    assert isinstance(term, Expr)
    return Forked(term, tuple(kept[index] for index in forks)) if forks else term


class Step(NamedTuple):
    """A widened layer or activation, and which channels behind it are the block's own, in order."""

    op: Layer | Activation
    own: tuple[int, ...]


def _plan(
    x: Value,
    convs: Sequence[Conv],
    activations: Sequence[Activation],
    shortcut: Conv,
    place: int,
    order: int,
    doubled: int | None,
    joined: bool,
) -> Sequence[Step] | Refusal:
    """The widened layers and activations, with the shortcut in layer `place`; channels in so many groups where they divide.

    `doubled`: an activation that takes two channels also where one would do.
    """
    try:
        others, between = zip(*_reserving(x, convs, activations, shortcut, place, doubled), strict=True)
    except Refusal as refusal:
        return refusal
    orders = [1]
    for conv, other in zip(convs[:-1], others, strict=False):
        fits = conv.out_channels % order == other.out_channels % order == 0
        orders.append(order if fits else 1)
    orders.append(1)
    plan: list[Step] = []
    for index, (conv, other, passed) in enumerate(zip(convs, others, between, strict=True)):
        first, last = index == 0 and not joined, index == len(convs) - 1
        own, reserved, behind = conv.out_channels, 0 if last else other.out_channels, orders[index + 1]
        stands = interleaved(own, reserved, behind)
        chosen = tuple(np.argsort(stands)[:own].tolist())
        plan.append(Step(widened(conv, other, (orders[index], behind), first, last), chosen))
        if passed is not None:
            activation = passed.widened(own, reserved)
            plan.append(Step(activation if behind == 1 else rearranged(activation, stands), chosen))
    return plan


def _weights(plan: Iterable[Step]) -> int:
    return sum(int(step.op.outline.weight.size) for step in plan if isinstance(step.op, Layer))


def _alternating(
    body: Sequence[Op | Fork | tuple[Op, ...]], channels: int, axes: int
) -> tuple[list[Conv], list[Activation], list[int]]:
    """Convolutions, and what stands between each two of them: identities fill the gaps.  And behind which of them forks are."""
    convs: list[Conv] = []
    activations: list[Activation] = []
    forks: list[int] = []
    plain = _dirac((1,) * axes, ((0, 0),) * axes)
    for op in (*body, None):
        if isinstance(op, Fork):
            forks.append(len(convs) + len(activations) - 1)
            continue
        if isinstance(op, Conv):
            activations += [Identity()] * (len(convs) - len(activations))
            convs.append(op)
            channels = op.out_channels
            continue
        ends = activations and len(convs) == len(activations) and 2 * len(convs) - 1 not in forks
        before = activations[-1] if ends else None
        if isinstance(op, tuple) and before is not None and not isinstance(before, Gate):
            activations[-1] = Gate(op, before)
            continue
        if len(convs) == len(activations):
            convs.append(_repeated(plain, channels))
        if op is not None:
            activations.append(Gate(op) if isinstance(op, tuple) else op)
    if forks and forks[-1] == len(convs) + len(activations) - 1:
        refuse("what the shortcut is added to is read elsewhere, too", "fan-out")
    return convs, activations, forks


@dataclass(frozen=True)
class Reserved:
    """What the reserved channels hold of x at some point: itself, or where `pair` is c, two numbers c x apart."""

    channels: int
    pair: float
    inside: Interval


def _reserving(
    x: Value, convs: Sequence[Conv], activations: Sequence[Activation], shortcut: Conv, place: int, doubled: int | None
) -> Iterator[tuple[Conv, Passing | None]]:
    """What each layer does to reserved channels, with the shortcut in layer `place`, and how they pass what is behind it."""
    samples = _samples(convs, shortcut, place, x.spatial(len(shortcut.stride)))
    least, most = interval(x)
    inside = (min(least, 0.0), max(most, 0.0))  # of what is skipped; layers pad it with zeros
    held = Reserved(shortcut.in_channels, 0.0, inside)
    for index, (conv, sample, activation) in enumerate(zip(convs, samples, activations, strict=False)):
        how = passing(activation, held.inside) if index != doubled else in_pairs(activation)
        if index != place and not how.odd_part:  # they go on as they are
            other = sample if sample.in_channels == held.channels else _repeated(sample, held.channels)
            held = replace(held, channels=other.out_channels)
        else:
            inside = ANYTHING if index == place else inside
            how = how if index == doubled else passing(activation, inside)
            other = recoded(sample, held.pair, how.odd_part > 0)
            both = min(inside[0], -inside[1]), max(inside[1], -inside[0])
            within = image(_mapped(activation), [both]) if how.odd_part else inside
            held = Reserved(other.out_channels, how.odd_part, within)
        wide = how.widened(conv.out_channels, held.channels)
        of_tokens = not conv.stride and x.rank != 2
        if of_tokens and isinstance(wide, Gate):
            refuse("the gate weighs the channels of axis 1, not those of the last")
        if of_tokens and isinstance(_mapped(wide), (ClipChannels, PRelu)):
            refuse(f"{_mapped(wide).kind} has a constant a channel of axis 1, not of the last")
        yield other, how
    yield recoded(samples[-1], held.pair, False), None


def _mapped(activation: Activation) -> Op:
    """What reserved channels meet of an activation: its gate is one for them."""
    return activation.before if isinstance(activation, Gate) else activation


def _samples(convs: Sequence[Conv], shortcut: Conv, place: int, size: Sequence[int | None]) -> list[Conv]:
    """What each layer takes of what is skipped: the pixels in its windows' middle, and in layer `place` the shortcut.

    All of them one after the other are the shortcut; refuses where that cannot be.  Only channels that it reads and makes are
    carried: the first layer chooses those, and the last one leaves zero the others.
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
    whole = reduce(compose, map(thinned, samples))
    rest = add(whole, negate(thinned(shortcut)), size, agreed=True)  # refuses where strides or sizes differ
    assert known_zero(rest.weight), "padding and dilation were chosen so that the taps stand where those of the shortcut do"
    assert known_zero(rest.bias)
    read, made = live(shortcut, 1) if place else None, live(shortcut, 0) if after else None
    samples[:place] = [_repeated(sample, shortcut.in_channels if read is None else len(read)) for sample in before]
    samples[place + 1 :] = [_repeated(sample, shortcut.out_channels if made is None else len(made)) for sample in after]
    samples[place] = chosen(samples[place], made, read)
    if read is not None:
        samples[0] = chosen(_repeated(before[0], shortcut.in_channels), read, None)
    if made is not None:
        samples[-1] = chosen(_repeated(after[-1], shortcut.out_channels), None, made)
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
