"""Merged convolutions run on every image that the source runs on."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from repcompiler.cost import OBJECTIVES
from repcompiler.interpreter import run
from repcompiler.least_sizes import needed
from repcompiler.ops import AvgPool, BatchNorm, Concat, Conv, Frame, MaxPool, Pad, Relu, Resize, Select, Subsample, Sum
from repcompiler.passes import PASSES
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv

SIGNAL = (None, 4, None)
REASON = "it would be an error on images of which a crop, a stride or a resize leaves no pixel"
CROP = Pad(((-2, 0),))
LESS = Pad(((-1, 0),))
HALF = Resize("nearest", "asymmetric", "floor", scales=(0.5,))
POOL = AvgPool((2,), (2,), ((0, 0),), 2)
CONV, LAST, NORM = (
    random_conv(np.random.default_rng(0), 4, 4, (3,), padding=1),
    random_conv(np.random.default_rng(1), 4, 4, (3,), padding=1),
    random_batch_norm(np.random.default_rng(2), 4),
)


def applied(*ops):
    """A chain of operations as a function of its input."""

    def chain(x):
        for op in ops:
            x = op(x)
        return x

    return chain


def rewrite(graph):
    log = Rewriter(graph, PASSES, OBJECTIVES["plain"]).run()
    graph.check()
    return log


@pytest.mark.parametrize(
    "ops",
    [
        (CONV, CROP),
        (NORM, Select((0, 2, 1, 3)), CROP, Select((0, 2, 1, 3)), NORM),
        (CROP, NORM, Relu(), Frame(((1, 1),), np.ones(4)), random_conv(np.random.default_rng(4), 4, 4, (1,))),
    ],
    ids=range(3),
)
def test_a_crop_that_may_leave_nothing_is_no_convolution(ops):
    graph = build(applied(*ops), x=SIGNAL)
    log = check_pass(PASSES, graph)
    assert REASON in {declined.reason for declined in log.declined}


@pytest.mark.parametrize(
    "ops",
    [
        (CONV, LESS, LAST),
        (CONV, LESS, Relu(), NORM, Relu(), LAST),
        (Pad(((2, 1),)), CROP, CONV, CROP, Relu(), POOL),
        (random_conv(np.random.default_rng(3), 4, 4, (2,), padding=2), CROP),
        (Resize("nearest", "asymmetric", "floor", scales=(3.0,)), CROP, NORM, Select((0, 2, 1, 3))),
    ],
    ids=range(5),
)
def test_what_reads_it_or_makes_it_may_see_to_it_that_something_is_left(ops):
    log = check_pass(PASSES, build(applied(*ops), x=SIGNAL))
    assert REASON not in {declined.reason for declined in log.declined}
    assert log.steps


@pytest.mark.parametrize(("size", "merges"), [(2, False), (3, True), (None, False)])
def test_known_extents_may_see_to_it(size, merges):
    log = rewrite(build(applied(CONV, CROP), x=(None, 4, size)))
    assert bool(log.steps) == merges


def test_a_branch_that_is_an_error_without_pixels_sees_to_it_for_the_others():
    def branches(x):
        wide = random_conv(np.random.default_rng(0), 4, 4, (5,), padding=1)
        return Sum((1, 1))(Pad(((-1, -1),))(NORM(x)), wide(x))

    graph = build(branches, x=SIGNAL)
    check_pass(PASSES, graph)
    assert [node.op.kind for node in graph.topological()] == ["Conv"]


windows = st.builds(
    lambda kernel, stride, before, after: (kernel, stride, (before, after)),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(0, 2),
)
crops = st.tuples(st.integers(-3, 1), st.integers(-3, 1))


@st.composite
def operations(draw):
    kind = draw(st.sampled_from(["conv", "conv", "pool", "maximum", "crop", "frame", "stride", "norm", "relu"]))
    kernel, stride, padding = draw(windows)
    small = (min(padding[0], kernel - 1), min(padding[1], kernel - 1))
    weight = np.random.default_rng(kernel).normal(size=(4, 4, kernel))
    return {
        "conv": Conv(weight, np.zeros(4), (stride,), (padding,), (1,), 1),
        "pool": AvgPool((kernel,), (stride,), (padding,), kernel),
        "maximum": MaxPool((kernel,), (stride,), (small,), (1,)),
        "crop": Pad((draw(crops),)),
        "frame": Frame(((1, 1),), np.ones(4)),
        "stride": Subsample((stride,), (padding[0],)),
        "norm": NORM,
        "relu": Relu(),
    }[kind]


def outcome(graph, size):
    """What a graph makes of an image, or None where it is an error."""
    x = graph.inputs[0]
    with suppress(ValueError):
        [made] = run(graph, {x: np.random.default_rng(size).normal(size=(1, 4, size))}).values()
        return made
    return None


@given(st.lists(operations(), min_size=1, max_size=5), st.lists(operations(), max_size=2))
def test_a_chain_or_two_run_on_every_size_that_they_ran_on(chain, other):
    def whole(x):
        first = applied(*chain)(x)
        return Concat()(first, applied(*chain, *other)(x)) if other else first

    graph, source = (build(whole, x=SIGNAL) for _ in range(2))
    assume(outcome(source, 40) is not None)
    rewrite(graph)
    for size in range(1, 12):
        expected, made = outcome(source, size), outcome(graph, size)
        if expected is not None:
            assert made is not None, size
            np.testing.assert_allclose(made, expected, rtol=1e-9, atol=1e-9 * max(1.0, np.abs(expected).max(initial=0.0)))


@given(operations(), st.integers(1, 4))
def test_what_is_needed_is_the_smallest_size_that_makes_as_much(op, n):
    sizes = [made.shape[2] if (made := outcome(build(applied(op), x=SIGNAL), size)) is not None else 0 for size in range(1, 20)]
    least = next(size for size, made in enumerate(sizes, 1) if made >= n)
    assert max(needed(op, 0, n), 1) == least


def test_half_an_image_needs_two_pixels_for_one():
    assert [needed(HALF, 0, n) for n in (0, 1, 2)] == [0, 2, 4]
    assert needed(BatchNorm(*np.ones((4, 4)), 1e-5), 0, 3) == 3


def test_crops_of_both_ends_are_not_one_where_no_pixel_may_be_left_to_the_second():
    graph, source = (build(applied(Relu(), NORM, Pad(((0, -1),)), Subsample((1,), (1,))), x=SIGNAL) for _ in range(2))
    rewrite(graph)
    for size in (1, 2, 5):
        np.testing.assert_allclose(outcome(graph, size), outcome(source, size), rtol=1e-9)
