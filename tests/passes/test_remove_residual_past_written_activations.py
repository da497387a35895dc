"""Activations written out: what is known of their even and odd halves, and that skipped values pass them by it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repcompiler.composites import written
from repcompiler.interpreter import run
from repcompiler.ops import Clip, Gated, HardSigmoid, Identity, Mul, Odd, PRelu, Relu, Scale, Sigmoid, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from repcompiler.passes.recognise_prelu import recognise_prelu
from repcompiler.testing import build, check_pass, random_conv

IMAGE = (None, 4, None, None)
Add = Sum((1, 1))
RELU6 = Clip(0.0, 6.0)


def affine(scale, shift=0.0):
    """With constants of float32, as files hold them."""
    return Scale(np.array([scale], np.float32), np.array([shift], np.float32))


def tanh_of_a_cubic(x):
    return Odd("tanh")(affine(math.sqrt(2 / math.pi))(Add(x, affine(0.044715)(Odd("cube")(x)))))


WRITTEN = {
    "SiLU": lambda x: Mul()(x, Sigmoid()(x)),
    "SiLU of another slope": lambda x: Mul()(Sigmoid()(affine(1.702)(x)), x),
    "GELU": lambda x: affine(0.5)(Mul()(x, affine(1, 1)(Odd("erf")(affine(math.sqrt(0.5))(x))))),
    "GELU, its factor first": lambda x: Mul()(affine(0.5)(x), affine(1, 1)(Odd("erf")(affine(math.sqrt(0.5))(x)))),
    "GELU by tanh": lambda x: Mul()(affine(0.5)(x), affine(1, 1)(tanh_of_a_cubic(x))),
    "hard swish": lambda x: Mul()(x, affine(1 / 6)(RELU6(affine(1, 3)(x)))),
    "hard swish, its factor last": lambda x: affine(1 / 6)(Mul()(RELU6(affine(1, 3)(x)), x)),
    "hard swish, its factor in a layer": lambda x: Mul()(RELU6(affine(1, 3)(x)), x),
    "hard swish by hard sigmoid": lambda x: Mul()(x, HardSigmoid(float(np.float32(1 / 6)), 0.5)(x)),
    "LeakyReLU": lambda x: Sum((1, -1))(Relu()(x), affine(0.25)(Relu()(affine(-1)(x)))),
    "a power of four beside x": lambda x: Add(x, Mul()(squared := Mul()(x, x), affine(0.1)(squared))),
}


@pytest.mark.parametrize("activation", WRITTEN.values(), ids=WRITTEN)
def test_what_is_written_out_is_passed_as_what_it_stands_for(rng, activation):
    first, second = random_conv(rng, 4, 6, 3, padding=1), random_conv(rng, 6, 4, 3, padding=1)
    graph = build(lambda x: Add(second(activation(first(x))), x), x=IMAGE)
    alone = build(lambda x: activation(first(x)), x=IMAGE)
    log = check_pass(PASSES, graph)
    assert "remove_residual" in {step.rule for step in log.steps}
    check_pass([recognise_prelu, eliminate_dead_nodes], alone)
    kinds, of_one = ([node.op.kind for node in each.topological() if not isinstance(node.op, Scale)] for each in (graph, alone))
    assert kinds == [*of_one, "Conv"]


REFUSED = {
    "a gate that is not even around 1/2": lambda x: Mul()(x, affine(1, 0.25)(Sigmoid()(affine(1, 1)(x)))),
    "a clip beside its middle": lambda x: Mul()(x, RELU6(affine(1, 2)(x))),
    "a cube": lambda x: Mul()(x, Mul()(x, x)),
    "a square": lambda x: Mul()(x, x),
    "tanh shrink": lambda x: Sum((1, -1))(x, Odd("tanh")(x)),
}


@pytest.mark.parametrize("activation", REFUSED.values(), ids=REFUSED)
def test_what_has_another_odd_half_is_refused(rng, activation):
    first, second = random_conv(rng, 4, 6, 3, padding=1), random_conv(rng, 6, 4, 3, padding=1)
    log = check_pass(PASSES, build(lambda x: Add(second(activation(first(x))), x), x=IMAGE))
    assert any("f(x) - f(-x) is no multiple of x" in declined.reason for declined in log.declined)
    assert "remove_residual" not in {step.rule for step in log.steps}


def test_a_value_inside_that_something_else_reads_ends_what_is_written_out():
    graph = build(lambda x: {"y": Mul()(x, h := Sigmoid()(x)), "z": Relu()(h)}, x=IMAGE)
    (y, _) = graph.outputs
    assert written(y) is None


def test_constants_of_each_channel_are_no_function_of_a_number():
    many = Scale(np.ones(4), np.arange(4.0))
    graph = build(lambda x: Mul()(x, Sigmoid()(many(x))), x=IMAGE)
    assert written(graph.outputs[0]) is None


# -- any function ----------------------------------------------------------------------------------------------------------

ONE = st.one_of(
    st.sampled_from([Relu(), Sigmoid(), Identity(), *map(Odd, ("tanh", "erf", "cube")), *map(Gated, ("silu", "gelu"))]),
    st.builds(affine, st.sampled_from([-1.0, 0.5, 1.5]), st.sampled_from([0.0, 0.0, 1.0, -3.0])),
    st.builds(Clip, st.sampled_from([-2.0, -1.0, 0.0]), st.sampled_from([0.0, 1.0, 2.0, 6.0])),
    st.builds(HardSigmoid, st.sampled_from([0.2, 1 / 6]), st.sampled_from([0.5, 0.25])),
    st.builds(lambda slope: PRelu(np.array([slope])), st.sampled_from([0.25, -0.5])),
)
TWO = st.sampled_from([Mul(), Add, Sum((1, -1))])


@st.composite
def functions(draw):
    """A term of one value: operations on it, and on what they made."""

    def function(x):
        made = [x]
        for _ in range(draw(st.integers(1, 5))):
            op = draw(ONE | TWO)
            made.append(op(*(draw(st.sampled_from(made)) for _ in range(2 if isinstance(op, (Mul, Sum)) else 1))))
        return Mul()(made[-1], x)

    return function


@given(functions())
def test_what_is_said_of_the_halves_of_any_function_is_true(function):
    graph = build(function, x=(None, 4))
    found = written(graph.outputs[0])
    if found is None or found.source is not graph.inputs[0]:
        return
    x = np.array([[0.1, 0.7, 2.3, 5.1]])
    at, opposite = (run(graph, {graph.inputs[0]: point})[graph.outputs[0]] for point in (x, -x))
    even, odd = found.halves
    if even is not None:
        np.testing.assert_allclose((at + opposite) / 2, np.full_like(x, even), rtol=1e-12, atol=1e-9)
    if odd is not None:
        np.testing.assert_allclose((at - opposite) / 2, odd * x, rtol=1e-12, atol=1e-9)
