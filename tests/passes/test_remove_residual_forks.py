"""What others read of a block, too, stays there: channels of what is carried through the block."""

from inspect import cleandoc
from itertools import pairwise

import numpy as np
import pytest

from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import Concat, Conv, Gated, GlobalAvgPool, Linear, Mul, Relu, Select, Sigmoid, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.batch_norm_to_conv import batch_norm_to_conv
from repcompiler.passes.identity_to_dirac import identity_to_dirac
from repcompiler.passes.linear_to_conv import linear_to_conv
from repcompiler.passes.remove_residual import remove_residual
from repcompiler.passes.select_to_conv import select_to_conv
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import build, check_pass, random_batch_norm, random_conv, random_linear, relu

IMAGE = (None, 4, None, None)
RULES = [remove_residual, identity_to_dirac, batch_norm_to_conv, linear_to_conv, select_to_conv]
ACTIVATIONS = [Relu(), *map(Gated, ("silu", "gelu", "hardswish"))]
Add = Sum((1, 1))


def same(rng, inputs, outputs, **attributes):
    return random_conv(rng, inputs, outputs, 3, padding=1, **attributes)


def removed(log):
    return [step.root for step in log.steps if step.rule == "remove_residual"]


def sums(graph):
    return [node for node in graph.nodes if isinstance(node.op, Sum)]


def test_what_others_read_is_a_choice_of_channels(rng):
    first, second = same(rng, 4, 6), same(rng, 6, 4)

    def block(x):
        x = Relu()(x)
        hidden = Relu()(first(x))
        return {"y": Add(second(hidden), x), "z": hidden}

    graph = build(block, x=IMAGE)
    log = check_pass(RULES, graph)
    assert removed(log) == ["y", "z"]
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %relu1 = Relu(%x) : [?, 4, ?, ?]
          %y/1 = Conv(%relu1) 4->10 3x3 padding=1 bias : [?, 10, ?, ?]
          %y/2 = Relu(%y/1) : [?, 10, ?, ?]
          %y = Conv(%y/2) 10->4 3x3 padding=1 bias : [?, 4, ?, ?]
          %z = Select(%y/2) : [?, 6, ?, ?]
          return %y, %z
    """)


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda op: getattr(op, "gate", "relu"))
def test_parts_that_add_to_each_other_are_carried(rng, activation):
    """Gao et al., Res2Net, TPAMI 2021: each part of the channels is read by the next one, and by the concatenation."""

    def layer(x, *sizes):
        return activation(random_batch_norm(rng, sizes[1])(same(rng, *sizes, bias=False)(x)))

    def block(x):
        x = activation(random_conv(rng, 4, 16, 1)(x))
        parts = [Select(tuple(range(start, start + 4)))(x) for start in range(0, 16, 4)]
        made = [layer(parts[0], 4, 4)]
        for part in parts[1:3]:
            made.append(layer(Add(part, made[-1]), 4, 4))
        return random_conv(rng, 16, 4, 1)(Concat()(*made, parts[3]))

    graph = build(block, x=IMAGE)
    log = check_pass(PASSES, graph)
    assert len({step.root for step in log.steps if step.rule == "remove_residual"}) == 5  # two sums, and three forks on the way
    assert {type(node.op) for node in graph.nodes} == {Conv, type(activation), Select, Concat}


@pytest.mark.parametrize("where", ["conv", "activation", "both"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda op: getattr(op, "gate", "relu"))
def test_forks_may_be_anywhere_before_the_last_layer(rng, activation, stride, where):
    first, second, short = same(rng, 4, 6, stride=stride), same(rng, 6, 5), random_conv(rng, 4, 5, 1, stride=stride)

    def block(x):
        layer = first(x)
        hidden = activation(layer)
        handed_out = {"conv": {"a": layer}, "activation": {"b": hidden}, "both": {"a": layer, "b": hidden}}[where]
        return {"y": Add(second(hidden), short(x)), **handed_out}

    graph = build(block, x=IMAGE)
    log = check_pass(RULES, graph)
    assert removed(log)[0] == "y"
    assert sorted(removed(log)[1:]) == {"conv": ["a"], "activation": ["b"], "both": ["a", "b"]}[where]
    assert not sums(graph)


def test_channels_in_the_order_of_groups_are_found_again(rng):
    """Behind a depthwise layer that comes first, each channel stands beside the one that is carried."""
    first, second = random_conv(rng, 4, 4, 3, padding=1, groups=4), random_conv(rng, 4, 4, 1)

    def block(x):
        hidden = Gated("silu")(first(x))
        return {"y": Add(second(hidden), x), "z": hidden}

    graph = build(block, x=IMAGE)
    check_pass(RULES, graph)
    [choice] = [node.op for node in graph.nodes if isinstance(node.op, Select)]
    assert choice.index == (0, 3, 6, 9)


@pytest.mark.parametrize("read", ["before the activation", "before the gate", "behind it"])
def test_a_gate_is_no_hindrance(rng, read):
    first, second = random_conv(rng, 4, 6, 1), random_conv(rng, 6, 4, 1)
    squeeze, excite = random_conv(rng, 6, 2, 1), random_conv(rng, 2, 6, 1)

    def block(x):
        layer = first(x)
        hidden = Relu()(layer)
        gated = Mul()(hidden, Sigmoid()(excite(Relu()(squeeze(GlobalAvgPool()(hidden))))))
        forks = {"before the activation": layer, "before the gate": hidden, "behind it": gated}
        return {"y": Add(second(gated), x), "z": forks[read]}

    graph = build(block, x=IMAGE)
    log = check_pass(RULES, graph)
    assert removed(log) == ["y", "z"]
    assert not sums(graph)


def test_each_part_is_checked_by_itself(rng):
    first, second = same(rng, 4, 6), same(rng, 6, 4)

    def block(x):
        hidden = Gated("silu")(first(x))
        return {"y": Add(second(hidden), x), "z": relu(hidden)}

    log = Rewriter(build(block, x=IMAGE), RULES, OBJECTIVES["plain"], need=Certify.ALL).run()
    assert removed(log) == ["y", "silu1"]
    assert all(step.certificate is not None and step.certificate.laws == ("SiLU",) for step in log.steps)
    assert log.steps[0].parameters > log.steps[1].parameters == (0, 0)  # what they share is counted once


def test_what_the_shortcut_is_added_to_is_not_told_from_the_sum(rng):
    def block(x):
        last = same(rng, 6, 4)(Relu()(same(rng, 4, 6)(x)))
        return {"y": Add(last, x), "z": last}

    log = check_pass(RULES, build(block, x=IMAGE))
    assert not log.steps
    assert {declined.reason for declined in log.declined} == {"what the shortcut is added to is read elsewhere, too"}


def test_channels_of_tokens_are_not_chosen(rng):
    def block(x):
        hidden = Gated("gelu")(random_linear(rng, 4, 6)(x))
        return {"y": Add(random_linear(rng, 6, 4)(hidden), x), "z": hidden}

    log = check_pass(RULES, build(block, x=(2, 5, 4)))
    assert not log.steps
    assert "what is read elsewhere is a choice of channels of axis 1, not of the last" in {d.reason for d in log.declined}
    graph = build(block, x=(2, 4))
    check_pass(RULES, graph)
    assert {type(node.op) for node in graph.nodes} == {Linear, Gated, Select}


def test_a_fork_that_was_reverted_stays(rng):
    def block(x):
        hidden = Relu()(same(rng, 4, 6)(x))
        return {"y": Add(same(rng, 6, 4)(hidden), x), "z": hidden}

    log = Rewriter(build(block, x=IMAGE), RULES, OBJECTIVES["plain"], banned={("remove_residual", "z")}).run()
    assert not log.steps
    assert {declined.reason for declined in log.declined} == {"'z' is an output of the graph"}


@pytest.mark.parametrize("objective", ["latency", "macs", "params"])
def test_nothing_is_forked_where_it_does_not_pay(rng, objective):
    def block(x):
        hidden = Relu()(same(rng, 16, 16)(x))
        return {"y": Add(same(rng, 16, 16)(hidden), x), "z": hidden}

    assert not removed(check_pass(PASSES, build(block, x=(1, 16, 28, 28)), objective))


def test_random_blocks_with_forks_stay_what_they_were(rng):
    for _ in range(40):
        sizes = [4, *rng.integers(1, 4, rng.integers(2, 5)) * 4, 4]
        groups = [int(rng.choice([1, 2, 4])) for _ in sizes[1:]]
        layers = [same(rng, *pair, groups=g) for pair, g in zip(pairwise(sizes), groups, strict=True)]
        activation, forks = ACTIVATIONS[rng.integers(4)], rng.random(len(layers) - 1) < 0.5

        def block(x, layers=layers, activation=activation, forks=forks):
            values, made = {}, x
            for index, layer in enumerate(layers[:-1]):
                made = activation(layer(made))
                values |= {f"z{index}": made} if forks[index] else {}
            return {"y": Add(layers[-1](made), x), **values}

        graph = build(block, x=IMAGE)
        log = check_pass(PASSES, graph)
        assert len(removed(log)) == 1 + np.count_nonzero(forks)
