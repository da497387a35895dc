"""Certificates: what each verdict stands for, how small a mistake is caught, and the inputs and forms they are made with."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from repcompiler import interpreter
from repcompiler.certificate import Certify
from repcompiler.cost import OBJECTIVES
from repcompiler.linear_part import AFFINE, linear_part, magnitude, stand_ins
from repcompiler.ops import (
    AvgPool,
    Clip,
    Conv,
    Frame,
    Gated,
    GlobalAvgPool,
    Identity,
    MaxPool,
    Mul,
    Pad,
    PRelu,
    Relu,
    Select,
    Sigmoid,
    Subsample,
    Sum,
)
from repcompiler.passes import PASSES
from repcompiler.passes.eliminate_identity import eliminate_identity
from repcompiler.rank_one import RankOne, respond
from repcompiler.rewriter import Rewriter, rewrite
from repcompiler.testing import (
    build,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
    relu,
)
from repcompiler.ulps import Floating

Add = Sum((1, 1))
IMAGE = (None, 4, None, None)
rng = np.random.default_rng(0)
conv3, conv1, norm = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1), random_batch_norm(rng, 4)
deep = random_conv(rng, 4, 4, 3)
bare = replace(deep, weight=deep.weight.astype(np.float32), bias=np.zeros(4))


def run(block, rules=PASSES, dtype="float32", **shapes):
    graph = build(block, **(shapes or {"x": IMAGE}))
    for node in graph.nodes:
        node.output.dtype = dtype
    return Rewriter(graph, rules, OBJECTIVES["plain"], need=Certify.ALL).run()


# -- verdicts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("block", "verdict"),
    [
        (lambda x: relu(bare(Pad(((1, 1), (1, 1)))(x))), "exact"),
        (lambda x: norm(conv3(x)), "correctly rounded"),
        (lambda x: Add(conv3(x), conv1(x)), "correctly rounded"),
        (lambda x: Add(conv3(x), x), "correctly rounded"),
        (lambda x: Sigmoid()(norm(conv3(x))), "correctly rounded"),
    ],
    ids=["padding", "norm", "sum", "skip", "before an activation"],
)
def test_what_is_merged_has_this_verdict(block, verdict):
    log = run(block)
    assert log.steps
    assert {step.certificate.verdict for step in log.steps} == {verdict}
    assert all(step.certificate.coefficients for step in log.steps)
    assert log.steps[-1].certificate.complete == (verdict != "exact")  # of a larger image not all pixels are tried one by one


def test_long_sums_are_off_by_little_more_than_half_a_unit():
    log = run(lambda x: random_conv(rng, 64, 8, 1)(random_conv(rng, 4, 64, 3)(x)))
    [step] = log.steps
    said = step.certificate.verdict
    assert said == "correctly rounded" or 0.5 < float(said.removeprefix("rounding ").removesuffix(" ulp")) < 0.7


@pytest.mark.parametrize(
    ("activation", "before"),
    [
        (Relu(), Relu()),
        (Relu(), Sum((-1,))),
        (Clip(0.0, 6.0), Clip(0.0, 6.0)),
        (PRelu(np.array([0.25])), Sum((-1,))),
        (Gated("silu"), Sum((-1,))),
        (Gated("gelu"), Sum((-1,))),
    ],
    ids=["relu", "relu of either sign", "relu6", "leaky", "silu", "gelu"],
)
def test_skip_that_is_carried_past_an_activation_is_proved_by_its_law(activation, before):
    log = run(lambda x: Add(conv3(activation(conv3(y := before(x)))), y))
    [step] = [step for step in log.steps if step.rule == "remove_residual"]
    assert step.certificate.laws == (activation.kind,)
    assert step.certificate.kind in ("correctly rounded", "rounding")


def test_scale_that_goes_before_a_relu_is_proved_by_its_law():
    log = run(lambda x: random_scale_up(Relu()(conv3(x))))
    assert [str(step.certificate.laws) for step in log.steps] == ["('Relu',)"]


def random_scale_up(x):
    scale = random_scale(rng, 4)
    return replace(scale, scale=np.abs(scale.scale), shift=np.zeros(4))(x)


def test_where_no_law_is_known_random_inputs_are_compared():
    def squeeze_and_excite(x):
        inner = Relu()(conv3(x))
        return Add(conv3(Mul()(inner, Sigmoid()(conv1(GlobalAvgPool()(inner))))), x)

    log = run(lambda x: squeeze_and_excite(Relu()(x)))
    removed = [step for step in log.steps if step.rule == "remove_residual"]
    assert {step.certificate.verdict for step in removed} == {"sampled"}


def test_phases_of_a_large_stride_are_drawn_where_they_do_not_fit():
    tracemalloc.start()
    log = run(lambda x: AvgPool((60, 60), (60, 60), ((0, 0), (0, 0)), 3600)(conv3(x)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert log.steps
    assert all(step.certificate.verdict != "not checked by itself" for step in log.steps)
    assert peak < 2e8  # all 60 * 60 phases would be 3,600 images of more than 120 * 120


def test_verdict_is_said_of_the_type_that_weights_are_written_in():
    verdicts = {dtype: run(lambda x: norm(conv3(x)), dtype=dtype).steps[0].certificate.kind for dtype in ("float16", "float32")}
    assert verdicts == {"float16": "correctly rounded", "float32": "correctly rounded"}


def test_weights_that_would_overflow_are_refused():
    large = replace(norm, gamma=np.full(4, 1e6))
    assert not run(lambda x: large(conv3(x)), dtype="float16").steps
    assert "its weights would overflow float16" in {
        item.reason for item in run(lambda x: large(conv3(x)), dtype="float16").declined
    }
    assert run(lambda x: large(conv3(x)), dtype="bfloat16").steps


PADDING = replace(OBJECTIVES["plain"], of_op=lambda op, inputs, output: float(isinstance(op, Conv) and op.padding[0] == (1, 1)))


# -- mistakes --------------------------------------------------------------------------------------------------------------


def nudged(weight, relative):
    """One tap off."""
    result = np.array(weight, np.float64)
    result.flat[result.size // 2] *= 1 + relative
    return result


@pytest.mark.parametrize(
    ("channels", "relative"), [(1, 1e-12), (4, 1e-3), (4, 1e-6), (4, 1e-9), (4, 1e-12), (96, 1e-9), (512, 1e-6)]
)
def test_one_tap_off_by_this_part_is_caught(channels, relative):
    block = random_conv(rng, channels, channels, 3, padding=1)

    @rewrite(Identity.of(Conv.of("x", name="conv")))
    def forget_the_identity(x, conv):
        return replace(conv, weight=nudged(conv.weight, relative))(x)

    log = run(lambda x: relu(Identity()(block(x))), [forget_the_identity], x=(None, channels, None, None))
    assert [item.reason for item in log.declined if item.reason.startswith("its own check failed: the results differ")]
    assert not log.steps
    [right] = run(lambda x: relu(Identity()(block(x))), [eliminate_identity], x=(None, channels, None, None)).steps
    assert right.certificate.verdict == "exact"


def test_message_names_an_input_and_both_numbers():
    @rewrite(Conv.of("x", name="conv"))
    def forget_the_border(x, conv):
        return Pad(((1, 1), (1, 1)))(replace(conv, padding=((0, 0), (0, 0)), bias=conv.bias * 0)(x))

    free = replace(conv3, bias=np.zeros(4))
    [reason] = {
        item.reason
        for item in Rewriter(build(free, x=(None, 4, 9, 8)), [forget_the_border], PADDING, need=Certify.ALL).run().declined
    }
    assert reason.startswith("its own check failed: the results differ ")
    assert " becomes 0 at [" in reason


# -- the inputs ------------------------------------------------------------------------------------------------------------


@st.composite
def convolutions(draw):
    axes, groups = draw(st.integers(1, 3)), draw(st.sampled_from([1, 2, 4]))
    size = lambda low, high: draw(st.tuples(*[st.integers(low, high)] * axes))  # noqa: E731
    numbers = np.random.default_rng(draw(st.integers(0, 99)))
    conv = random_conv(numbers, 4, 4, size(1, 3), stride=1, groups=groups)
    padding = tuple((draw(st.integers(-1, 2)), draw(st.integers(-1, 2))) for _ in range(axes))
    return replace(conv, stride=size(1, 3), dilation=size(1, 2), padding=padding)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(convolutions(), st.integers(0, 99))
def test_what_a_convolution_makes_of_outer_products_is_what_it_makes_of_them_written_out(conv, seed):
    numbers = np.random.default_rng(seed)
    images = numbers.standard_normal((2, *(8 + axis for axis in range(len(conv.stride)))))
    probe = RankOne(numbers.standard_normal((3, 4)), images)
    expected = interpreter.evaluate(conv, [probe.dense()])[0]
    np.testing.assert_allclose(respond(conv, probe), expected, rtol=0, atol=1e-12)


def test_fully_connected_layer_reads_the_last_axis():
    layer, probe = random_linear(rng, 4, 3), RankOne(rng.standard_normal((3, 4)), rng.standard_normal((2, 5)), 2)
    np.testing.assert_allclose(respond(layer, probe), interpreter.evaluate(layer, [probe.dense()])[0], rtol=0, atol=1e-12)


# -- linear parts ----------------------------------------------------------------------------------------------------------

FORMS = {
    "conv": conv3,
    "transposed": random_conv_transpose(rng, 4, 3, 3, stride=2),
    "linear": random_linear(rng, 6, 3),
    "norm": norm,
    "scale": random_scale(rng, 4),
    "pool": AvgPool((3, 2), (2, 1), ((1, 1), (0, 1)), 6),
    "frame": Frame(((1, 1), (2, 0)), np.arange(4.0)),
    "crop": Pad(((1, -1), (0, 2))),
    "select": Select((3, 1, 1)),
    "subsample": Subsample((2, 1)),
    "mean": GlobalAvgPool(),
}


@pytest.mark.parametrize("op", FORMS.values(), ids=FORMS)
def test_affine_operation_is_its_linear_part_and_what_it_makes_of_nothing(op):
    assert isinstance(op, AFFINE)
    x, y = rng.standard_normal((2, 2, 4, 5, 6))
    f, g = (lambda x: interpreter.evaluate(op, [x])[0]), lambda x: interpreter.evaluate(linear_part(op), [x])[0]
    np.testing.assert_allclose(f(x), g(x) + f(0 * x), rtol=0, atol=1e-12)
    np.testing.assert_allclose(g(2 * x - y), 2 * g(x) - g(y), rtol=0, atol=1e-12)
    assert (np.abs(f(x)) <= interpreter.evaluate(magnitude(op), [np.abs(x)])[0] + 1e-12).all()


@pytest.mark.parametrize(
    "activation",
    [Relu(), Clip(0.0, 6.0), PRelu(np.array([0.1, -0.5, 2.0, 0.0])), Gated("silu"), Gated("hardswish")],
    ids=lambda op: op.kind,
)
def test_stand_in_is_linear_and_keeps_a_law(activation):
    x = rng.standard_normal((1, 4, 3, 3))
    made = [interpreter.evaluate(op, [x])[0] for op in stand_ins(activation)]
    odd = interpreter.evaluate(activation, [x])[0] - interpreter.evaluate(activation, [-x])[0]
    laws = [x, odd / 2]
    assert made
    assert all(any(np.allclose(one, law) for law in laws) for one in made)


def test_stand_in_of_a_maximum_commutes_with_positive_scales_and_shifts():
    pool = MaxPool((3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1))
    [stand_in] = stand_ins(pool)
    x = rng.standard_normal((1, 4, 7, 6))
    assert interpreter.evaluate(stand_in, [x])[0].shape == interpreter.evaluate(pool, [x])[0].shape
    for op in (pool, stand_in):
        np.testing.assert_allclose(interpreter.evaluate(op, [3 * x + 2])[0], 3 * interpreter.evaluate(op, [x])[0] + 2)
    assert (interpreter.evaluate(stand_in, [x])[0] <= interpreter.evaluate(pool, [x])[0]).all()
    assert not stand_ins(MaxPool((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)))


# -- units in the last place -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
def test_rounding_once_is_off_by_half_a_unit_at_most(name):
    floating = Floating.of(name)
    numbers = rng.standard_normal(5000) * 2.0 ** rng.integers(-12, 12, 5000)
    off = floating.distance(floating.round(numbers), numbers, np.zeros(5000), np.abs(numbers))
    assert 0.45 < off <= 0.5


def test_next_number_is_one_unit_away():
    numbers = rng.uniform(1, 1.9, 100).astype(np.float32)
    beside = np.nextafter(numbers, np.float32(2)).astype(np.float64)
    numbers = numbers.astype(np.float64)
    assert Floating.of("float32").distance(beside, numbers, np.zeros(100), numbers) == 1
