from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.algebra import affine, constant_response, scale_inputs
from repcompiler.ops import Scale
from repcompiler.passes.fold_batch_norm_before_conv import fold_batch_norm_before_conv
from repcompiler.printer import render
from repcompiler.testing import (
    build,
    check_pass,
    deviations,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
    relu,
)

IMAGE = (None, 4, None, None)


def test_batch_norm_before_an_unpadded_conv_becomes_weight_and_bias(rng):
    norm, conv = random_batch_norm(rng, 4), random_conv(rng, 4, 8, 3, bias=False)
    graph = build(lambda x: conv(norm(x)), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %batchnorm1 = BatchNorm(%x) : [?, 4, ?, ?]
          %y = Conv(%batchnorm1) 4->8 3x3 : [?, 8, ?, ?]
          return %y
    """)
    check_pass(fold_batch_norm_before_conv, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->8 3x3 bias : [?, 8, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    ("kernel_size", "arguments"),
    [
        ((3,), {"stride": 2}),
        ((1, 2, 3), {"dilation": 2}),
        (3, {"groups": 2}),
        (2, {"groups": 4}),
        (3, {"padding": ((-1, 0), (0, -2))}),
    ],
    ids=["1-D strided", "3-D dilated", "grouped", "depthwise with multiplier 2", "cropping"],
)
def test_every_conv_that_pads_nothing_takes_a_batch_norm_in(rng, kernel_size, arguments):
    conv = random_conv(rng, 4, 8, kernel_size, **arguments)
    graph = build(lambda x: conv(random_batch_norm(rng, 4)(x)), x=(None, 4, *(None for _ in conv.kernel_size)))
    assert len(check_pass(fold_batch_norm_before_conv, graph).steps) == 1


def test_linear_takes_in_a_batch_norm_on_two_axes_and_a_scale_on_the_last_of_three(rng):
    linear = random_linear(rng, 6, 4)
    flat = build(lambda x: linear(random_batch_norm(rng, 6)(x)), x=(None, 6))
    tokens = build(lambda x: linear(random_scale(rng, 6, axis=2)(x)), x=(None, 5, 6))
    whole = build(lambda x: linear(random_scale(rng, 1)(x)), x=(None, 5, 6))
    for graph in (flat, tokens, whole):
        assert len(check_pass(fold_batch_norm_before_conv, graph).steps) == 1


def test_shift_before_a_padded_conv_is_refused(rng):
    graph = build(lambda x: random_conv(rng, 4, 4, 3, padding=1)(random_batch_norm(rng, 4)(x)), x=IMAGE)
    log = check_pass(fold_batch_norm_before_conv, graph)
    assert not log.steps
    assert "the padded border" in log.declined[0].reason


def test_folding_a_shift_into_a_padded_conv_would_be_wrong_at_the_border_alone(rng):
    norm, conv = random_batch_norm(rng, 4), random_conv(rng, 4, 4, 3, padding=1)
    t, s = affine(norm, 4)
    naive = replace(scale_inputs(conv, t), bias=conv.bias + constant_response(conv, s))
    [deviation] = deviations(build(lambda x: conv(norm(x)), x=IMAGE), build(lambda x: naive(x), x=IMAGE))
    assert deviation.border > 0.1
    assert max(deviation.by_depth[1:]) < 1e-12


def test_padding_on_one_side_of_one_axis_is_enough_to_refuse(rng):
    conv = random_conv(rng, 4, 4, 3, padding=((-1, 0), (0, 1)))
    log = check_pass(fold_batch_norm_before_conv, build(lambda x: conv(random_batch_norm(rng, 4)(x)), x=IMAGE))
    assert not log.steps


@pytest.mark.parametrize("transposed", [False, True])
def test_scale_without_shift_folds_whatever_the_padding(rng, transposed):
    scale = Scale(rng.normal(size=4), np.zeros(4))
    conv = (random_conv_transpose if transposed else random_conv)(rng, 4, 8, 3, stride=2, padding=1, groups=2)
    graph = build(lambda x: conv(scale(x)), x=IMAGE)
    assert len(check_pass(fold_batch_norm_before_conv, graph).steps) == 1


def test_shift_before_a_transposed_conv_is_refused(rng):
    conv = random_conv_transpose(rng, 4, 4, 3)
    log = check_pass(fold_batch_norm_before_conv, build(lambda x: conv(random_batch_norm(rng, 4)(x)), x=IMAGE))
    assert not log.steps
    assert "the padded border" in log.declined[0].reason


def test_folding_a_shift_into_a_transposed_conv_would_be_wrong_at_the_border_alone(rng):
    norm, conv = random_batch_norm(rng, 4), random_conv_transpose(rng, 4, 4, 3)
    t, s = affine(norm, 4)
    everywhere = np.einsum("iohw,i->o", conv.weight, s)
    naive = replace(scale_inputs(conv, t), bias=conv.bias + everywhere)
    [deviation] = deviations(build(lambda x: conv(norm(x)), x=IMAGE), build(lambda x: naive(x), x=IMAGE))
    assert min(deviation.by_depth[:2]) > 0.1
    assert max(deviation.by_depth[2:]) < 1e-12


def test_scale_of_another_axis_is_refused(rng):
    linear = random_linear(rng, 6, 6)
    log = check_pass(fold_batch_norm_before_conv, build(lambda x: linear(random_batch_norm(rng, 5)(x)), x=(None, 5, 6)))
    assert not log.steps
    assert "another axis than the one the weight reads" in log.declined[0].reason


@pytest.mark.parametrize("last", [random_conv(np.random.default_rng(1), 4, 4, 3, padding=1), relu])
def test_batch_norm_goes_only_once_all_its_readers_take_it_in(rng, last):
    norm, first, second = random_batch_norm(rng, 4), random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 1)

    def pre_activation(x, third=second):
        normal = norm(x)
        return {"y": first(normal), "z": third(normal)}

    graph = build(pre_activation, x=IMAGE)
    log = check_pass(fold_batch_norm_before_conv, graph)
    assert [str(node.op) for node in graph.nodes] == ["Conv 4->4 1x1", "Conv 4->4 1x1"]
    assert [step.root for step in log.steps] == ["y", "z"]
    assert not check_pass(fold_batch_norm_before_conv, build(lambda x: pre_activation(x, last), x=IMAGE)).steps
