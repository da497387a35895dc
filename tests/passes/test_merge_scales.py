from inspect import cleandoc

import pytest

from repcompiler.passes.merge_scales import merge_scales
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_batch_norm, random_scale


def test_two_batch_norms_become_one_scale(rng):
    graph = build(lambda x: random_batch_norm(rng, 4)(random_batch_norm(rng, 4)(x)), x=(None, 4, None, None))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %batchnorm1 = BatchNorm(%x) : [?, 4, ?, ?]
          %y = BatchNorm(%batchnorm1) : [?, 4, ?, ?]
          return %y
    """)
    check_pass(merge_scales, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Scale(%x) : [?, 4, ?, ?]
          return %y
    """)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((4, 1), (1, 1)),
        ((1, 1), (4, 1)),
        ((1, 1), (1, 1)),
        ((7, 2), (7, 2)),
        ((7, 2), (7, -1)),
        ((1, 1), (7, 2)),
        ((7, -1), (1, 1)),
    ],
    ids=lambda scale: f"{scale[0]} on axis {scale[1]}",
)
def test_scales_of_one_axis_or_of_everything_merge(rng, first, second):
    graph = build(lambda x: random_scale(rng, *second)(random_scale(rng, *first)(x)), x=(None, 4, 7))
    assert len(check_pass(merge_scales, graph).steps) == 1


def test_scales_of_different_axes_are_refused(rng):
    graph = build(lambda x: random_scale(rng, 7, axis=2)(random_batch_norm(rng, 4)(x)), x=(None, 4, 7))
    log = check_pass(merge_scales, graph)
    assert not log.steps
    assert log.declined[0].reason == "the two scale different axes"


def test_scale_that_is_read_twice_stays(rng):
    def fan_out(x):
        scaled = random_scale(rng, 4)(x)
        return {"y": random_scale(rng, 4)(scaled), "scaled": scaled}

    log = check_pass(merge_scales, build(fan_out, x=(None, 4, None)))
    assert not log.steps
    assert log.declined[0].reason == "'scaled' is an output of the graph"


def test_a_chain_of_any_length_becomes_one_scale(rng):
    def chain(x):
        for _ in range(20):
            x = random_batch_norm(rng, 4)(x)
        return x

    graph = build(chain, x=(None, 4, None))
    assert len(check_pass(merge_scales, graph).steps) == 19
    assert len(graph.nodes) == 1
