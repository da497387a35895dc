import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from repcompiler.cost import NOMINAL, OBJECTIVES, extents, launches, macs, params
from repcompiler.ir import Node
from repcompiler.ops import AvgPool, Constant, DynamicConv, Identity, Pad, Reshape, Scale, Subsample, Sum
from repcompiler.testing import (
    build,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
    relu,
)

IMAGE = (2, 8, 14, 10)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def torch_macs(function, *arrays, **arguments):
    with FlopCounterMode(display=False) as counter:
        function(*(torch.tensor(array) for array in arrays), **arguments)
    return counter.get_total_flops() // 2


def cost(op, shape, objective="latency"):
    return OBJECTIVES[objective].of_op(op, [shape], op.infer_shape([shape]))


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_macs_are_those_torch_counts(rng, groups):
    x, tokens = rng.normal(size=IMAGE), rng.normal(size=(2, 5, 8))
    conv = random_conv(rng, 8, 16, (3, 2), stride=2, padding=1, groups=groups)
    counted = torch_macs(F.conv2d, x, conv.weight, conv.bias, stride=2, padding=1, groups=groups)
    assert macs(conv, conv.infer_shape([IMAGE])) == counted
    up = random_conv_transpose(rng, 8, 16, 2, stride=2, groups=groups)
    counted = torch_macs(F.conv_transpose2d, x, up.weight, up.bias, stride=2, groups=groups)
    assert macs(up, up.infer_shape([IMAGE])) == counted
    linear = random_linear(rng, 8, 4)
    assert macs(linear, linear.infer_shape([tokens.shape])) == torch_macs(F.linear, tokens, linear.weight, linear.bias)


def test_what_only_moves_numbers_multiplies_nothing():
    for op in (Identity(), Pad(((1, 1), (1, 1))), Subsample((2, 2)), Sum((1, 1)), Constant(np.zeros(4)), relu):
        assert macs(op, IMAGE) == 0


def test_an_addition_of_a_constant_multiplies_nothing_as_that_of_a_value():
    """Seed 13562 of the fuzzer: x - c + x is 2 x - c, one multiplication and one addition."""
    for factor in (1.0, -1.0):
        assert macs(Scale(np.full(4, factor), np.ones(4)), (2, 4, 5, 7)) == 0
    assert macs(Scale(np.full(4, 2.0), np.ones(4)), (2, 4, 5, 7)) == 2 * 4 * 5 * 7


def test_a_constant_less_a_value_stores_the_constant(rng):
    """Seed 19376 of the fuzzer: as a layer it would have a weight, too."""
    assert OBJECTIVES["params"].of_op(Scale(np.full(4, -1.0), np.ones(4)), [], None) == 4


def test_params_are_the_numbers_an_operation_stores(rng):
    assert params(random_conv(rng, 4, 8, 3, groups=2)) == 8 * 2 * 9 + 8
    assert params(random_conv_transpose(rng, 4, 8, 3, groups=2)) == 4 * 4 * 9 + 8
    assert params(random_linear(rng, 4, 8)) == 4 * 8 + 8
    assert params(DynamicConv((8, 4, 3), np.zeros(8), (1,), ((0, 0),), (1,), 1)) == 8
    assert params(random_batch_norm(rng, 4)) == 16
    assert params(random_scale(rng, 4)) == 8
    assert params(AvgPool((2, 2), (2, 2), ((0, 0),) * 2, 4)) == params(relu) == 0


def test_params_that_an_objective_counts_are_written_a_bias_of_zeros_is_not(rng):
    """Seeds 471 and 50346 of the fuzzer: a branch merged into experts gives their bank a bias; x - c, less x, is 0 x - c."""
    cost = OBJECTIVES["params"].of_op
    assert cost(random_conv(rng, 4, 8, 3), [], None) - cost(random_conv(rng, 4, 8, 3, bias=False), [], None) == 8
    assert cost(random_linear(rng, 3, 81, bias=False), [], None) == 243
    assert [cost(Scale(t, s), [], None) for t in (np.ones(1), np.zeros(1)) for s in (np.zeros(4), np.ones(4))] == [0, 4, 1, 16]


def test_params_of_a_scale_with_a_shift_are_those_of_the_batch_norm_it_is_written_as(rng):
    """Seed 1335 of the fuzzer: four vectors where a convolution of two channels had six numbers."""
    cost = OBJECTIVES["params"].of_op
    assert cost(random_scale(rng, 4), [], None) == cost(random_batch_norm(rng, 4), [], None) == 16
    assert cost(random_scale(rng, 4, axis=2), [], None) == cost(Scale(np.arange(4.0), np.arange(4.0), axis=2), [], None) == 8
    assert cost(Scale(np.full(1, 2.0), np.full(1, 3.0)), [], None) == 2
    assert cost(Scale(np.full(4, 2.0), np.zeros(4)), [], None) == cost(Scale(np.ones(1), np.arange(1.0, 5.0)), [], None) == 4


def test_launches_are_the_operations_of_a_document(rng):
    assert launches(Sum((1, 1, -1, 1))) == 3
    assert launches(Constant(np.zeros(1))) == 0
    assert launches(random_conv(rng, 4, 4, 3)) == 1
    linear = random_linear(rng, 4, 4)
    assert [launches(linear, shape) for shape in ((2, 4), (2, 5, 4), None)] == [1, 2, 2]
    assert launches(random_linear(rng, 4, 4, bias=False), (2, 5, 4)) == 1


def test_unknown_extents_are_nominal_and_an_unknown_batch_is_one():
    assert extents(("batch", 3, None, 7)) == [1, 3, NOMINAL, 7]
    assert extents(None) == [1, NOMINAL, NOMINAL, NOMINAL]
    assert extents(()) == []


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_work_that_is_not_done_costs_less(rng, objective):
    small, large = random_conv(rng, 64, 64, 1), random_conv(rng, 64, 64, 5, padding=2)
    assert cost(small, (1, 64, 56, 56), objective) < cost(large, (1, 64, 56, 56), objective)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_term_costs_what_its_nodes_will_cost(rng, objective):
    norm, conv, linear = random_batch_norm(rng, 8), random_conv(rng, 8, 4, 3), random_conv(rng, 8, 4, 3, groups=4)

    def expression(x):
        return Sum((1, -1))(conv(norm(x)), linear(x))

    graph = build(expression, x=IMAGE)
    nodes = [OBJECTIVES[objective].of_node(node) for node in graph.nodes]
    total = OBJECTIVES[objective].of_term(expression(graph.inputs[0]))
    assert np.allclose(total, [sum(column) for column in zip(*nodes, strict=True)], rtol=1e-12, atol=0)


def test_value_or_nothing_costs_nothing():
    graph = build(lambda x: relu(x), x=IMAGE)
    for objective in OBJECTIVES.values():
        assert objective.of_term(graph.inputs[0]) == objective.of_term(None) == (0, 0)


def test_latency_prefers_one_dense_kernel_to_two_and_two_light_ones_to_a_dense_one(rng):
    shape = (1, 64, 56, 56)
    dense3, dense1 = random_conv(rng, 64, 64, 3, padding=1), random_conv(rng, 64, 64, 1)
    depthwise = random_conv(rng, 64, 64, 3, padding=1, groups=64)
    add = OBJECTIVES["latency"].of_op(Sum((1, 1)), [shape, shape], shape)
    assert cost(dense3, shape) < cost(dense3, shape) + cost(dense1, shape) + add
    assert cost(depthwise, shape) + cost(dense1, shape) + add < cost(dense3, shape)


def test_plain_counts_branches_before_operations_and_arithmetic_last(rng):
    shape = (1, 8, 14, 14)
    conv, wide = random_conv(rng, 8, 8, 1), random_conv(rng, 8, 8, 3, padding=1)
    assert cost(conv, shape, "plain") < cost(wide, shape, "plain") < 2 * cost(conv, shape, "plain")
    for odd in (random_batch_norm(rng, 8), Pad(((1, 1), (1, 1))), AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)):
        assert cost(wide, shape, "plain") < cost(odd, shape, "plain")


@pytest.mark.parametrize(
    ("objective", "side", "spared"), [("latency", 8, 1), ("latency", 512, 0), ("plain", 8, 1), ("plain", 512, 1)]
)
def test_what_computes_extents_counts_but_for_the_latency_of_large_maps(objective, side, spared):
    graph = build(lambda x: relu(Reshape((0, -1))(x)), x=(1, 4, side, side))
    (node,) = (node for node in graph.nodes if isinstance(node.op, Reshape))
    known = OBJECTIVES[objective].of_node(node)
    node.implied = (Node(Identity(), (), ()),)
    assert OBJECTIVES[objective].of_node(node) == (known[0], known[1] + spared)


@pytest.mark.parametrize("objective", OBJECTIVES.values(), ids=OBJECTIVES)
def test_part_that_is_shared_costs_once(rng, objective):
    [x] = build(relu, x=(1, 4, 8, 8)).inputs
    conv = random_conv(rng, 4, 4, 3, padding=1)
    part = conv(x)
    (shared, nodes), (apart, more) = (
        objective.of_term(Sum((1, 1))(part, last), (1, 4, 8, 8)) for last in (Identity()(part), Identity()(conv(x)))
    )
    once, _ = objective.of_term(part)
    assert apart - shared == pytest.approx(once)
    assert more - nodes == 1


def test_dynamic_convolution_multiplies_as_its_kernel_does(rng):
    conv = random_conv(rng, 4, 8, 3, groups=2)
    dynamic = DynamicConv(conv.weight.shape, conv.bias, conv.stride, conv.padding, conv.dilation, 2, each=True)
    assert macs(dynamic, (2, 8, 5, 6)) == macs(conv, (2, 8, 5, 6))
