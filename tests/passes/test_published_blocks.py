"""Blocks as their authors train them, each plain afterwards."""

import numpy as np
import pytest

from repcompiler.ops import AvgPool, Pad, Scale, Sum
from repcompiler.passes import PASSES
from repcompiler.printer import attributes, render_node
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_scale, relu

IMAGE = (None, 4, None, None)
Add, Sub = Sum((1, 1)), Sum((1, -1))


def kinds(graph):
    return [render_node(node).split("= ")[1].split("(")[0] for node in graph.topological()]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("shape", [(None, 4, None), IMAGE, (None, 4, None, None, None)], ids=["1-D", "2-D", "3-D"])
def test_repvgg_block_becomes_one_conv(rng, groups, shape):
    kernel = len(shape) - 2
    conv3 = random_conv(rng, 4, 4, (3,) * kernel, padding=1, groups=groups, bias=False)
    conv1 = random_conv(rng, 4, 4, (1,) * kernel, groups=groups, bias=False)

    def block(x):
        branches = random_batch_norm(rng, 4)(conv3(x)), random_batch_norm(rng, 4)(conv1(x)), random_batch_norm(rng, 4)(x)
        return relu(Sum((1, 1, 1))(*branches))

    graph = build(block, x=shape)
    check_pass(PASSES, graph, "latency")
    assert kinds(graph) == ["Conv", "Relu"]
    assert graph.topological()[0].op.groups == groups


@pytest.mark.parametrize(
    "kernel", [(3, 1, 1, 1), (5, 2, 1, 2), (5, 1, 1, 1), (5, 2, 2, 1), (3, 1, 2, 1), (5, 3, 2, 4)], ids=str
)
def test_acnet_block_becomes_one_square_conv_also_where_its_arms_are_cropped(rng, kernel):
    size, padding, dilation, groups = kernel
    inset = dilation * (size // 2) - padding  # positive: the reference crops the arms' input, negative: it pads
    crop = max(inset, 0)
    arm = max(-inset, 0)
    same = {"dilation": dilation, "groups": groups, "bias": False}
    square = random_conv(rng, 4, 4, size, padding=padding, **same)
    vertical = random_conv(rng, 4, 4, (size, 1), padding=(padding, arm), **same)
    horizontal = random_conv(rng, 4, 4, (1, size), padding=(arm, padding), **same)

    def block(x):
        across, along = Pad(((0, 0), (-crop, -crop)))(x), Pad(((-crop, -crop), (0, 0)))(x)
        arms = [vertical(across), horizontal(along)] if crop else [vertical(x), horizontal(x)]
        return Sum((1, 1, 1))(*(random_batch_norm(rng, 4)(branch) for branch in (square(x), *arms)))

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert (node.op.kernel_size, node.op.padding, node.op.dilation) == ((size,) * 2, ((padding,) * 2,) * 2, (dilation,) * 2)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("size", "groups", "inner"), [(3, 1, 4), (5, 1, 4), (3, 2, 4), (3, 4, 8), (5, 4, 8)], ids=str)
def test_dbb_block_becomes_one_conv(rng, size, stride, groups, inner):
    half = size // 2
    frame = Pad(((half, half),) * 2)
    pool = AvgPool((size,) * 2, (stride,) * 2, ((0, 0),) * 2, size * size)
    same = {"groups": groups, "bias": False}
    origin = random_conv(rng, 4, 4, size, padding=half, stride=stride, **same)
    pointwise = random_conv(rng, 4, 4, 1, stride=stride, **same)
    before_pool = random_conv(rng, 4, 4, 1, **same)
    squeeze, spatial = random_conv(rng, 4, inner, 1, **same), random_conv(rng, inner, 4, size, stride=stride, **same)

    def block(x):
        branches = [
            origin(x),
            pointwise(x),
            pool(random_batch_norm(rng, 4)(before_pool(frame(x)))),
            spatial(random_batch_norm(rng, inner)(squeeze(frame(x)))),
        ]
        total = random_batch_norm(rng, 4)(branches[0])
        for branch in branches[1:]:
            total = Add(total, random_batch_norm(rng, 4)(branch))
        return total

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert (node.op.kernel_size, node.op.stride, node.op.groups) == ((size,) * 2, (stride,) * 2, groups)


def test_dbb_branch_that_pads_after_its_norm_is_left_beside_the_rest(rng):
    origin, spatial = (random_conv(rng, 4, 4, 3, padding=1, bias=False) for _ in range(2))
    squeeze, norm = random_conv(rng, 4, 4, 1, bias=False), random_batch_norm(rng, 4)
    graph = build(lambda x: Add(Add(origin(x), random_conv(rng, 4, 4, 1)(x)), spatial(norm(squeeze(x)))), x=IMAGE)
    log = check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv", "Conv", "Conv", "Add"]
    assert all("exact only inside the image" in declined.reason for declined in log.declined)


def test_unireplknet_block_becomes_one_large_kernel(rng):
    small = [(5, 1), (9, 2), (3, 4), (3, 5), (3, 7)]
    large = random_conv(rng, 4, 4, 17, padding=8, groups=4, bias=False)
    dilated = [random_conv(rng, 4, 4, k, padding=r * (k - 1) // 2, dilation=r, groups=4, bias=False) for k, r in small]

    def block(x):
        total = random_batch_norm(rng, 4)(large(x))
        for conv in dilated:
            total = Add(total, random_batch_norm(rng, 4)(conv(x)))
        return random_scale(rng, 4)(random_batch_norm(rng, 4)(total))

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert " ".join(attributes(node.op)) == "4->4 17x17 padding=8 groups=4 bias"


def test_repghost_block_becomes_one_depthwise_conv(rng):
    depthwise = random_conv(rng, 4, 4, 3, padding=1, groups=4, bias=False)
    graph = build(lambda x: Sum((1, 1, 1))(random_batch_norm(rng, 4)(depthwise(x)), random_batch_norm(rng, 4)(x), x), x=IMAGE)
    check_pass(PASSES, graph, "latency")
    [node] = graph.nodes
    assert " ".join(attributes(node.op)) == "4->4 3x3 padding=1 groups=4 bias"


def test_fastvit_mixer_with_a_subtraction_becomes_one_depthwise_conv(rng):
    mixer = random_conv(rng, 4, 4, 7, padding=3, groups=4)
    norm, layer_scale = random_batch_norm(rng, 4), Scale(rng.normal(size=4), np.zeros(1))
    graph = build(lambda x: Add(x, layer_scale(Sub(mixer(x), norm(x)))), x=IMAGE)
    check_pass(PASSES, graph)
    [node] = graph.nodes
    assert " ".join(attributes(node.op)) == "4->4 7x7 padding=3 groups=4 bias"
