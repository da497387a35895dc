from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler.algebra import affine, scale_outputs
from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.ops import DynamicConv, Linear, Reshape
from repcompiler.passes.fold_batch_norm_into_experts import fold_batch_norm_into_experts
from repcompiler.printer import render
from repcompiler.rewriter import Rewriter
from repcompiler.testing import (
    build,
    check_pass,
    deviations,
    opaque,
    random_batch_norm,
    random_conv,
    random_linear,
    random_scale,
    relu,
)

SIGMOID = opaque("Sigmoid", lambda x: 1 / (1 + np.exp(-x)))
SOFTMAX = opaque("Softmax", lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True))
INPUTS = {"x": (1, 4, None, None), "gates": (1, 3)}


def dynamic(rng, like, experts=3):
    """(experts, kernel, conv) of a dynamic convolution with the geometry of `like`."""
    bank = random_linear(rng, experts, like.weight.size)
    conv = DynamicConv(like.weight.shape, like.bias, like.stride, like.padding, like.dilation, like.groups)
    return bank, Reshape(like.weight.shape), conv


def test_batch_norm_goes_into_every_expert_and_its_shift_into_one_bias(rng):
    bank, kernel, conv = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1, bias=False))
    norm = random_batch_norm(rng, 8)
    graph = build(lambda x, gates: norm(conv(x, kernel(bank(gates)))), **INPUTS)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, ?, ?], %gates: [1, 3])
          %linear1 = Linear(%gates) 3->288 bias : [1, 288]
          %reshape1 = Reshape(%linear1) : [8, 4, 3, 3]
          %dynamicconv1 = DynamicConv(%x, %reshape1) 4->8 3x3 padding=1 : [1, 8, ?, ?]
          %y = BatchNorm(%dynamicconv1) : [1, 8, ?, ?]
          return %y
    """)
    check_pass(fold_batch_norm_into_experts, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [1, 4, ?, ?], %gates: [1, 3])
          %y/1 = Linear(%gates) 3->288 bias : [1, 288]
          %y/2 = Reshape(%y/1) : [8, 4, 3, 3]
          %y = DynamicConv(%x, %y/2) 4->8 3x3 padding=1 bias : [1, 8, ?, ?]
          return %y
    """)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.data(), st.integers(0, 2**32 - 1).map(np.random.default_rng), st.sampled_from([SIGMOID, SOFTMAX, relu]))
def test_any_gates_and_any_geometry(data, rng, gate):
    axes, groups = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([1, 2, 4]))
    size, stride, dilation = (tuple(map(int, rng.integers(1, 4, axes))) for _ in range(3))
    like = random_conv(rng, 4, 8, size, stride=stride, dilation=dilation, padding=int(rng.integers(0, 3)), groups=groups)
    extents = (9, 7, 8)[:axes]
    assume(min(like.infer_shape([(1, 4, *extents)])[2:]) > 0)
    bank, kernel, conv = dynamic(rng, like, data.draw(st.integers(1, 4)))
    scale = data.draw(st.sampled_from([random_batch_norm(rng, 8), random_scale(rng, 8), random_scale(rng, 1)]))
    shapes = {"x": (1, 4, *extents), "gates": (1, bank.in_channels)}
    graph = build(lambda x, gates: scale(conv(x, kernel(bank(gate(gates))))), **shapes)
    assert len(check_pass(fold_batch_norm_into_experts, graph).steps) == 1
    assert [node.op.kind for node in graph.topological()] == [gate.kind, "Linear", "Reshape", "DynamicConv"]


@pytest.mark.parametrize(("gate", "exact"), [(SOFTMAX, True), (SIGMOID, False)])
def test_shift_in_every_expert_instead_would_be_exact_only_for_gates_that_add_up_to_one(rng, gate, exact):
    bank, kernel, conv = dynamic(rng, random_conv(rng, 4, 8, 1, bias=False))
    norm = random_batch_norm(rng, 8)
    t, s = affine(norm, 8)
    scaled = scale_outputs(bank, np.repeat(t, 4), 0.0)
    shifts, add = Linear(np.tile(s[:, None], 3), np.zeros(8)), opaque("Add", lambda x, shift: x + shift[..., None, None])
    before = build(lambda x, gates: norm(conv(x, kernel(bank(gate(gates))))), **INPUTS)
    [deviation] = deviations(
        before, build(lambda x, gates: add(conv(x, kernel(scaled(gate(gates)))), shifts(gate(gates))), **INPUTS)
    )
    assert (deviation.worst < 1e-12) == exact


def test_kernel_read_twice_stays(rng):
    bank, kernel, conv = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1))
    norm = random_batch_norm(rng, 8)

    def twice(x, gates):
        mixed = kernel(bank(gates))
        return {"y": norm(conv(x, mixed)), "z": relu(conv(x, mixed))}

    log = check_pass(fold_batch_norm_into_experts, build(twice, **INPUTS))
    assert not log.steps
    assert log.declined[0].reason == "'reshape1' is read more than once"


def test_experts_that_another_layer_shares_are_scaled_for_one_alone(rng):
    bank, kernel, conv = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1))
    norm = random_batch_norm(rng, 8)

    def shared(x, gates):
        return {"y": norm(conv(x, kernel(bank(gates)))), "z": conv(x, kernel(bank(gates)))}

    graph = build(shared, **INPUTS)
    assert len(check_pass(fold_batch_norm_into_experts, graph).steps) == 1


@pytest.mark.parametrize("target", [(8, 4, 3, -1), (-1, 4, 3, 3)])
def test_extents_of_the_kernel_may_be_inferred(rng, target):
    bank, _, conv = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1))
    graph = build(lambda x, gates: random_batch_norm(rng, 8)(conv(x, Reshape(target)(bank(gates)))), **INPUTS)
    assert len(check_pass(fold_batch_norm_into_experts, graph).steps) == 1


def test_rows_of_the_kernel_from_gates_of_their_own_are_refused(rng):
    conv, bank = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1))[2], random_linear(rng, 3, 36)
    inputs = {**INPUTS, "gates": (8, 3)}
    graph = build(lambda x, gates: random_batch_norm(rng, 8)(conv(x, Reshape((0, 4, 3, 3))(bank(gates)))), **inputs)
    log = check_pass(fold_batch_norm_into_experts, graph)
    assert not log.steps
    assert log.declined[0].reason == "it is not told how the mixed experts are laid out as one kernel"


def test_kernel_of_several_samples_behind_each_other_is_refused(rng):
    """Rows of the bank are then rows of one sample's kernel, not of the whole."""
    _, kernel, conv = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1, groups=2))
    bank = random_linear(rng, 3, 72)
    graph = build(lambda x, gates: random_batch_norm(rng, 8)(conv(x, kernel(bank(gates)))), **{**INPUTS, "gates": (2, 3)})
    log = check_pass(fold_batch_norm_into_experts, graph)
    assert not log.steps
    assert log.declined[0].reason == "it is not told how the mixed experts are laid out as one kernel"


def test_scale_of_another_axis_is_refused(rng):
    bank, kernel, conv = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1))
    scale = random_scale(rng, 8, axis=2)
    graph = build(lambda x, gates: scale(conv(x, kernel(bank(gates)))), **{**INPUTS, "x": (1, 4, 8, 8)})
    log = check_pass(fold_batch_norm_into_experts, graph)
    assert not log.steps
    assert log.declined[0].reason == "it scales another axis than the one the kernel makes"


def test_each_rewrite_is_checked_by_itself(rng):
    bank, kernel, conv = dynamic(rng, random_conv(rng, 4, 8, 3, padding=1))
    norm = random_batch_norm(rng, 8)
    graph = build(lambda x, gates: norm(conv(x, kernel(bank(gates)))), **INPUTS)
    log = Rewriter(graph, [fold_batch_norm_into_experts], OBJECTIVES["plain"], need=Certify.ALL).run()
    assert len(log.steps) == 1
