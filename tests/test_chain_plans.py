"""Merges along a chain are chosen together: those that save most, not those that come first."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.algebra import compose
from repcompiler.chain import Planner, Segment, heaviest
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import BatchNorm, Conv, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.merge_sequential_convs import merge_sequential_convs
from repcompiler.pattern import linear, linear_after
from repcompiler.refusal import Refusal, refuse
from repcompiler.region import HORIZON
from repcompiler.rewriter import Rewriter, ViewRule, rewrite
from repcompiler.structure import forms
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv

rng = np.random.default_rng(0)
VIEWS = {op: rule.view for rule in PASSES if isinstance(rule, ViewRule) for op in rule.shows}
SEQUENCE = [merge_sequential_convs, batch_norm_to_conv]


def sequence(ops, size=28):
    """A graph that applies `ops` one after the other."""

    def network(x):
        for op in ops:
            x = op(x)
        return x

    return build(network, x=(1, channels(ops[0]), size, size))


def channels(op):
    return op.channels if isinstance(op, BatchNorm) else op.in_channels


def pointwise(*widths):
    return [random_conv(rng, i, o, 1) for i, o in pairwise(widths)]


def total(graph, objective):
    return sum(OBJECTIVES[objective].of_node(node)[0] for node in graph.nodes)


def plan_of(graph, objective):
    rewriter = Rewriter(graph, SEQUENCE, OBJECTIVES[objective])
    return rewriter.planners[merge_sequential_convs].plan(graph.outputs[0].producer)


def kinds(graph):
    return [str(node.op) for node in graph.topological()]


# -- the best set of merges ------------------------------------------------------------------------------------------------

GREEDY_FAILS = {
    "macs": (pointwise(100, 40, 45, 100), 9),
    "params": (pointwise(100, 40, 45, 100), 9),
    "latency": (pointwise(256, 96, 112, 256), 56),
}


@pytest.mark.parametrize("objective", GREEDY_FAILS)
def test_merge_that_pays_first_is_left_for_one_that_pays_more(objective, monkeypatch):
    ops, size = GREEDY_FAILS[objective]
    best, greedy = sequence(ops, size), sequence(ops, size)
    log = check_pass(PASSES, best, objective)
    monkeypatch.setattr(Planner, "postpones", lambda *_: False)
    check_pass(PASSES, greedy, objective)
    assert [step.root for step in log.steps] == ["y"]
    assert kinds(best)[0] == str(ops[0])
    assert kinds(greedy)[-1] == str(ops[-1])
    assert total(best, objective) < total(greedy, objective) < total(sequence(ops, size), objective)


LEFT_AS_IT_IS = {
    "project and expand (MobileNetV2)": ([random_conv(rng, 96, 16, 1), random_conv(rng, 16, 96, 1)], 14),
    "pointwise before depthwise (RepGhost)": (
        [random_conv(rng, 48, 48, 1, bias=False), random_conv(rng, 48, 48, 3, padding=1, groups=48)],
        28,
    ),
    "depthwise before pointwise": ([random_conv(rng, 48, 48, 3, padding=1, groups=48), random_conv(rng, 48, 48, 1)], 28),
    "large depthwise before pointwise (RepLKNet)": (
        [random_conv(rng, 32, 32, 31, padding=15, groups=32), random_conv(rng, 32, 32, 1)],
        28,
    ),
}


@pytest.mark.parametrize("objective", ["latency", "macs", "params"])
@pytest.mark.parametrize("name", LEFT_AS_IT_IS)
def test_what_is_cheaper_apart_is_left_apart(name, objective):
    ops, size = LEFT_AS_IT_IS[name]
    graph = sequence(ops, size)
    log = Rewriter(graph, PASSES, OBJECTIVES[objective]).run()
    assert not log.steps
    assert any("it would cost more" in declined.reason for declined in log.declined)


@pytest.mark.parametrize("objective", ["latency", "macs", "params"])
def test_grouped_and_pointwise_branch_are_left_apart(objective):
    """SPConv: two groups of 3x3 beside a 1x1 are one dense 3x3 of 1.64 times the arithmetic."""
    grouped, dense = random_conv(rng, 64, 64, 3, padding=1, groups=2), random_conv(rng, 64, 64, 1)
    graph = build(lambda x: Sum((1, 1))(grouped(x), dense(x)), x=(1, 64, 56, 56))
    assert not Rewriter(graph, PASSES, OBJECTIVES[objective]).run().steps


@pytest.mark.parametrize("objective", ["latency", "macs", "params"])
def test_merges_that_do_not_pay_in_pairs_pay_all_at_once(objective):
    """An inverted bottleneck without activations: each pair is a dense, wide kernel, all three are a narrow one."""
    ops = [*pointwise(16, 96), random_conv(rng, 96, 96, 3, groups=96), *pointwise(96, 16)]
    for pair in (ops[:2], ops[1:]):
        assert not Rewriter(sequence(pair), PASSES, OBJECTIVES[objective]).run().steps
    graph = sequence(ops)
    log = check_pass(PASSES, graph, objective)
    assert kinds(graph) == ["Conv 16->16 3x3"]
    assert [step.root for step in log.steps] == ["y"]


# -- against brute force ---------------------------------------------------------------------------------------------------


def exact_saving(segment, source, objective):
    """What merging saves, from the merged weights themselves; None where the steps are no one convolution."""
    try:
        convs = [VIEWS[BatchNorm](op, op.channels, 2) if isinstance(op, BatchNorm) else op for op in segment]
        merged = convs[0]
        for conv in convs[1:]:
            merged = compose(merged, conv, source.shape[2:])
        parts = forms(merged, source)
    except Refusal:
        return None
    shapes = [source.shape]
    for op in segment:
        shapes.append(op.infer_shape([shapes[-1]]))
    left = sum(OBJECTIVES[objective].of_op(op, [x], y) for op, x, y in zip(segment, shapes, shapes[1:], strict=False))
    return left - min(OBJECTIVES[objective].of_term(part, shapes[-1])[0] for part in parts)


def partitions(length):
    """All ways to cut a chain into segments, each as (start, stop)."""
    if not length:
        yield ()
    for start in range(length):
        for rest in partitions(start):
            yield (*rest, (start, length))


@st.composite
def chains(draw):
    """Up to six linear operations in a row.

    None with several outputs a channel: with a 1x1 before it, that has a cheaper form than geometry tells (two thin kernels).
    """
    numbers = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    width, ops = draw(st.sampled_from([4, 6, 12])), []
    for _ in range(draw(st.integers(2, 6))):
        wider = draw(st.sampled_from([4, 6, 8, 12, 24]))
        bias = draw(st.booleans())
        op = draw(
            st.sampled_from(
                [
                    lambda i, o, b: random_conv(numbers, i, o, 1, bias=b),
                    lambda i, o, b: random_conv(numbers, i, o, 3, bias=b),
                    lambda i, o, b: random_conv(numbers, i, o, 3, padding=1, bias=b),
                    lambda i, o, b: random_conv(numbers, i, o, 2, stride=2, bias=b),
                    lambda i, o, b: random_conv(numbers, i, o, (3, 3), dilation=2, padding=2, bias=b),
                    lambda i, o, b: random_conv(numbers, i, i, 3, padding=1, groups=i, bias=b),
                    lambda i, o, b: random_conv(numbers, i, o, 1, groups=2, bias=b),
                    lambda i, o, b: random_conv(numbers, i, i, 1, stride=2, groups=i, bias=b),
                    lambda i, o, b: random_batch_norm(numbers, i),
                ]
            )
        )(width, wider, bias)
        ops.append(op)
        width = width if isinstance(op, BatchNorm) else op.out_channels
    return ops


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(chains(), st.sampled_from(["macs", "params", "latency", "plain"]))
def test_the_plan_is_the_best_of_all_partitions(ops, objective):
    graph = sequence(ops, 40)
    sources = [graph.inputs[0], *(node.output for node in graph.topological())]

    def gain(start, stop):
        alone = stop - start == 1 or not any(isinstance(op, Conv) for op in ops[start:stop])
        saving = 0.0 if alone else exact_saving(ops[start:stop], sources[start], objective)
        return -np.inf if saving is None else saving

    best = max(sum(gain(*segment) for segment in partition) for partition in partitions(len(ops)))
    assert plan_of(graph, objective).saving == pytest.approx(best, rel=1e-9, abs=1e-12)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(chains(), st.sampled_from(["macs", "params", "latency", "plain"]))
def test_the_planned_cost_is_that_of_the_network_that_comes_out(ops, objective):
    graph = sequence(ops, 40)
    planned = total(graph, objective) - plan_of(graph, objective).saving
    check_pass(SEQUENCE, graph, objective)
    assert total(graph, objective) == pytest.approx(planned, rel=1e-9, abs=1e-12)


@settings(max_examples=80, deadline=None, derandomize=True, database=None)
@given(chains(), st.sampled_from(["macs", "params", "latency", "plain"]))
def test_no_chain_ends_dearer_than_by_merging_what_comes_first(ops, objective):
    planned, greedy = sequence(ops, 40), sequence(ops, 40)
    check_pass(PASSES, planned, objective)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Planner, "postpones", lambda *_: False)
        check_pass(PASSES, greedy, objective)
    assert total(planned, objective) <= total(greedy, objective) * (1 + 1e-9)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(2, 5), st.integers(1, 9)), max_size=12))
def test_heaviest_segments_are_those_brute_force_finds(drawn):
    segments = [Segment(start, start + length, (float(saved), 1)) for start, length, saved in drawn]
    chosen = heaviest(segments, 12)
    assert not any(one.overlaps(other.start, other.stop) for one in chosen for other in chosen if one is not other)

    def most(step):
        fitting = (s.saving[0] + most(s.stop) for s in segments if s.start >= step)
        return max(fitting, default=0.0)

    assert sum(segment.saving[0] for segment in chosen) == most(0)


def test_of_equal_plans_the_one_that_merges_least_is_taken():
    assert heaviest([Segment(0, 2, (0.0, 0))], 3) == ()
    assert heaviest([Segment(0, 3, (1.0, 1)), Segment(1, 3, (1.0, 1))], 3) == (Segment(1, 3, (1.0, 1)),)


# -- plans that do not work out --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("silently", [False, True])
def test_merge_that_does_not_happen_is_planned_around(silently):
    """8 -> 9 -> 8 -> 2 is best as one; if not, its first two are."""

    @rewrite(linear_after(linear("x", name="first", least=1), name="second"))
    def merge_but_not_all(x, first, second):
        if (first.in_channels, second.out_channels) == (8, 2):
            return () if silently else refuse("not these")
        return compose(first, second, x.spatial(2))(x)

    graph = sequence([*pointwise(8, 9, 8, 2)], 9)
    log = check_pass(merge_but_not_all, graph, "macs")
    assert kinds(graph) == ["Conv 8->8 1x1", "Conv 8->2 1x1"]
    assert [declined.reason for declined in log.declined] == ([] if silently else ["not these"])


def test_merge_that_was_taken_back_is_planned_around():
    graph, before = (sequence(pointwise(100, 40, 45, 100), 9) for _ in range(2))
    log = Rewriter(graph, PASSES, OBJECTIVES["macs"], banned={("merge_sequential_convs", "y")}).run()
    assert kinds(graph) == ["Conv 100->45 1x1", "Conv 45->100 1x1"]
    assert total(graph, "macs") < total(before, "macs")
    assert "it was reverted: verification failed with it" in [declined.reason for declined in log.declined]


def test_what_waits_for_a_merge_is_not_said_to_be_declined():
    graph = sequence(pointwise(100, 40, 45, 100), 9)
    log = check_pass(PASSES, graph, "macs")
    assert [(declined.root, "it would cost more" in declined.reason) for declined in log.declined] == [("y", True)]


def test_chain_longer_than_a_region_still_becomes_one():
    graph = sequence(pointwise(*[8] * (3 * HORIZON)), 9)
    check_pass(PASSES, graph, "macs")
    assert kinds(graph) == ["Conv 8->8 1x1"]
