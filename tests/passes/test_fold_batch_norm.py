from dataclasses import replace
from inspect import cleandoc

import numpy as np
import pytest

from repcompiler.ops import Conv, Scale
from repcompiler.passes.fold_batch_norm import fold_batch_norm
from repcompiler.printer import render
from repcompiler.testing import (
    assert_equivalent,
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


def test_batch_norm_after_conv_becomes_weight_and_bias(rng):
    conv = random_conv(rng, 8, 16, 3, padding=1, stride=2, groups=4, bias=False)
    norm = random_batch_norm(rng, 16)
    graph = build(lambda x: norm(conv(x)), x=(None, 8, None, None))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %conv1 = Conv(%x) 8->16 3x3 stride=2 padding=1 groups=4 : [?, 16, ?, ?]
          %y = BatchNorm(%conv1) : [?, 16, ?, ?]
          return %y
    """)
    log = check_pass(fold_batch_norm, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 8, ?, ?])
          %y = Conv(%x) 8->16 3x3 stride=2 padding=1 groups=4 bias : [?, 16, ?, ?]
          return %y
    """)
    assert [(step.rule, step.root) for step in log.steps] == [("fold_batch_norm", "y")]


@pytest.mark.parametrize(
    ("kernel_size", "arguments"),
    [
        ((3,), {}),
        ((3, 2), {"padding": ((1, 0), (2, 1)), "stride": (2, 1)}),
        ((1, 3, 2), {"dilation": (1, 2, 1)}),
        (1, {"bias": False}),
        (3, {"groups": 2, "padding": 1}),
        (3, {"groups": 4, "padding": 1}),
    ],
    ids=["1-D", "even and asymmetric", "3-D dilated", "no bias", "grouped", "depthwise with multiplier 2"],
)
def test_every_conv_takes_a_batch_norm_in(rng, kernel_size, arguments):
    conv = random_conv(rng, 4, 8, kernel_size, **arguments)
    graph = build(lambda x: random_batch_norm(rng, 8)(conv(x)), x=(None, 4, *(None for _ in conv.kernel_size)))
    check_pass(fold_batch_norm, graph)
    assert [type(node.op) for node in graph.nodes] == [Conv]


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("kernel_size", [(3,), (3, 2), (2, 1, 3)], ids=str)
def test_transposed_conv_takes_a_batch_norm_in_along_its_second_axis(rng, groups, kernel_size):
    conv = random_conv_transpose(rng, 4, 8, kernel_size, stride=2, padding=1, output_padding=1, dilation=2, groups=groups)
    graph = build(lambda x: random_batch_norm(rng, 8)(conv(x)), x=(None, 4, *(None for _ in kernel_size)))
    assert len(check_pass(fold_batch_norm, graph).steps) == 1


def test_linear_takes_in_a_batch_norm_on_two_axes_and_a_scale_on_the_last_of_three(rng):
    linear = random_linear(rng, 6, 4)
    flat = build(lambda x: random_batch_norm(rng, 4)(linear(x)), x=(None, 6))
    tokens = build(lambda x: random_scale(rng, 4, axis=2)(linear(x)), x=(None, 5, 6))
    from_the_back = build(lambda x: random_scale(rng, 4, axis=-1)(linear(x)), x=(None, 5, 6))
    for graph in (flat, tokens, from_the_back):
        assert len(check_pass(fold_batch_norm, graph).steps) == 1


def test_one_number_for_the_whole_tensor_folds_into_anything(rng):
    whole = random_scale(rng, 1)
    for op, shape in ((random_conv(rng, 4, 6, 3), (None, 4, None, None)), (random_linear(rng, 4, 6), (None, 3, 4))):
        graph = build(lambda x, op=op: whole(op(x)), x=shape)
        assert len(check_pass(fold_batch_norm, graph).steps) == 1


def test_several_norms_in_a_row_all_fold(rng):
    conv = random_conv(rng, 4, 4, 3)
    graph = build(
        lambda x: random_scale(rng, 4)(random_batch_norm(rng, 4)(random_scale(rng, 1)(conv(x)))), x=(None, 4, None, None)
    )
    assert len(check_pass(fold_batch_norm, graph).steps) == 3


def test_scale_of_another_axis_is_refused(rng):
    linear, conv = random_linear(rng, 6, 6), random_conv(rng, 4, 4, 3)
    tokens = build(lambda x: random_batch_norm(rng, 5)(linear(x)), x=(None, 5, 6))
    rows = build(lambda x: random_scale(rng, 11, axis=2)(conv(x)), x=(None, 4, 13, None))
    for graph in (tokens, rows):
        log = check_pass(fold_batch_norm, graph)
        assert not log.steps
        assert "scales another axis" in log.declined[0].reason


def test_batch_norm_after_linear_of_unknown_rank_is_refused(rng):
    """Behind an opaque operation it may be (N, C) or (N, L, C)."""
    graph = build(lambda x: random_batch_norm(rng, 6)(random_linear(rng, 4, 6)(relu(x))), x=(None, 4))
    log = check_pass(fold_batch_norm, graph)
    assert not log.steps
    assert "scales another axis" in log.declined[0].reason


def test_conv_that_something_else_reads_keeps_its_weights(rng):
    conv, norm = random_conv(rng, 4, 4, 3, padding=1), random_batch_norm(rng, 4)

    def fan_out(x):
        shared = conv(x)
        return {"y": norm(shared), "z": relu(shared)}

    graph = build(fan_out, x=(None, 4, None, None))
    log = check_pass(fold_batch_norm, graph)
    assert not log.steps
    assert {declined.reason for declined in log.declined} == {"'conv1' is read more than once"}


def test_conv_that_two_norms_read_is_not_computed_twice(rng):
    conv, norm = random_conv(rng, 4, 4, 3, padding=1), random_batch_norm(rng, 4)

    def fan_out(x):
        shared = conv(x)
        return {"y": norm(shared), "z": random_scale(rng, 4)(shared)}

    log = check_pass(fold_batch_norm, build(fan_out, x=(None, 4, None, None)))
    assert not log.steps
    assert log.declined[0].reason == "it would be computed for each of its readers"


def test_conv_that_the_graph_hands_out_keeps_its_weights(rng):
    def tapped(x):
        features = random_conv(rng, 4, 4, 3)(x)
        return {"features": features, "y": random_batch_norm(rng, 4)(features)}

    graph = build(tapped, x=(None, 4, None, None))
    log = check_pass(fold_batch_norm, graph)
    assert not log.steps
    assert log.declined[0].reason == "'features' is an output of the graph"


def test_tied_weights_are_never_changed_in_place(rng):
    conv, first, second = random_conv(rng, 4, 4, 3), random_batch_norm(rng, 4), random_batch_norm(rng, 4)
    weight, bias = conv.weight.copy(), conv.bias.copy()
    graph = build(lambda x: {"y": first(conv(x)), "z": second(conv(x))}, x=(None, 4, None, None))
    assert len(check_pass(fold_batch_norm, graph).steps) == 2
    assert np.array_equal(conv.weight, weight)
    assert np.array_equal(conv.bias, bias)


def test_arithmetic_is_in_float64_whatever_the_weights_are(rng):
    conv, norm = random_conv(rng, 4, 4, 3), random_batch_norm(rng, 4)
    single = replace(conv, weight=conv.weight.astype(np.float32), bias=conv.bias.astype(np.float16))
    graph = build(lambda x: norm(single(x)), x=(None, 4, None, None))
    check_pass(fold_batch_norm, graph)
    [node] = graph.nodes
    assert node.op.weight.dtype == node.op.bias.dtype == np.float64


def test_every_norm_has_its_own_eps(rng):
    conv, norm = random_conv(rng, 4, 4, 3), random_batch_norm(rng, 4, eps=1e-3)
    graph = build(lambda x: norm(conv(x)), x=(None, 4, None, None))
    elsewhere = build(lambda x: replace(norm, eps=1e-5)(conv(x)), x=(None, 4, None, None))
    check_pass(fold_batch_norm, elsewhere)
    assert deviations(graph, elsewhere)[0].worst > 1e-5
    assert len(check_pass(fold_batch_norm, graph).steps) == 1


def test_folding_equals_the_published_equation(rng):
    conv, norm = random_conv(rng, 4, 6, 3, padding=1), random_batch_norm(rng, 6)
    t = norm.gamma / np.sqrt(norm.var + norm.eps)
    by_hand = replace(conv, weight=conv.weight * t[:, None, None, None], bias=norm.beta + (conv.bias - norm.mean) * t)
    before = build(lambda x: norm(conv(x)), x=(None, 4, None, None))
    after = build(lambda x: by_hand(x), x=(None, 4, None, None))
    assert_equivalent(before, after)


def test_scale_without_shift_keeps_a_conv_without_bias(rng):
    conv = random_conv(rng, 4, 4, 3, bias=False)
    graph = build(lambda x: Scale(rng.normal(size=4), np.zeros(1))(conv(x)), x=(None, 4, None, None))
    check_pass(fold_batch_norm, graph)
    assert "bias" not in render(graph)
