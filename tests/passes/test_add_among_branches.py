from inspect import cleandoc

import pytest

from repcompiler.ops import Clip, Concat, Conv, Gated, MaxPool, Relu, Select, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.add_among_branches import add_among_branches
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, opaque, random_conv, random_linear

IMAGE = (None, 4, None, None)
RULES = [add_among_branches, identity_to_dirac]
Add, Sub = Sum((1, 1)), Sum((1, -1))


def same(rng, inputs, outputs, kernel=3, **attributes):
    return random_conv(rng, inputs, outputs, kernel, padding=kernel // 2, **attributes)


def inception(rng, x, activation=None, stride=1):
    """Two branches on x."""
    activation = activation or Relu()
    return Concat()(activation(same(rng, 4, 3, 1, stride=stride)(x)), activation(same(rng, 4, 2, stride=stride)(x)))


def kinds(graph):
    return [node.op.kind for node in graph.topological()]


def test_what_is_skipped_is_one_more_branch(rng):
    graph = build(lambda x: Add(random_conv(rng, 5, 4, 1)(inception(rng, x)), x), x=IMAGE)
    check_pass(RULES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->3 1x1 bias : [?, 3, ?, ?]
          %relu1 = Relu(%conv1) : [?, 3, ?, ?]
          %conv2 = Conv(%x) 4->2 3x3 padding=1 bias : [?, 2, ?, ?]
          %relu2 = Relu(%conv2) : [?, 2, ?, ?]
          %y/1 = Concat(%relu1, %relu2, %x) : [?, 9, ?, ?]
          %y = Conv(%y/1) 9->4 1x1 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("activation", [Relu(), Gated("gelu"), Clip(0.0, 6.0)], ids=lambda op: op.kind)
def test_layers_behind_the_branches_carry_it(rng, activation):
    def block(x):
        return Sub(activation(same(rng, 6, 4)(activation(same(rng, 5, 6)(activation(inception(rng, x, activation)))))), x)

    graph = build(block, x=IMAGE)
    assert len(check_pass(RULES, graph).steps) == 1
    assert not any(isinstance(node.op, Sum) for node in graph.nodes)


def test_a_strided_block_with_its_shortcut(rng):
    def block(x):
        return Add(random_conv(rng, 5, 6, 1)(inception(rng, x, stride=2)), random_conv(rng, 4, 6, 1, stride=2)(x))

    graph = build(block, x=IMAGE)
    check_pass(RULES, graph)
    assert kinds(graph).count("Concat") == 1
    assert not any(isinstance(node.op, Sum) for node in graph.nodes)


def test_a_branch_is_not_joined_twice(rng):
    """Of deep layer aggregation: what is added is one of the branches."""

    def root(x):
        branch = Relu()(same(rng, 4, 4)(x))
        return Add(random_conv(rng, 7, 4, 1)(Concat()(Relu()(same(rng, 4, 3)(branch)), branch)), branch)

    graph = build(root, x=IMAGE)
    check_pass(RULES, graph)
    assert [node.op.in_channels for node in graph.topological() if isinstance(node.op, Conv)] == [4, 4, 7]
    assert not any(isinstance(node.op, Sum) for node in graph.nodes)


def test_parts_of_one_value_and_a_pool_that_moves_no_pixel(rng):
    pool = MaxPool((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))

    def block(x):
        h = Relu()(same(rng, 4, 6)(x))
        parts = Select((0, 1, 2))(h), pool(Select((3, 4, 5))(h))
        return Add(same(rng, 6, 4)(Concat()(*parts)), x)

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph)
    assert not any(isinstance(node.op, Sum) for node in graph.nodes)


def test_maps_that_may_be_of_other_extents_stay(rng):
    """A sum spreads one pixel, or one image, over the other term; a concatenation does not."""

    def steps(x, z):
        graph = build(lambda x, z: Add(random_conv(rng, 5, 4, 1)(inception(rng, x)), z), x=x, z=z)
        return len(check_pass(RULES, graph).steps)

    assert steps(IMAGE, IMAGE) == steps((None, 4, 5, 6), (None, 4, 5, 6)) == steps((2, 4, 5, 6), (1, 4, 5, 6)) == 0
    assert steps((2, 4, 5, 6), (2, 4, 5, 6)) == 1


def test_maps_that_lost_as_many_pixels_are_joined(rng):
    def block(x):
        branches = Concat()(Gated("silu")(random_conv(rng, 4, 4, 3)(x)), Relu()(random_conv(rng, 4, 4, 3)(x)))
        return Add(random_conv(rng, 8, 4, 1)(branches), random_conv(rng, 4, 4, 1, padding=-1)(x))

    assert len(check_pass(RULES, build(block, x=IMAGE)).steps) == 1


def test_branches_that_others_read_stay(rng):
    def block(x):
        joined = inception(rng, x)
        return {"y": Add(random_conv(rng, 5, 4, 1)(joined), x), "z": Relu()(joined)}

    log = check_pass(RULES, build(block, x=IMAGE))
    assert log.declined[0].reason == "'concat1' is read more than once"


def test_what_nothing_passes_is_refused(rng):
    def block(x):
        return Add(same(rng, 5, 4)(opaque("Elu", lambda x: x)(inception(rng, x))), x)

    log = check_pass(RULES, build(block, x=IMAGE))
    assert log.declined[0].reason.startswith("the skipped value does not pass Elu")


def test_tokens_that_are_concatenated_stay(rng):
    def block(x):
        return Add(random_linear(rng, 4, 4)(Concat()(Relu()(x), Gated("silu")(x))), x)

    assert not check_pass(RULES, build(block, x=(None, 1, 4))).steps
