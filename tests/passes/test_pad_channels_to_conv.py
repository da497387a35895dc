from repcompiler.ops import Conv, Pad, PadChannels, Relu, Subsample, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.passes.pad_channels_to_conv import pad_channels_to_conv
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv

IMAGE = (None, 4, None, None)
RULES = [merge_sequential_convs, merge_parallel_branches, pad_channels_to_conv]
Add = Sum((1, 1))


def convs(graph):
    return [(node.op.in_channels, node.op.out_channels) for node in graph.topological() if isinstance(node.op, Conv)]


def test_channels_that_are_added_go_into_the_layers_beside_them(rng):
    graph = build(lambda x: random_conv(rng, 9, 5, 3)(PadChannels(2, 3)(random_conv(rng, 6, 4, 1)(x))), x=(None, 6, None, None))
    check_pass(RULES, graph, "latency")
    assert convs(graph) == [(6, 5)]
    graph = build(lambda x: Add(random_conv(rng, 4, 9, 3, padding=1)(x), PadChannels(2, 3)(x)), x=IMAGE)
    check_pass(RULES, graph, "latency")
    assert convs(graph) == [(4, 9)]


def test_a_sequence(rng):
    graph = build(lambda x: random_conv(rng, 7, 5, (3,))(PadChannels(0, 3)(x)), x=(None, 4, None))
    check_pass(RULES, graph)
    assert convs(graph) == [(4, 5)]


def test_a_shortcut_without_weights_carries_the_channels_that_it_has(rng):
    """Of ResNets for small images: every second pixel, and zeros for the channels that are missing."""

    def block(x):
        x = Relu()(x)
        body = (
            random_conv(rng, 4, 8, 3, stride=2, padding=1),
            random_batch_norm(rng, 8),
            Relu(),
            random_conv(rng, 8, 8, 3, padding=1),
        )
        y = x
        for layer in body:
            y = layer(y)
        return Relu()(Add(y, PadChannels(2, 2)(Subsample((2, 2))(x))))

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph)
    assert convs(graph) == [(4, 8 + 4), (8 + 4, 8)]
    assert not any(isinstance(node.op, (Sum, Pad, PadChannels)) for node in graph.nodes)
