"""A value with several readers goes once all of them take it in, and not before."""

import numpy as np
import pytest

from repcompiler.cost import OBJECTIVES, params
from repcompiler.ops import Mul, Relu, Select
from repcompiler.passes import PASSES
from repcompiler.rewriter import Rewriter, rewrite
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, relu

IMAGE = (None, 4, None, None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_value_with_several_readers_goes_once_all_of_them_take_it_in(rng):
    def block(x, last):
        shared = random_batch_norm(rng, 4)(x)
        return {"a": random_conv(rng, 4, 4, 3)(shared), "b": random_conv(rng, 4, 8, 1)(shared), "c": last(shared)}

    graph = build(lambda x: block(x, random_conv(rng, 4, 2, 1)), x=IMAGE)
    log = check_pass(PASSES, graph)
    assert [node.op.kind for node in graph.nodes] == ["Conv"] * 3
    assert [(step.rule, step.root) for step in log.steps] == [("fold_batch_norm_before_conv", root) for root in "abc"]
    graph = build(lambda x: block(x, relu), x=IMAGE)
    assert [step.rule for step in check_pass(PASSES, graph).steps] == ["replace_batch_norm"]


def test_readers_that_are_banned_keep_what_they_share(rng):
    def fork(x):
        shared = random_batch_norm(rng, 4)(x)
        return {"a": random_conv(rng, 4, 4, 1)(shared), "b": random_conv(rng, 4, 4, 1)(shared)}

    rule = next(rule for rule in PASSES if rule.name == "fold_batch_norm_before_conv")
    log = Rewriter(build(fork, x=IMAGE), [rule], OBJECTIVES["plain"], banned={(rule.name, "b")}).run()
    assert not log.steps
    assert {declined.reason for declined in log.declined} == {
        "'batchnorm1' is read more than once",
        "it was reverted: verification failed with it",
    }


def test_what_one_reader_needs_for_itself_is_not_saved_by_another(rng):
    """Of one channel it would pay to merge both layers; of the others it does not, so the first one stays either way."""
    first, second = random_conv(rng, 6, 6, 5), random_conv(rng, 6, 8, (3, 1))

    def block(x):
        whole = second(first(x))
        return {"y": Select((0,))(whole), "z": Select(tuple(range(1, 8)))(whole)}

    graph = build(block, x=(None, 6, 12, 12))
    before = sum(params(node.op) for node in graph.nodes)
    check_pass(PASSES, graph, "params")
    assert sum(params(node.op) for node in graph.nodes) <= before


@rewrite(Relu.of(Relu.of("x")), Mul.of(Relu.of("x"), Relu.of(Relu.of("x"))))
def apply_once(x):
    return Relu()(x)


def test_a_reader_that_another_takes_in_is_not_rewritten_for_its_sake():
    def block(x):
        first = Relu()(x)
        return Mul()(first, Relu()(first))

    graph = build(block, x=IMAGE)
    log = Rewriter(graph, [apply_once], OBJECTIVES["plain"]).run()
    assert [step.root for step in log.steps] == ["y"]
    assert [node.op.kind for node in graph.nodes] == ["Relu"]
