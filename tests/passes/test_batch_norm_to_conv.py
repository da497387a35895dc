from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.interpreter import evaluate
from repcompiler.ops import Scale, Sum
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.printer import render
from repcompiler.refusal import Refusal
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_scale

PASSES = [merge_parallel_branches, batch_norm_to_conv]


def test_normalised_identity_goes_into_the_kernel_beside_it(rng):
    conv, norm = random_conv(rng, 4, 4, 3, padding=1, groups=2, bias=False), random_batch_norm(rng, 4)
    graph = build(lambda x: Sum((1, 1))(conv(x), norm(x)), x=(None, 4, None, None))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->4 3x3 padding=1 groups=2 : [?, 4, ?, ?]
          %batchnorm1 = BatchNorm(%x) : [?, 4, ?, ?]
          %y = Add(%conv1, %batchnorm1) : [?, 4, ?, ?]
          return %y
    """)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 3x3 padding=1 groups=2 bias : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("shape", [(2, 3, 5), (2, 3, 4, 5), (2, 3, 2, 3, 4)], ids=["1-D", "2-D", "3-D"])
def test_norm_or_scale_and_its_convolution_agree(rng, shape):
    x = rng.normal(size=shape)
    per_channel_scale = Scale(rng.normal(size=3), rng.normal(size=1))
    per_channel_shift = Scale(rng.normal(size=1), rng.normal(size=3))
    for op in (random_batch_norm(rng, 3), random_scale(rng, 3), random_scale(rng, 1), per_channel_scale, per_channel_shift):
        conv = batch_norm_to_conv.view(op, 3, len(shape) - 2)
        assert np.allclose(evaluate(conv, [x])[0], evaluate(op, [x])[0], rtol=0, atol=1e-13)


def test_scaled_residual_goes_into_the_kernel(rng):
    conv, layer_scale = random_conv(rng, 4, 4, 7, padding=3, groups=4), random_scale(rng, 4)
    graph = build(lambda x: Sum((1, 1))(x, Sum((1, -1))(conv(x), layer_scale(x))), x=(None, 4, None, None))
    check_pass([*PASSES, identity_to_dirac], graph)
    assert len(graph.nodes) == 1


def test_scale_along_another_axis_is_no_convolution(rng):
    graph = build(
        lambda x: Sum((1, 1))(random_conv(rng, 4, 4, 3, padding=1)(x), random_scale(rng, 13, axis=2)(x)), x=(None, 4, 13, None)
    )
    log = check_pass(PASSES, graph)
    assert not log.steps
    assert log.declined[0].reason == "it scales another axis than the channels"


def test_axis_counted_from_the_back_is_understood(rng):
    with pytest.raises(Refusal, match="another axis"):
        batch_norm_to_conv.view(random_scale(rng, 3, axis=-1), 3, 2)
    assert batch_norm_to_conv.view(random_scale(rng, 3, axis=-3), 3, 2).groups == 3
