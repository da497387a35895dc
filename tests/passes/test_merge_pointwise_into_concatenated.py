from inspect import cleandoc

import pytest

from repcompiler.ops import Concat, Relu, Resize
from repcompiler.passes import PASSES
from repcompiler.passes.merge_pointwise_into_concatenated import merge_pointwise_into_concatenated
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv

IMAGE, HALF = (None, 8, None, None), (None, 6, None, None)
DOUBLE = Resize("linear", "half_pixel", "floor", scales=(2.0, 2.0))


def test_each_conv_before_the_concatenation_takes_its_columns_in(rng):
    a, b, mix = random_conv(rng, 8, 8, 3, padding=1), random_conv(rng, 6, 8, 1), random_conv(rng, 16, 8, 1)
    graph = build(lambda x, z: mix(Concat()(a(x), b(z))), x=IMAGE, z=HALF)
    check_pass(merge_pointwise_into_concatenated, graph, "macs")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?], %z: [?, 6, ?, ?])
          %y/1 = Conv(%x) 8->8 3x3 padding=1 bias : [?, 8, ?, ?]
          %y/2 = Conv(%z) 6->8 1x1 bias : [?, 8, ?, ?]
          %y = Add(%y/1, %y/2) : [?, 8, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("groups", [1, 2])
def test_parts_that_no_conv_makes_are_mixed_by_themselves(rng, groups):
    a, mix = random_conv(rng, 8, 8, 3, padding=1), random_conv(rng, 16, 4, 1, groups=groups)
    graph = build(lambda x: mix(Concat()(Relu()(x), a(x))), x=IMAGE)
    check_pass(merge_pointwise_into_concatenated, graph, "macs")
    assert [str(node.op) for node in graph.topological()] == ["Relu", "Conv 8->4 1x1", "Conv 8->4 3x3", "Add"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize("outer", [True, False])
def test_it_passes_resizes_on_its_way(rng, mode, outer):
    resize = Resize(mode, "half_pixel", "floor", scales=(2.0, 2.0))
    a, b, mix = random_conv(rng, 8, 8, 1), random_conv(rng, 8, 8, 3, padding=1, bias=False), random_conv(rng, 16, 8, 1)

    def head(x):
        return resize(Concat()(a(x), b(x))) if outer else Concat()(resize(a(x)), resize(b(x)))

    graph = build(lambda x: mix(head(x)), x=IMAGE)
    log = check_pass(merge_pointwise_into_concatenated, graph, "macs")
    assert [step.rule for step in log.steps] == ["merge_pointwise_into_concatenated"]
    assert [node.op.kind for node in graph.nodes].count("Conv") == 2


def test_the_bias_is_added_once_however_many_are_concatenated(rng):
    convs, mix = [random_conv(rng, 8, 8, 1) for _ in range(3)], random_conv(rng, 24, 8, 1)
    graph = build(lambda x: mix(Concat()(*(conv(x) for conv in convs))), x=IMAGE)
    assert check_pass(merge_pointwise_into_concatenated, graph, "macs").steps


def test_concatenations_of_concatenations(rng):
    convs = [random_conv(rng, 8, 8, 1, bias=bool(index)) for index in range(3)]
    mix = random_conv(rng, 24, 8, 1)
    graph = build(lambda x: mix(Concat()(Concat()(convs[0](x), convs[1](Relu()(x))), convs[2](x))), x=IMAGE)
    assert check_pass(merge_pointwise_into_concatenated, graph, "macs").steps
    assert "Concat" not in [node.op.kind for node in graph.nodes]


def test_it_is_left_where_it_would_cost_more(rng):
    a, b, mix = random_conv(rng, 8, 2, 3, padding=1), random_conv(rng, 6, 2, 3, padding=1), random_conv(rng, 4, 64, 1)
    log = check_pass(PASSES, build(lambda x, z: mix(Concat()(a(x), b(z))), x=IMAGE, z=HALF), "latency")
    assert not log.steps


@pytest.mark.parametrize("arguments", [{"kernel_size": 3}, {"kernel_size": 1, "padding": 1}, {"kernel_size": 1, "stride": 2}])
def test_a_conv_that_sees_other_pixels_is_refused(rng, arguments):
    a, mix = random_conv(rng, 8, 8, 1), random_conv(rng, 16, 8, **arguments)
    log = check_pass(merge_pointwise_into_concatenated, build(lambda x: mix(Concat()(Relu()(x), a(x))), x=IMAGE), "macs")
    assert log.declined[0].reason == "it does more than mix the channels of one pixel"


def test_nothing_concatenated_is_another_rule_s_business(rng):
    a, mix = random_conv(rng, 8, 8, 1), random_conv(rng, 8, 8, 1)
    log = check_pass(merge_pointwise_into_concatenated, build(lambda x: mix(DOUBLE(a(x))), x=IMAGE), "macs")
    assert log.declined[0].reason == "nothing is concatenated before it"


def test_the_decoder_of_segformer_mixes_each_level_at_its_own_size(rng):
    levels = [random_conv(rng, channels, 64, 1) for channels in (8, 16, 40, 64)]
    mix, norm = random_conv(rng, 256, 64, 1, bias=False), random_batch_norm(rng, 64)

    def head(a, b, c, d):
        parts = [
            Resize("linear", "half_pixel", "floor", sizes=(32, 40))(conv(x))
            for conv, x in zip(levels, (a, b, c, d), strict=True)
        ]
        return Relu()(norm(mix(Concat()(*parts))))

    shapes = {"abcd"[i]: (1, conv.in_channels, 32 >> i, 40 >> i) for i, conv in enumerate(levels)}
    graph = build(head, **shapes)
    check_pass(PASSES, graph, "latency")
    convs = [node.op for node in graph.nodes if node.op.kind == "Conv"]
    assert sorted(conv.in_channels for conv in convs) == [8, 16, 40, 64]
