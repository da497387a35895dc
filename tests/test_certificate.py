"""A rewrite checked by itself: what is right passes at any geometry, what is wrong is refused and says by how much."""

from dataclasses import replace

import numpy as np
import pytest

from repcompiler.algebra import add, compose
from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import AvgPool, Concat, Conv, Reshape, Sum
from repcompiler.passes import PASSES
from repcompiler.pattern import linear, linear_after
from repcompiler.rewriter import Rewriter, ViewRule, rewrite
from repcompiler.testing import build, random_batch_norm, random_conv, random_linear, relu

Add = Sum((1, 1))
IMAGE = (None, 4, None, None)
rng = np.random.default_rng(0)
conv1, conv3 = random_conv(rng, 4, 4, 1), random_conv(rng, 4, 4, 3, padding=1)
unpadded, large = random_conv(rng, 4, 4, 3), random_conv(rng, 4, 4, 7, padding=6, dilation=2)


@rewrite(linear_after(linear("x", name="first", least=1), name="second"))
def merge_as_if_there_were_no_border(x, first, second):
    merged = compose(replace(first, padding=((0, 0), (0, 0))), replace(second, padding=((0, 0), (0, 0))))
    reach = tuple((a + b, c + d) for (a, c), (b, d) in zip(first.padding, second.padding, strict=True))
    return replace(merged, padding=reach)(x)


@rewrite(Sum.of(linear("x", name="first"), linear("x", name="second")))
def add_kernels_a_pixel_off(x, first, second):
    merged = add(first, second, (None, None))
    return replace(merged, weight=np.roll(merged.weight, 1, axis=3))(x)


@rewrite(Conv.of("x", name="conv"))
def round_weights_a_little(x, conv):
    return replace(conv, weight=conv.weight * (1 + 1e-6), bias=conv.bias * 0)(x)


def declined(rule, block):
    log = Rewriter(
        build(block, x=IMAGE),
        (rule, *(view for view in PASSES if isinstance(view, ViewRule))),
        OBJECTIVES["plain"],
        need=Certify.ALL,
    ).run()
    assert not [step for step in log.steps if step.rule == rule.name]
    return [item.reason for item in log.declined if item.rule == rule.name]


@pytest.mark.parametrize(
    ("rule", "block"),
    [
        (merge_as_if_there_were_no_border, lambda x: conv3(conv1(x))),
        (merge_as_if_there_were_no_border, lambda x: large(conv3(x))),
        (add_kernels_a_pixel_off, lambda x: Add(conv3(x), conv1(x))),
        (add_kernels_a_pixel_off, lambda x: Add(relu(x), Add(large(x), x))),
    ],
)
def test_a_wrong_rewrite_is_refused(rule, block):
    assert any("own check failed: the results differ" in reason for reason in declined(rule, block))


@pytest.mark.parametrize(
    "block",
    [
        lambda x: unpadded(random_batch_norm(rng, 4)(conv3(x))),
        lambda x: Add(relu(x), Add(large(x), Add(conv3(x), x))),
        lambda x: conv1(AvgPool((3, 3), (2, 2), ((1, 1), (1, 1)), 9)(x)),
        lambda x: relu(Concat()(relu(x), conv3(x), conv1(x))),
    ],
)
def test_a_right_one_passes(block):
    certified, trusted = (
        Rewriter(build(block, x=IMAGE), PASSES, OBJECTIVES["plain"], need=need).run() for need in (Certify.ALL, Certify.NONE)
    )
    assert certified.steps == trusted.steps
    assert trusted.steps
    assert all(step.certificate for step in certified.steps)
    assert not any(step.certificate for step in trusted.steps)


@pytest.mark.parametrize("batch", [None, "n", 3])
def test_block_that_is_flattened_is_checked_at_its_own_extents(batch):
    linear = random_linear(rng, 4 * 9 * 30, 5)
    graph = build(lambda x: linear(Reshape((0, -1))(conv3(random_batch_norm(rng, 4)(conv1(x))))), x=(batch, 4, 9, 30))
    log = Rewriter(graph, PASSES, OBJECTIVES["plain"], need=Certify.ALL).run()
    assert "merge_conv_into_linear" in [step.rule for step in log.steps]


def test_reshape_that_says_the_batch_is_checked_at_that_batch():
    """How timm writes a standardised kernel: (1, out, -1), which keeps what has that shape already."""
    graph = build(lambda x: relu(Reshape((1, 8, -1))(x)), x=(1, 8, 27))
    log = Rewriter(graph, PASSES, OBJECTIVES["plain"], need=Certify.ALL).run()
    assert [(step.rule, step.certificate.verdict) for step in log.steps] == [("eliminate_reshape", "sampled")]


def test_sizes_that_only_agree_where_the_graph_says_are_checked_there():
    pool, strided = AvgPool((2, 2), (2, 2), ((0, 0), (0, 0)), 4), random_conv(rng, 4, 4, 3, padding=1, stride=2)
    graph = build(lambda x: Add(strided(x), pool(x)), x=(1, 4, 56, 30))
    log = Rewriter(graph, PASSES, OBJECTIVES["plain"], need=Certify.ALL).run()
    assert [step.rule for step in log.steps] == ["merge_parallel_branches"]
