from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import AvgPool, BatchNorm, Concat, Conv, Identity, Pad, Scale, Select, Subsample, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.fold_batch_norm import fold_batch_norm
from repcompiler.passes.merge_parallel_branches import merge_parallel_branches
from repcompiler.printer import render
from repcompiler.refusal import refuse
from repcompiler.rewriter import Rewriter, rewrite
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_scale, relu

IMAGE = (None, 4, None, None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def repvgg(rng, blocks=1):
    def network(x):
        for _ in range(blocks):
            conv3, conv1 = random_conv(rng, 4, 4, 3, padding=1, bias=False), random_conv(rng, 4, 4, 1, bias=False)
            norms = [random_batch_norm(rng, 4) for _ in range(3)]
            x = relu(Sum((1, 1, 1))(norms[0](conv3(x)), norms[1](conv1(x)), norms[2](x)))
        return x

    return build(network, x=IMAGE)


def rewritten(graph, objective="latency", **options):
    return Rewriter(graph, PASSES, OBJECTIVES[objective], **options).run()


# -- what is guaranteed ----------------------------------------------------------------------------------------------------


def test_log_tells_every_step_in_the_names_of_the_user(rng):
    log = rewritten(repvgg(rng))
    assert [(step.rule, step.root) for step in log.steps] == [
        ("fold_batch_norm", "batchnorm1"),
        ("fold_batch_norm", "batchnorm2"),
        ("merge_parallel_branches", "sum1"),
        ("merge_parallel_branches", "sum1"),
    ]
    assert log.steps[0].removed == (("batchnorm1", "BatchNorm"), ("conv1", "Conv 4->4 3x3"))
    assert log.steps[0].added == (("batchnorm1", "Conv 4->4 3x3"),)
    assert all(step.saved > 0 for step in log.steps)


def test_the_same_graph_is_rewritten_in_the_same_way():
    runs = [(repvgg(np.random.default_rng(0), blocks=3), PASSES) for _ in range(2)]
    logs = [check_pass(passes, graph, "latency") for graph, passes in runs]
    assert logs[0] == logs[1]
    assert render(runs[0][0]) == render(runs[1][0])
    weights = [[node.op.weight for node in graph.topological() if isinstance(node.op, Conv)] for graph, _ in runs]
    assert all(np.array_equal(one, other) for one, other in zip(*weights, strict=True))


def test_a_rewritten_graph_has_nothing_left_to_rewrite(rng):
    graph = repvgg(rng, blocks=2)
    rewritten(graph)
    before = render(graph)
    assert not rewritten(graph).steps
    assert render(graph) == before


def test_no_pass_leaves_the_graph_as_it_was(rng):
    graph = repvgg(rng)
    before = render(graph)
    assert not check_pass([], graph).steps
    assert render(graph) == before


def test_names_of_inputs_and_outputs_survive(rng):
    def network(image):
        features = random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 3)(image))
        return {"logits": random_conv(rng, 4, 2, 1)(Identity()(features)), "features": features, "image": image}

    graph = build(network, image=IMAGE)
    check_pass(PASSES, graph)
    assert render(graph) == cleandoc("""
        graph(%image: [?, 4, ?, ?])
          %features = Conv(%image) 4->4 3x3 bias : [?, 4, ?, ?]
          %logits = Conv(%features) 4->2 1x1 bias : [?, 2, ?, ?]
          return %logits, %features, %image
    """)


@pytest.mark.parametrize("fuel", range(6))
def test_fuel_counts_rewrites_and_each_prefix_is_exact(rng, fuel):
    whole = rewritten(repvgg(np.random.default_rng(0)))
    graph = repvgg(rng)
    log = rewritten(graph, fuel=fuel)
    assert log.steps == whole.steps[:fuel]
    graph.check()


def test_banned_rewrite_does_not_happen_and_says_so(rng):
    graph = repvgg(rng)
    log = rewritten(graph, banned={("fold_batch_norm", "batchnorm2"), ("merge_sequential_convs", "batchnorm2")})
    assert ("fold_batch_norm", "batchnorm2") not in [(step.rule, step.root) for step in log.steps]
    assert ("fold_batch_norm", "batchnorm1") in [(step.rule, step.root) for step in log.steps]
    blamed = repvgg(rng)
    log = Rewriter(blamed, [fold_batch_norm], OBJECTIVES["plain"], banned={("fold_batch_norm", "batchnorm1")}).run()
    assert [(declined.rule, declined.root) for declined in log.declined] == [("fold_batch_norm", "batchnorm1")]
    assert log.declined[0].reason == "it was reverted: verification failed with it"


def test_what_was_refused_is_told_once_with_its_reason(rng):
    graph = build(lambda x: random_conv(rng, 4, 4, 3, padding=1)(random_conv(rng, 4, 4, 1)(x)), x=IMAGE)
    log = rewritten(graph, "plain")
    assert [(declined.rule, declined.root) for declined in log.declined] == [("merge_sequential_convs", "y")]
    assert "exact only inside the image" in log.declined[0].reason


def test_refusal_that_no_longer_holds_is_forgotten(rng):
    """The tree cannot merge with the norm until it is folded: after that, nothing is left to explain."""
    log = rewritten(repvgg(rng))
    assert not log.declined


def test_without_a_shape_the_refusal_names_the_value(rng):
    graph = build(lambda x: Sum((1, 1))(random_batch_norm(rng, 4)(relu(x)), random_conv(rng, 4, 4, 1)(relu(x))), x=IMAGE)
    assert not check_pass(PASSES, graph).steps
    scales = build(lambda x: (lambda hidden: Sum((1, 1))(random_batch_norm(rng, 4)(hidden), hidden))(relu(x)), x=IMAGE)
    log = check_pass([merge_parallel_branches, batch_norm_to_conv], scales)
    assert log.declined[0].reason == "the shape of 'relu1' is not known"


def test_channels_of_a_value_without_shape_are_those_its_conv_reads(rng):
    conv = random_conv(rng, 4, 4, 3, padding=1)
    graph = build(lambda x: (lambda hidden: Sum((1, 1))(conv(hidden), hidden))(relu(x)), x=IMAGE)
    check_pass(PASSES, graph)
    assert [node.op.kind for node in graph.topological()] == ["Relu", "Conv"]


# -- rules of one's own ----------------------------------------------------------------------------------------------------


def test_rule_is_named_and_documented_by_its_function(rng):
    @rewrite(Scale.of(Scale.of("x", name="first"), name="second"))
    def drop_everything(x, first, second):
        refuse("just looking")

    assert drop_everything.name == "drop_everything"
    log = check_pass(drop_everything, build(lambda x: random_scale(rng, 4)(random_scale(rng, 4)(x)), x=IMAGE))
    assert [(declined.rule, declined.reason) for declined in log.declined] == [("drop_everything", "just looking")]


def test_every_pattern_of_a_rule_is_tried(rng):
    @rewrite(Scale.of(BatchNorm.of("x")), Scale.of("x"))
    def forget_scales(x):
        return Identity()(x)

    graph = build(lambda x: random_scale(rng, 4)(relu(random_scale(rng, 4)(random_batch_norm(rng, 4)(x)))), x=IMAGE)
    log = Rewriter(graph, [forget_scales], OBJECTIVES["macs"]).run()
    assert [name for step in log.steps for name, _ in step.removed] == ["scale1", "batchnorm1", "y"]


def test_wrong_rule_is_caught_by_the_check_and_by_the_certificate(rng):
    @rewrite(BatchNorm.of(Conv.of("x", name="conv"), name="norm"))
    def forget_the_norm(x, conv, norm):
        return conv(x)

    graph = build(lambda x: random_batch_norm(rng, 4)(random_conv(rng, 4, 4, 3)(x)), x=IMAGE)
    log = Rewriter(graph, [forget_the_norm], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert not log.steps
    assert "its own check failed" in log.declined[0].reason
    with pytest.raises(AssertionError, match="everywhere"):
        check_pass(forget_the_norm, graph)


# -- cost, and the end -----------------------------------------------------------------------------------------------------


def total(graph, objective):
    costs = [OBJECTIVES[objective].of_node(node) for node in graph.nodes]
    return sum(cost for cost, _ in costs), sum(count for _, count in costs)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_step_lowers_the_cost_of_the_graph_or_its_operations(objective):
    previous = total(repvgg(np.random.default_rng(0), blocks=2), objective)
    for fuel in range(1, 9):
        graph = repvgg(np.random.default_rng(0), blocks=2)
        log = rewritten(graph, objective, fuel=fuel)
        current = total(graph, objective)
        assert current < previous
        assert np.isclose(previous[0] - current[0], log.steps[-1].saved, rtol=1e-9, atol=1e-15)
        previous = current


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_knowing_less_of_a_shape_never_makes_a_rewrite_pay(rng, objective):
    """A crop and a conv compose to themselves: with the result's shape unknown, that once looked like a gain, for ever."""
    graph = build(lambda x: random_conv(rng, 4, 4, 3)(Pad(((-1, 0), (0, 0)))(x)), x=IMAGE)
    graph.outputs[0].shape = None
    assert not rewritten(graph, objective, fuel=10).steps


@st.composite
def networks(draw):
    """A random graph of linear operations, sums, fences and fan-out on four channels; some values are handed out."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    same = {"dense": {}, "grouped": {"groups": 2}, "depthwise": {"groups": 4}, "unbiased": {"bias": False}}
    operations = [
        *(lambda x, a=arguments: random_conv(rng, 4, 4, 3, padding=1, **a)(x) for arguments in same.values()),
        *(lambda x, a=arguments: random_conv(rng, 4, 4, 1, **a)(x) for arguments in same.values()),
        lambda x: random_conv(rng, 4, 4, 3, padding=2, dilation=2)(x),
        lambda x: random_conv(rng, 4, 4, (1, 3), padding=((0, 0), (2, 0)), bias=False)(x),
        lambda x: random_conv(rng, 4, 4, 3)(Pad(((1, 1), (0, 2)))(x)),
        lambda x: Pad(((-1, -1), (-2, 0)))(random_conv(rng, 4, 4, 3, padding=2, bias=False)(x)),
        lambda x: AvgPool((3, 3), (1, 1), ((1, 1), (1, 1)), 9)(x),
        lambda x: random_batch_norm(rng, 4)(x),
        lambda x: random_scale(rng, 1)(x),
        lambda x: Scale(rng.normal(size=4), np.zeros(1))(x),
        lambda x: Identity()(x),
        lambda x: Select(tuple(rng.permutation(4)))(x),
        lambda x: Concat()(random_conv(rng, 2, 2, 3, padding=1)(Select((0, 1))(x)), Select((2, 3))(x)),
        lambda x: random_conv(rng, 12, 4, 1, bias=False)(Concat()(x, random_conv(rng, 4, 8, 1, groups=4)(x))),
        relu,
    ]

    strided = [
        lambda x: random_conv(rng, 4, 4, 3, padding=1, stride=2)(x),
        lambda x: random_conv(rng, 4, 4, 1, stride=2, groups=4)(x),
        lambda x: AvgPool((3, 3), (2, 2), ((1, 1), (1, 1)), 9)(x),
        Subsample((2, 2)),
    ]

    def network(x):
        values = [x]
        for _ in range(draw(st.integers(2, 12))):
            recent = st.sampled_from(values[-4:])
            choice = draw(st.integers(0, 7))
            if choice == 7:
                halves = [random_conv(rng, 4, 2, 1)(draw(recent)) for _ in range(2)]
                values.append(Concat()(draw(st.sampled_from(halves)), halves[1]))
            elif choice == 0:
                values = [draw(st.sampled_from(strided))(values[-1]) for _ in range(3)]
            elif choice < 5:
                values.append(draw(st.sampled_from(operations))(draw(recent)))
            else:
                terms = draw(st.lists(recent, min_size=2, max_size=4))
                values.append(Sum(tuple(draw(st.sampled_from([1, -1])) for _ in terms))(*terms))
        handed_out = [value for value in values[1:-1] if not draw(st.integers(0, 4))]
        return {"y": values[-1]} | {f"z{index}": value for index, value in enumerate(handed_out)}

    graph = build(network, x=draw(st.sampled_from([IMAGE, (2, 4, 6, 5)])))
    for node in graph.nodes:
        if not draw(st.integers(0, 3)):
            node.output.shape = None
    return graph


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(networks(), st.sampled_from(list(OBJECTIVES)))
def test_any_network_is_rewritten_to_an_end_exactly_and_grows_in_nothing(graph, objective):
    names, before = [value.name for value in graph.outputs], total(graph, objective)
    log = check_pass(PASSES, graph, objective)
    assert [value.name for value in graph.outputs] == names
    assert total(graph, objective) <= (before[0] * (1 + 1e-12), before[1])
    assert (total(graph, objective) == before) == (not log.steps)
    assert not Rewriter(graph, PASSES, OBJECTIVES[objective]).run().steps


@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(networks())
def test_certificate_agrees_with_every_rewrite_of_any_network(graph):
    log = Rewriter(graph, PASSES, OBJECTIVES["plain"], need=Certify.ALL).run()
    assert not [declined for declined in log.declined if "its own check failed" in declined.reason]
