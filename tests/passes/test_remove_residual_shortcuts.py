"""Where the shortcut of a skip connection may go, and which pixels and channels it may read."""

import pytest

from repcompiler.carry import carried
from repcompiler.ir import Value
from repcompiler.ops import (
    AvgPool,
    Conv,
    Gated,
    Pad,
    Relu,
    Subsample,
    Sum,
)
from repcompiler.passes import PASSES
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.remove_residual import remove_residual
from repcompiler.refusal import Refusal
from repcompiler.testing import build, check_pass, random_conv

IMAGE = (None, 4, None, None)
RULES = [remove_residual, identity_to_dirac, batch_norm_to_conv, linear_to_conv]
Add = Sum((1, 1))
AVERAGE = AvgPool((3, 3), (2, 2), ((1, 1), (1, 1)), 9)
CROP = ((-1, -1), (0, 0))


def same(rng, inputs, outputs, **attributes):
    return random_conv(rng, inputs, outputs, 3, padding=1, **attributes)


def weights(graph):
    return [node.op.weight.shape for node in graph.topological() if isinstance(node.op, Conv)]


@pytest.mark.parametrize("size", [(9, 7), (8, 6), (1, 2)])
def test_a_strided_shortcut_goes_where_fewest_weights_come_of_it(rng, size):
    shortcut = random_conv(rng, 4, 8, 1, stride=2)

    def block(x):
        x = Relu()(x)
        return Add(same(rng, 8, 8)(Relu()(same(rng, 4, 8, stride=2)(x))), shortcut(x))

    graph = build(block, x=(None, 4, *size))
    check_pass(RULES, graph)
    assert weights(graph) == [(8 + 4, 4, 3, 3), (8, 8 + 4, 3, 3)]


def test_a_shortcut_that_reads_between_the_strides_goes_first(rng):
    shortcut = random_conv(rng, 4, 8, 2, stride=2)

    def block(x):
        return Add(same(rng, 8, 8)(Relu()(same(rng, 4, 8, stride=2)(x))), shortcut(x))

    graph = build(block, x=(None, 4, 8, 6))
    check_pass(RULES, graph)
    assert weights(graph) == [(8 + 16, 4, 3, 3), (8, 8 + 16, 3, 3)]


@pytest.mark.parametrize("stride", [1, 2])
def test_only_channels_that_the_shortcut_reads_and_makes_are_carried(rng, stride):
    """As of ResNets for small images, whose shortcut has fewer channels than the block makes, and zeros for the rest."""
    shortcut = random_conv(rng, 4, 8, 1, stride=stride)
    shortcut.weight[:, 1] = shortcut.weight[:5] = shortcut.bias[:5] = 0.0

    def block(x):
        x = Relu()(x)
        return Add(same(rng, 6, 8)(Relu()(same(rng, 4, 6, stride=stride)(x))), shortcut(x))

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph)
    assert weights(graph) == [(6 + 3, 4, 3, 3), (8, 6 + 3, 3, 3)]


def test_a_shortcut_that_crops_what_the_layers_lose(rng):
    first, second = random_conv(rng, 4, 6, 3), random_conv(rng, 6, 4, 3)
    crop = random_conv(rng, 4, 4, 1, padding=-2)
    graph = build(lambda x: Add(second(Relu()(first(x))), crop(x)), x=(None, 4, 9, 7))
    assert len(check_pass(RULES, graph).steps) == 1


def test_a_shortcut_that_reads_other_pixels_is_refused(rng):
    shifted = random_conv(rng, 4, 4, 1, padding=((1, -1), (0, 0)))
    graph = build(lambda x: Add(same(rng, 6, 4)(Relu()(same(rng, 4, 6)(x))), shifted(x)), x=IMAGE)
    assert len(check_pass(RULES, graph).steps) == 1  # the last layer may read them
    narrow = random_conv(rng, 4, 4, 1, padding=((1, -1), (0, 0)))

    def block(x):
        return Add(random_conv(rng, 6, 4, 1)(Relu()(random_conv(rng, 4, 6, 3)(x))), random_conv(rng, 4, 4, 1, padding=-1)(x))

    assert len(check_pass(RULES, build(block, x=(None, 4, 9, 7))).steps) == 1
    strided = build(
        lambda x: Add(same(rng, 6, 4, stride=2)(Relu()(same(rng, 4, 6, stride=2)(x))), narrow(x)), x=(None, 4, 1, 1)
    )
    assert not check_pass(RULES, strided).steps


@pytest.mark.parametrize(
    ("inner", "shortcut"),
    [
        (AVERAGE, {"stride": 2}),
        (Subsample((2, 2)), {"stride": 2}),
        (Pad(((1, 1),) * 2), {"padding": 1}),
        (Pad(CROP), {"padding": CROP}),
    ],
)
def test_average_pools_strides_and_frames_inside_a_block(rng, inner, shortcut):
    """Of the reserved channels a pool takes the pixel in the middle."""

    def block(x):
        hidden = inner(Gated("silu")(same(rng, 4, 6)(x)))
        return Add(same(rng, 6, 4)(Relu()(same(rng, 6, 6)(hidden))), random_conv(rng, 4, 4, 1, **shortcut)(x))

    graph = build(block, x=(None, 4, 9, 8))
    check_pass(PASSES, graph)
    assert not any(isinstance(node.op, (Sum, AvgPool)) for node in graph.nodes)


def test_a_block_that_is_broadcast_over_the_channels_of_the_shortcut_is_refused(rng):
    """One map of attention is added to every channel."""
    graph = build(lambda x: Add(random_conv(rng, 6, 1, 1)(Relu()(same(rng, 4, 6)(x))), random_conv(rng, 4, 4, 1)(x)), x=IMAGE)
    log = check_pass(RULES, graph, objective="plain")
    assert not log.steps
    assert any(declined.reason == "the branches have different channel counts" for declined in log.declined)


@pytest.mark.parametrize("outlined", [True, False])
def test_the_outline_of_a_chain_is_refused_for_what_the_chain_is(rng, outlined):
    body, shortcut = (same(rng, 4, 6), Relu(), random_conv(rng, 6, 1, 1)), random_conv(rng, 4, 4, 1)
    with pytest.raises(Refusal, match="the branches have different channel counts"):
        carried(Value("x", IMAGE), body, shortcut, outlined)
