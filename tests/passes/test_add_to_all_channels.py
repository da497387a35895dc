from inspect import cleandoc

import pytest

from repcompiler.ops import Concat, Conv, Relu, Select, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.add_to_all_channels import add_to_all_channels
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.select_to_conv import select_to_conv
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv, random_linear

IMAGE = (None, 6, None, None)
RULES = [add_to_all_channels, identity_to_dirac, select_to_conv]
Add, Sub = Sum((1, 1)), Sum((1, -1))


def channels(x, start, stop):
    return Select(tuple(range(start, stop)))(x)


def test_what_is_added_to_some_channels_is_added_to_all_with_zeros():
    def block(y, x):
        return Concat()(Add(channels(y, 0, 4), channels(x, 0, 4)), channels(y, 4, 6))

    graph = build(block, y=IMAGE, x=IMAGE)
    check_pass(RULES, graph, objective="plain")
    assert render(graph) == cleandoc("""
        graph(%y: [?, 6, ?, ?], %x: [?, 6, ?, ?])
          %select2 = Select(%x) : [?, 4, ?, ?]
          %y/1 = Conv(%select2) 4->6 1x1 : [?, 6, ?, ?]
          %y = Add(%y, %y/1) : [?, 6, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("kernel", [1, 3])
def test_layers_that_are_added_or_taken_away(rng, kernel):
    first = random_conv(rng, 6, 2, kernel, padding=kernel // 2, stride=1)
    last = random_conv(rng, 6, 1, 1)

    def block(y, x):
        middle = Sub(channels(y, 2, 3), last(x))
        return Concat()(Add(first(x), channels(y, 0, 2)), middle, channels(y, 3, 6))

    graph = build(block, y=IMAGE, x=IMAGE)
    assert len(check_pass(RULES, graph, objective="plain").steps) == 1
    assert [type(node.op) for node in graph.topological()] == [Conv, Sum]


def test_maps_that_lose_pixels(rng):
    first, body = random_conv(rng, 6, 2, 3, stride=2), random_conv(rng, 6, 6, 3, stride=2)

    def block(x):
        y = Relu()(body(x))
        return Concat()(channels(y, 0, 4), Add(channels(y, 4, 6), first(x)))

    assert len(check_pass(RULES, build(block, x=(None, 6, 9, 8)), objective="plain").steps) == 1


@pytest.mark.parametrize("parts", [[(0, 2), (4, 6)], [(2, 6), (0, 2)], [(0, 2), (0, 4)]])
def test_other_channels_than_all_in_order_stay(parts):
    (a, b), (c, d) = parts

    def block(y, x):
        return Concat()(Add(channels(y, a, b), channels(x, 0, b - a)), channels(y, c, d))

    assert not check_pass(RULES, build(block, y=IMAGE, x=IMAGE), objective="plain").steps


def test_a_shortcut_of_zero_rows_is_removed(rng):
    first, second = random_conv(rng, 6, 5, 3, padding=1), random_conv(rng, 5, 6, 1)

    def block(x):
        y = second(Relu()(first(x)))
        return Concat()(channels(y, 0, 1), Add(channels(y, 1, 3), channels(x, 4, 6)), channels(y, 3, 6))

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph, objective="plain")
    assert [type(node.op) for node in graph.topological()] == [Conv, Relu, Conv]


def test_a_fully_connected_layer_does_not_become_one_of_all_channels(rng):
    """TNT adds what a layer makes of the pixels of each patch to all tokens but the first."""
    layer = random_linear(rng, 6, 5)
    graph = build(lambda y, x: Concat()(Add(channels(y, 0, 4), layer(x)), channels(y, 4, 6)), y=(None, 6, 5), x=(None, 4, 6))
    log = check_pass([add_to_all_channels, linear_to_conv, select_to_conv], graph, objective="latency")
    assert not log.steps
    assert any("acts on the last axis" in declined.reason for declined in log.declined)
