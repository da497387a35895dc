from inspect import cleandoc

import pytest

from repcompiler.ops import Relu, Reshape, Transpose
from repcompiler.passes import PASSES
from repcompiler.passes.recognise_pointwise_conv import recognise_pointwise_conv
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_linear

FORTH, BACK = Transpose((0, 2, 3, 1)), Transpose((0, 3, 1, 2))


def test_a_layer_on_the_channels_of_an_image_is_a_pointwise_conv(rng):
    linear = random_linear(rng, 6, 4)
    graph = build(lambda x: BACK(linear(FORTH(x))), x=(None, 6, None, None))
    check_pass(recognise_pointwise_conv, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 6, ?, ?])
          %y = Conv(%x) 6->4 1x1 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_images_of_any_rank(rng, axes):
    forth, back = Transpose((0, *range(2, axes + 2), 1)), Transpose((0, axes + 1, *range(1, axes + 1)))
    graph = build(lambda x: back(random_linear(rng, 6, 4, bias=False)(forth(x))), x=(None, 6, *(None,) * axes))
    check_pass(recognise_pointwise_conv, graph)
    assert [node.op.kind for node in graph.nodes] == ["Conv"]


@pytest.mark.parametrize(("forth", "back"), [(FORTH, Transpose((0, 3, 2, 1))), (Transpose((0, 3, 2, 1)), BACK), (BACK, BACK)])
def test_another_order_of_axes_is_refused(rng, forth, back):
    graph = build(lambda x: back(random_linear(rng, 6, 4)(forth(x))), x=(None, 6, 6, 6))
    log = check_pass(recognise_pointwise_conv, graph)
    assert log.declined[0].reason == "the axes do not only take the channels to the end and back"


def test_a_matrix_is_no_image(rng):
    graph = build(lambda x: Transpose((1, 0))(random_linear(rng, 6, 4)(Transpose((1, 0))(x))), x=(6, 6))
    assert not check_pass(recognise_pointwise_conv, graph).steps


@pytest.mark.parametrize("objective", ["plain", "latency"])
def test_what_a_decoder_makes_of_a_map_is_one_convolution(rng, objective):
    """SegFormer: flatten, transpose, layer, transpose, reshape."""
    linear, norm = random_linear(rng, 16, 8), random_batch_norm(rng, 8)

    def decoder(x):
        tokens = Transpose((0, 2, 1))(Reshape((0, 16, 35))(x))
        return Relu()(norm(Reshape((0, 8, 5, 7))(Transpose((0, 2, 1))(linear(tokens)))))

    graph = build(lambda x: decoder(random_conv(rng, 16, 16, 1)(x)), x=(None, 16, 5, 7))
    check_pass(PASSES, graph, objective)
    assert [node.op.kind for node in graph.topological()] == ["Conv", "Relu"]
