"""Deep, wide and restless graphs: rewriting ends, without recursion."""

import numpy as np
import pytest

from repcompiler.cost import OBJECTIVES
from repcompiler.ir import Graph, Value
from repcompiler.ops import BatchNorm, Identity, Scale, Sum
from repcompiler.passes import PASSES
from repcompiler.rewriter import Rewriter, rewrite
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_scale, relu

IMAGE = (None, 4, None, None)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def rewritten(graph, objective="latency", **options):
    return Rewriter(graph, PASSES, OBJECTIVES[objective], **options).run()


def chain(length, *ops):
    """`ops` in turn, `length` times in all."""
    graph, value = Graph(), Value("x", (None, 4, 16, 16))
    graph.inputs.append(value)
    for index in range(length):
        op = ops[index % len(ops)]
        value, before = Value(f"v{index}", op.infer_shape([value.shape])), value
        graph.add(op, [before], [value])
    graph.outputs.append(value)
    return graph


def test_deep_graphs_are_rewritten_without_recursion(rng):
    scales, fences = chain(5_000, random_scale(rng, 4)), chain(20_000, relu)
    assert len(rewritten(scales).steps) == 4_999
    assert not rewritten(fences).steps
    assert len(rewritten(chain(20_000, Identity())).steps) == 19_999


def test_long_chain_of_what_cannot_merge_ends(rng):
    graph = chain(40, random_conv(rng, 4, 4, 3, padding=1))
    log = rewritten(graph)
    assert not log.steps
    assert len(log.declined) == 39


def test_branches_of_one_form_in_a_wide_sum_become_one_at_once(rng):
    graph = build(lambda x: Sum((1,) * 40)(*(random_conv(rng, 4, 4, 3, padding=1)(x) for _ in range(40))), x=IMAGE)
    assert len(check_pass(PASSES, graph).steps) == 1
    assert len(graph.nodes) == 1


def test_rewriting_ends_even_where_two_rules_undo_each_other(rng, monkeypatch):
    @rewrite(BatchNorm.of("x", name="norm"))
    def there(x, norm):
        return Scale(norm.gamma, norm.beta)(x)

    @rewrite(Scale.of("x", name="scale"))
    def back(x, scale):
        return BatchNorm(scale.scale, scale.shift, 0 * scale.scale, 0 * scale.scale + 1, 0.0)(x)

    monkeypatch.setattr("repcompiler.rewriter.saving", lambda *_: (1.0, 0))  # estimates that contradict each other
    log = Rewriter(build(lambda x: random_batch_norm(rng, 4)(x), x=IMAGE), [there, back], OBJECTIVES["plain"]).run()
    assert len(log.steps) == 512
    assert log.declined[-1].reason == "this value was rewritten 512 times"
