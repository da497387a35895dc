from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.interpreter import run
from repcompiler.ops import DepthToSpace, Pad, PadChannels, Relu, Reshape, Select, SpaceToDepth, Subsample, Sum, Take, Transpose
from repcompiler.passes import PASSES
from repcompiler.passes.add_before_moving import add_before_moving
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_conv, relu

IMAGE = (None, 4, None, None)
ADD, SUB = Sum((1, 1)), Sum((1, -1))
CRD, DCR = DepthToSpace(2, "CRD"), DepthToSpace(2, "DCR")


def kinds(graph):
    return [node.op.kind for node in graph.topological()]


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
def test_blocks_are_added_before_they_become_pixels(rng, mode):
    wide, narrow, blocks = random_conv(rng, 4, 12, 3, padding=1), random_conv(rng, 4, 12, 1), DepthToSpace(2, mode)
    graph = build(lambda x: SUB(blocks(wide(x)), DepthToSpace(2, mode)(narrow(x))), x=IMAGE)
    check_pass(add_before_moving, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->12 3x3 padding=1 bias : [?, 12, ?, ?]
          %conv2 = Conv(%x) 4->12 1x1 bias : [?, 12, ?, ?]
          %y/1 = Sub(%conv1, %conv2) : [?, 12, ?, ?]
          %y = DepthToSpace(%y/1) : [?, 3, ?, ?]
          return %y
    """)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_parallel_branches_of_super_resolution_are_one(rng, objective):
    convs = [random_conv(rng, 4, 12, k, padding=k // 2) for k in (5, 3, 1)]
    graph = build(lambda x: Sum((1, 1, 1))(*(CRD(conv(x)) for conv in convs)), x=IMAGE)
    check_pass(PASSES, graph, objective)
    assert kinds(graph) == ["Conv", "DepthToSpace"]


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, 1, -1), (1, -1, -1)])
def test_what_else_is_added_stays(signs):
    graph = build(
        lambda a, b, z: Sum(signs)(CRD(Relu()(a)), Relu()(z), CRD(b)), a=(2, 8, 3, 5), b=(2, 8, 3, 5), z=(2, 2, 6, 10)
    )
    check_pass(add_before_moving, graph)
    assert kinds(graph).count("DepthToSpace") == 1
    assert [node.op.signs[1:] for node in graph.nodes if node.output.name == "y"] == [signs[1:2]]


@pytest.mark.parametrize(
    "move",
    [
        *(CRD, DCR, SpaceToDepth(2, "DCR"), Pad(((1, 2), (0, -1))), PadChannels(1, 2), Subsample((2, 3), (1, 0))),
        *(
            Reshape((0, 8, -1)),
            Reshape((-1, 12, 4)),
            Reshape((2, 48, 4)),
            Reshape((0, 2, 4), 2),
            Reshape((4, 4, 4, 6)),
            Reshape((384,)),
        ),
        *(Select((3, 0, 0)), Take(2, 1, False), Take(1, 2, True), Transpose((0, 2, 3, 1)), Transpose((3, 0, 2, 1))),
    ],
    ids=repr,
)
def test_whatever_moves(move):
    graph = build(lambda a, b: ADD(move(a), move(Relu()(b))), a=(2, 8, 4, 6), b=(2, 8, 4, 6))
    log = Rewriter(graph, [add_before_moving], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert [step.certificate.kind in ("correctly rounded", "sampled") for step in log.steps] == [True]
    assert kinds(graph) == ["Relu", "Sum", move.kind]


@pytest.mark.parametrize("move", [Transpose((0, 2, 3, 1)), Select((3, 0, 0)), CRD])
def test_of_axes_that_it_leaves_alone_extents_need_not_be_known(move):
    graph = build(lambda a, b: ADD(move(a), move(Relu()(b))), a=IMAGE, b=IMAGE)
    assert len(check_pass(add_before_moving, graph).steps) == 1


@pytest.mark.parametrize(
    ("move", "a", "b"),
    [
        (Reshape((0, -1)), (2, 4, 2, 2), (2, 16, 1, 1)),
        (Reshape((0, 4, -1)), (2, 4, None, 6), (2, 4, None, 6)),
        (Reshape((-1, 4)), (2, 4, 2), (1, 4, 2)),
        (SpaceToDepth(2, "CRD"), (2, 4, 2, 2), (2, 4, 6, 4)),
        (SpaceToDepth(2, "CRD"), IMAGE, IMAGE),
        (Pad(((-1, 0), (0, 0))), (2, 4, 2, 5), (2, 4, 6, 5)),
        (Subsample((2, 2)), (2, 4, 1, 2), (2, 4, 1, 1)),
        (Take(2, 1, True), (2, 4, 2, 5), (2, 4, 6, 5)),
        (CRD, (2, 4, 3, 3), (2, 8, 3, 3)),
        (Select((0,)), (2, 3, 4, 4), (2, 2, 4, 4)),
        (PadChannels(0, 1), (2, None, 4, 4), (2, None, 4, 4)),
    ],
    ids=repr,
)
def test_what_is_broadcast_along_an_axis_that_moves_is_refused(move, a, b):
    graph = build(lambda a, b: ADD(move(a), move(Relu()(b))), a=a, b=b)
    log = Rewriter(graph, [add_before_moving], OBJECTIVES["plain"]).run()
    assert not log.steps
    assert [refusal.reason for refusal in log.declined] == ["what is moved may be broadcast"]


@pytest.mark.parametrize(("other", "another"), [(relu, Relu()), (Relu(), relu), (Reshape((0, 24)), Relu())])
def test_ranks_that_differ_or_are_not_known_are_refused(other, another):
    graph = build(lambda a, b: ADD(Reshape((0, 24))(other(a)), Reshape((0, 24))(another(b))), a=(2, 4, 6), b=(2, 4, 6))
    log = check_pass(add_before_moving, graph)
    assert not log.steps
    assert [refusal.reason for refusal in log.declined] == ["the ranks of what is moved are not known to be equal"]


@pytest.mark.parametrize("other", [DCR, DepthToSpace(3, "CRD"), Transpose((0, 1, 3, 2)), Relu()])
def test_another_way_to_move_is_no_match(other):
    graph = build(lambda a, b: ADD(CRD(a), other(b)), a=(2, 36, 3, 3), b=(2, 36, 3, 3))
    log = Rewriter(graph, [add_before_moving], OBJECTIVES["plain"]).run()
    assert not log.steps
    assert not log.declined


def test_what_something_else_reads_stays(rng):
    graph = build(lambda x: {"y": ADD(CRD(x), shared := CRD(Relu()(x))), "z": Relu()(shared)}, x=IMAGE)
    log = check_pass(add_before_moving, graph)
    assert not log.steps
    assert [refusal.reason for refusal in log.declined] == ["'depthtospace2' is read more than once"]


def test_it_is_refused_where_more_numbers_would_be_added():
    some = Select((0, 1))
    graph = build(lambda a, b: ADD(some(Relu()(a)), some(Relu()(b))), a=(2, 512, 32, 32), b=(2, 512, 32, 32))
    log = check_pass(add_before_moving, graph, "latency")
    assert not log.steps
    assert log.declined[0].ground == "cost"


EXTENTS = st.tuples(st.sampled_from([1, 2]), st.sampled_from([1, 4, 8]), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
ANY = st.one_of(
    st.builds(DepthToSpace, st.sampled_from([1, 2]), st.sampled_from(["CRD", "DCR"])),
    st.builds(SpaceToDepth, st.sampled_from([1, 2]), st.sampled_from(["CRD", "DCR"])),
    st.permutations(range(4)).map(lambda perm: Transpose(tuple(perm))),
    st.lists(st.integers(0, 3), min_size=1, max_size=4).map(lambda index: Select(tuple(index))),
    st.sampled_from(
        [Reshape((0, -1)), Reshape((-1, 4)), Reshape((0, 0, -1)), Reshape((2, -1)), Reshape((0, 4), 2), Reshape((-1,))]
    ),
    st.tuples(*[st.tuples(st.integers(-1, 2), st.integers(-1, 2))] * 2).map(Pad),
    st.builds(Subsample, st.tuples(st.integers(1, 2), st.integers(1, 2))),
    st.builds(Take, st.integers(0, 3), st.integers(0, 1), st.booleans()),
)


@given(ANY, EXTENTS, EXTENTS, st.lists(st.booleans(), min_size=4, max_size=4))
@settings(max_examples=400, deadline=None, derandomize=True)
def test_of_any_two_shapes_it_is_refused_or_right(move, a, b, hidden):
    """Whatever extents are not known; what does not add up to begin with is no case."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in (a, b)]
    stated = [tuple(None if hide else extent for hide, extent in zip(hidden, shape, strict=True)) for shape in (a, b)]
    graph = build(lambda a, b: ADD(move(a), move(b)), a=stated[0], b=stated[1])
    feeds = dict(zip(graph.inputs, arrays, strict=True))
    try:
        [before] = run(graph, feeds).values()
    except (ValueError, IndexError):
        return
    Rewriter(graph, [add_before_moving], OBJECTIVES["plain"]).run()
    [after] = run(graph, feeds).values()
    assert after.shape == before.shape
    np.testing.assert_allclose(after, before, rtol=1e-12, atol=1e-12)
