"""Networks of random residual blocks, nested, branched, strided, gated, sliced: made plain, they compute what they did."""

from math import gcd

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.ops import Clip, Concat, Gated, GlobalAvgPool, HardSigmoid, Identity, Mul, PRelu, Relu, Select, Sigmoid, Sum
from repcompiler.passes import PASSES
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv

Add, Sub = Sum((1, 1)), Sum((1, -1))
GATES = ("silu", "gelu", "gelu_tanh", "hardswish")


class Blocks:
    """Draws blocks; every expression in them is a map of so many channels."""

    def __init__(self, draw):
        self.draw = draw
        self.rng = np.random.default_rng(draw(st.integers(0, 999)))
        self.axes, self.masked = self.one(2, 2, 1), self.one(False, False, True)

    def one(self, *choices):
        return self.draw(st.sampled_from(choices))

    def activation(self, x, channels):
        slopes = PRelu(self.rng.normal(size=channels)), PRelu(np.array([0.2]))
        clips = Clip(0.0, 6.0), Clip(-1.0, np.inf), Clip(0.5, 2.0)
        return self.one(Relu(), Relu(), Identity(), *slopes, *clips, *map(Gated, GATES), Sigmoid())(x)

    def conv(self, x, inputs, outputs, stride=1):
        kernel, dilation = self.one(1, 3, 5), self.one(1, 2)
        groups = self.one(1, gcd(inputs, outputs), gcd(inputs, outputs, 2))
        reach = dilation * (kernel - 1)
        attributes = {"stride": stride, "padding": reach // 2, "dilation": dilation, "bias": self.one(True, False)}
        conv = random_conv(self.rng, inputs, outputs, (kernel,) * self.axes, groups=groups, **attributes)
        if self.masked:
            conv.weight[self.rng.random(outputs) < 0.3] = conv.weight[:, self.rng.random(conv.weight.shape[1]) < 0.3] = 0.0
        return random_batch_norm(self.rng, outputs)(conv(x)) if self.one(True, False) else conv(x)

    def pointwise(self, x, inputs, outputs, stride=1):
        return random_conv(self.rng, inputs, outputs, (1,) * self.axes, stride=stride)(x)

    def gated(self, x, channels):
        reduced = Relu()(self.pointwise(GlobalAvgPool()(x), channels, 2))
        gate = self.one(Sigmoid(), HardSigmoid(1 / 6, 0.5))(self.pointwise(reduced, 2, channels))
        return Mul()(x, gate)

    def chain(self, x, inputs, outputs, depth, stride=1):
        channels = inputs
        for layer in range(self.one(1, 2, 3)):
            wide = self.one(2, 4, 6)
            x = self.activation(self.conv(x, channels, wide, stride if layer == 0 else 1), wide)
            x = self.gated(x, wide) if self.one(False, False, True) else x
            x = self.block(x, wide, depth - 1) if depth else x
            channels = wide
        return self.conv(x, channels, outputs)

    def branches(self, x, channels, depth):
        parts = [self.activation(self.conv(x, channels, 2), 2), self.activation(self.conv(x, channels, 4), 4)]
        parts.append(self.block(parts[-1], 4, depth - 1) if depth else parts[-1])
        parts += [x] if self.one(True, False) else []
        joined, wide = Concat()(*parts), 10 + channels * (parts[-1] is x)
        joined = self.activation(joined, wide) if self.one(True, False) else joined
        return self.conv(joined, wide, channels)

    def sliced(self, y, x, channels):
        some = channels // 2
        first, last = tuple(range(some)), tuple(range(some, channels))
        return Concat()(Add(Select(first)(y), Select(self.one(first, last)[:some])(x)), Select(last)(y))

    def block(self, x, channels, depth, inside=True):
        kind = self.one("chain", "chain", "branches", "sliced", "pre-activation", "after", *(() if inside else ("strided",)))
        if kind == "branches":
            return Add(x, self.branches(x, channels, depth))
        if kind == "sliced":
            return self.sliced(self.chain(x, channels, channels, depth), x, channels)
        if kind == "strided":
            return Add(self.chain(x, channels, channels, 0, 2), self.pointwise(x, channels, channels, 2))
        if kind == "pre-activation":
            normal = self.activation(random_batch_norm(self.rng, channels)(x), channels)
            return Add(self.chain(normal, channels, channels, depth), x)
        if kind == "after":
            return self.activation(Sub(self.activation(self.chain(x, channels, channels, depth), channels), x), channels)
        return Add(self.chain(x, channels, channels, depth), x)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_network_of_blocks_computes_what_it_did(data):
    blocks = Blocks(data.draw)
    first, depth = blocks.one(Identity(), Relu(), Clip(0.0, 6.0)), blocks.one(0, 0, 1)

    def network(x):
        return blocks.block(blocks.block(first(x), 4, depth, inside=False), 4, 0, inside=False)

    check_pass(PASSES, build(network, x=(None, 4, *((None,) * blocks.axes))))
