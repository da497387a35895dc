from dataclasses import replace
from inspect import cleandoc
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ir import Graph, Value
from repcompiler.ops import (
    AvgPool,
    Concat,
    DepthToSpace,
    Gated,
    MaxPool,
    Mul,
    Opaque,
    Pad,
    PRelu,
    Relu,
    Reshape,
    Resize,
    Select,
    Sigmoid,
    Softmax,
    Sum,
    Transpose,
)
from repcompiler.passes import PASSES
from repcompiler.passes.merge_equal_nodes import merge_equal_nodes
from repcompiler.pattern import READERS, Again
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter, rewrite
from repcompiler.testing import (
    build,
    check_pass,
    opaque,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
    relu,
)

IMAGE = (None, 4, None, None)
ADD, NONE = Sum((1, 1)), ((0, 0), (0, 0))
POOL = MaxPool((3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1))
RNG = np.random.default_rng(0)
CONV = random_conv(RNG, 4, 4, 3, padding=1)


def again(op):
    """The same operation, in other memory."""
    return replace(op, **{name: array.copy() for name, array in op.arrays.items()})


def kinds(graph):
    return [node.op.kind for node in graph.topological()]


def test_what_is_computed_twice_is_computed_once(rng):
    first, second = random_conv(rng, 4, 5, 3), random_conv(rng, 4, 5, 3)
    graph = build(lambda x: ADD(first(POOL(x)), second(again(POOL)(x))), x=IMAGE)
    check_pass(merge_equal_nodes, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %maxpool1 = MaxPool(%x) 3x3 padding=1 : [?, 4, ?, ?]
          %conv1 = Conv(%maxpool1) 4->5 3x3 bias : [?, 5, ?, ?]
          %conv2 = Conv(%maxpool1) 4->5 3x3 bias : [?, 5, ?, ?]
          %y = Add(%conv1, %conv2) : [?, 5, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_what_it_hid_merges(rng, objective):
    first, second = random_conv(rng, 4, 5, 3), random_conv(rng, 4, 5, 3)
    graph = build(lambda x: ADD(first(POOL(x)), second(again(POOL)(x))), x=IMAGE)
    check_pass(PASSES, graph, objective)
    assert kinds(graph) == ["MaxPool", "Conv"]


@pytest.mark.parametrize(
    "op",
    [
        CONV,
        random_conv_transpose(RNG, 4, 4, 2, stride=2),
        random_linear(RNG, 6, 3),
        random_batch_norm(RNG, 4),
        random_scale(RNG, 6, axis=3),
        AvgPool((2, 2), (2, 2), NONE, 4),
        POOL,
        Pad(((1, 2), (0, -1))),
        Relu(),
        PRelu(RNG.normal(size=4)),
        Gated("silu"),
        Softmax(1),
        Select((2, 0)),
        Transpose((0, 2, 3, 1)),
        Reshape((0, 24, 6)),
        DepthToSpace(2, "CRD"),
        Resize("nearest", "asymmetric", "floor", (2.0, 2.0)),
    ],
    ids=str,
)
def test_any_operation_is_a_function_of_its_operands(op):
    graph = build(lambda x: Concat()(op(x), again(op)(x)), x=(None, 4, 6, 6))
    log = check_pass(merge_equal_nodes, graph)
    assert kinds(graph) == [op.kind, "Concat"]
    assert [(step.rule, step.saved >= 0) for step in log.steps] == [("merge_equal_nodes", True)]


@pytest.mark.parametrize("join", [Mul(), Sum((1, -1)), Concat()], ids=str)
def test_of_several_operands(join):
    graph = build(lambda x, z: ADD(relu(join(x, z)), again(join)(x, z)), x=IMAGE, z=IMAGE)
    assert [step.root for step in check_pass(merge_equal_nodes, graph).steps] == [f"{join.kind.lower()}2"]


def test_whole_branches_from_their_first_node_on(rng):
    conv, norm = random_conv(rng, 4, 4, 3, padding=1), random_batch_norm(rng, 4)
    graph = build(lambda x: Mul()(Sigmoid()(norm(conv(x))), Sigmoid()(again(norm)(again(conv)(x)))), x=IMAGE)
    check_pass(merge_equal_nodes, graph)
    assert kinds(graph) == ["Conv", "BatchNorm", "Sigmoid", "Mul"]


@pytest.mark.parametrize(
    "other",
    [
        replace(CONV, weight=CONV.weight + np.eye(36)[35].reshape(1, 4, 3, 3) * 1e-9),
        replace(CONV, bias=CONV.bias * (np.arange(4) < 3)),
        replace(CONV, weight=CONV.weight.reshape(4, 4, 9, 1), padding=((4, 4), (0, 0))),
        replace(CONV, padding=((2, 0), (1, 1))),
        random_conv(RNG, 4, 4, 3, padding=1, groups=2),
        AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9),
    ],
)
def test_other_numbers_and_attributes_are_another_operation(other):
    graph = build(lambda x: ADD(relu(CONV(x)), relu(other(x))), x=IMAGE)
    log = check_pass(merge_equal_nodes, graph)
    assert not log.steps
    assert not [refusal for refusal in log.declined if refusal.rule == "merge_equal_nodes" and refusal.root == "conv2"]


def test_other_operands_are_too():
    graph = build(lambda x, z: ADD(Sum((1, -1))(x, z), Sum((1, -1))(z, x)), x=IMAGE, z=IMAGE)
    assert not check_pass(merge_equal_nodes, graph).steps


def test_live_parameters_are_equal_to_themselves_alone():
    one, another = (replace(CONV, weight=torch.ones(4, 4, 3, 3, dtype=torch.float64)) for _ in range(2))
    assert one.is_same_as(replace(one))
    assert not one.is_same_as(another)


def test_what_nobody_knows_may_be_random():
    noise = opaque("RandomNormalLike", lambda x: x + 1.0)
    graph = build(lambda x: Mul()(noise(x), noise(x)), x=IMAGE)
    log = check_pass(merge_equal_nodes, graph)
    assert not log.steps
    assert [(refusal.root, refusal.reason) for refusal in log.declined] == [
        ("randomnormallike2", "what it computes is not known: it may be random, or depend on what was computed before")
    ]


def test_outputs_keep_their_names():
    graph = build(lambda x: {"y": Relu()(x), "z": Relu()(x)}, x=IMAGE)
    log = check_pass(merge_equal_nodes, graph)
    assert not log.steps
    assert [refusal.reason for refusal in log.declined] == ["'z' is an output of the graph and keeps its name"]


def test_an_output_is_read_in_the_place_of_its_equal():
    graph = build(lambda x: {"y": Relu()(x), "z": Sigmoid()(Relu()(x))}, x=IMAGE)
    check_pass(merge_equal_nodes, graph)
    assert kinds(graph) == ["Relu", "Sigmoid"]


def placed(*places):
    """Equal operations on one value at these places of a document; None for one that a rewrite made.  Each is read."""
    graph = Graph()
    x = Value("x", IMAGE)
    graph.inputs.append(x)
    for index, place in enumerate(places):
        made, read = Value(f"made{index}", IMAGE), Value(f"y{index}", IMAGE)
        graph.add(Relu(), [x], [made], origin=None if place is None else object())
        made.place = -1 if place is None else place
        graph.outputs += graph.add(Sigmoid(), [made], [read]).outputs
    return graph


@pytest.mark.parametrize(
    ("places", "read"),
    [
        ((0, 1, 2), "made0 made0 made0"),
        ((2, 1, 0), "made2 made2 made2"),
        ((None, None), "made0 made0"),
        ((None, 0), "made0 made1"),
        ((4, None, 1, None), "made2 made1 made2 made1"),
    ],
)
def test_of_the_documents_own_the_first_stays_which_is_there_for_all_readers(places, read):
    graph = placed(*places)
    check_pass(merge_equal_nodes, graph)
    assert [output.producer.inputs[0].name for output in graph.outputs] == read.split()


def test_what_becomes_something_better_with_its_own_neighbours_is_not_shared(rng):
    """Both norms fold into what would else be one convolution, for two operations rather than three."""
    one, another = random_batch_norm(rng, 4), random_batch_norm(rng, 4)
    graph = build(lambda x: Concat()(relu(one(CONV(x))), relu(another(again(CONV)(x)))), x=IMAGE)
    check_pass(PASSES, graph, "plain")
    assert "BatchNorm" not in kinds(graph)
    assert kinds(graph).count("Relu") == 2


@pytest.mark.parametrize("sign", [1, -1])
def test_a_value_added_to_itself_is_a_scale_that_the_next_layer_takes_in(rng, sign):
    after = random_conv(rng, 4, 5, 3, padding=1)
    graph = build(lambda x: after(Sum((1, sign, 1))(Relu()(CONV(x)), Relu()(again(CONV)(x)), Relu()(x))), x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph).count("Relu") == 2
    graph = build(lambda x: after(Sum((1, sign))(Relu()(CONV(x)), Relu()(again(CONV)(x)))), x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv", "Relu", "Conv"]


def test_equal_branches_that_are_added_are_one_layer():
    graph = build(lambda x: ADD(CONV(x), again(CONV)(x)), x=IMAGE)
    check_pass(PASSES, graph)
    assert kinds(graph) == ["Conv"]


def test_of_very_many_readers_all_that_equal_one_of_the_first_go():
    graph = build(lambda x: Sum((1,) * 3 * READERS)(*(Relu()(x) for _ in range(3 * READERS))), x=IMAGE)
    check_pass(merge_equal_nodes, graph)
    assert kinds(graph) == ["Relu", "Sum"]


@pytest.mark.parametrize(
    ("one", "another"),
    [(CONV, replace(CONV, weight=CONV.weight[::-1])), (POOL, replace(POOL, kernel_size=(1, 3), padding=((0, 0), (1, 1))))],
    ids=["numbers", "attributes"],
)
def test_a_wrong_equality_is_refused_by_its_own_check(one, another):
    @rewrite(Again("y", "again"))
    def merge_what_is_alike(y, again):
        return y

    graph = build(lambda x: Concat()(one(x), another(x)), x=IMAGE)
    log = Rewriter(graph, [merge_what_is_alike], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert not log.steps
    assert "own check failed: the results differ" in log.declined[0].reason


@pytest.mark.parametrize("op", [CONV, POOL, Relu(), Softmax(1), random_batch_norm(RNG, 4)], ids=str)
def test_it_is_certified(op):
    graph = build(lambda x: Concat()(op(x), again(op)(x)), x=IMAGE)
    log = Rewriter(graph, [merge_equal_nodes], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert [step.certificate is not None for step in log.steps] == [True]


OPS = st.sampled_from(
    [
        Relu(),
        Sigmoid(),
        POOL,
        CONV,
        random_batch_norm(RNG, 4),
        Select((3, 1, 2, 0)),
        relu,
        Softmax(1),
        random_conv(RNG, 4, 4, 1),
    ]
)


@given(st.lists(st.tuples(OPS, st.integers(0, 20)), min_size=1, max_size=12), st.sampled_from([*OBJECTIVES]))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_of_any_network_no_two_equal_nodes_are_left_and_none_is_dearer(drawn, objective):
    def network(x):
        values = [x]
        for op, operand in drawn:
            values.append(again(op)(values[operand % len(values)]))
        return Sum((1,) * len(values))(*values)

    graph = build(network, x=IMAGE)
    before = sum(OBJECTIVES[objective].of_node(node)[0] for node in graph.nodes)
    check_pass(merge_equal_nodes, graph, objective)
    assert sum(OBJECTIVES[objective].of_node(node)[0] for node in graph.nodes) <= before
    pairs = combinations((node for node in graph.nodes if not isinstance(node.op, Opaque)), 2)
    assert not [pair for pair in pairs if pair[0].inputs == pair[1].inputs and pair[0].op.is_same_as(pair[1].op)]
