from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.ir import Value
from repcompiler.ops import AvgPool, Opaque, Pad, Sum
from repcompiler.printer import render, render_shape
from repcompiler.testing import build, random_batch_norm, random_conv, random_conv_transpose, random_linear, random_scale, relu


def test_text_shows_only_what_differs_from_the_default():
    rng = np.random.default_rng(0)
    conv = random_conv(rng, 4, 8, (3, 1), stride=(2, 1), padding=((1, 1), (0, 2)), dilation=2, groups=2)
    up = random_conv_transpose(rng, 8, 4, 2, stride=2, output_padding=1, bias=False)
    chain = [conv, up, random_scale(rng, 4, axis=-3), Pad(((-1, -1), (0, 0))), AvgPool((2, 2), (2, 2), ((0, 0),) * 2, 4), relu]

    def apply_all(x):
        for op in chain:
            x = op(x)
        return x

    assert render(build(apply_all, x=("batch", 4, 9, None))) == cleandoc("""
        graph(%x: [batch, 4, 9, ?])
          %conv1 = Conv(%x) 4->8 3x1 stride=2x1 padding=1x0:2 dilation=2 groups=2 bias : [batch, 8, 4, ?]
          %convtranspose1 = ConvTranspose(%conv1) 8->4 2x2 stride=2 output_padding=1 : [batch, 4, 9, ?]
          %scale1 = Scale(%convtranspose1) axis=-3 : [batch, 4, 9, ?]
          %pad1 = Pad(%scale1) padding=-1x0 : [batch, 4, 7, ?]
          %avgpool1 = AvgPool(%pad1) 2x2 stride=2 : [batch, 4, 3, ?]
          %y = Relu(%avgpool1) : [...]
          return %y
    """)


def test_text_of_equal_graphs_is_equal():
    def block(rng):
        return build(lambda x: Sum((1, -1, 1))(random_conv(rng, 4, 4, 1)(x), relu(x), x), x=(None, 4, None, None))

    assert render(block(np.random.default_rng(0))) == render(block(np.random.default_rng(1)))


def test_text_names_several_results_and_their_shapes():
    graph = build(lambda x: relu(x), x=("n", 4))
    graph.add(Opaque("Split"), [graph.inputs[0]], [Value("first", ("n", 1)), Value("second", ("n", 3))])
    assert "  %first, %second = Split(%x) : [n, 1], [n, 3]" in render(graph).splitlines()


@pytest.mark.parametrize(("shape", "text"), [(None, "[...]"), ((), "[]"), ((None, 3, "w"), "[?, 3, w]")], ids=str)
def test_unknown_rank_and_unknown_extent_are_told_apart(shape, text):
    assert render_shape(shape) == text


def test_bias_of_zeros_and_the_usual_eps_are_not_shown():
    rng = np.random.default_rng(0)
    norm, unusual = random_batch_norm(rng, 4), random_batch_norm(rng, 4, eps=1e-3)
    linear = random_linear(rng, 4, 4, bias=False)
    assert render(build(lambda x: linear(unusual(norm(x))), x=(2, 4))) == cleandoc("""
        graph(%x: [2, 4])
          %batchnorm1 = BatchNorm(%x) : [2, 4]
          %batchnorm2 = BatchNorm(%batchnorm1) eps=0.001 : [2, 4]
          %y = Linear(%batchnorm2) 4->4 : [2, 4]
          return %y
    """)
