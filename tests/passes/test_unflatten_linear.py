import numpy as np
import pytest

from repcompiler.ops import AvgPool, Gated, GlobalAvgPool, Linear, Mul, PRelu, Relu, Reshape, Scale, Sigmoid, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.unflatten_linear import unflatten_linear
from repcompiler.testing import build, check_pass, random_conv, random_linear, random_scale, relu

IMAGE = (None, 6, None, None)
mean, number = GlobalAvgPool(), GlobalAvgPool(dropped=2)
row, image = Reshape((0, 6)), Reshape((0, 6, 1, 1))


def kinds(graph):
    return [str(node.op) for node in graph.topological()]


FLATTENED = {
    "a pooled image as a row": lambda x: row(mean(x)),
    "the same, its size inferred": lambda x: Reshape((0, -1))(mean(x)),
    "a mean without its axes": number,
}


@pytest.mark.parametrize("flattened", FLATTENED.values(), ids=FLATTENED)
def test_layers_between_a_row_and_an_image_are_convolutions(rng, flattened):
    down, up = random_linear(rng, 6, 3), random_linear(rng, 3, 6, bias=False)
    graph = build(lambda x: Mul()(x, image(Sigmoid()(up(Relu()(down(flattened(x))))))), x=IMAGE)
    check_pass(unflatten_linear, graph)
    assert kinds(graph) == ["GlobalAvgPool", "Conv 6->3 1x1", "Relu", "Conv 3->6 1x1", "Sigmoid", "Mul"]


def test_whatever_acts_on_each_number_is_gone_past(rng):
    first, second = random_linear(rng, 6, 6), random_linear(rng, 6, 6)
    scale, slopes = Scale(rng.normal(size=6), rng.normal(size=6)), PRelu(rng.normal(size=6))

    def gate(x):
        hidden = second(Gated("silu")(scale(first(number(x)))))
        return image(slopes(Sum((1, -1))(hidden, row(mean(x)))))

    graph = build(lambda x: Mul()(x, gate(x)), x=IMAGE)
    assert check_pass(unflatten_linear, graph).steps
    assert not any(isinstance(node.op, Reshape) for node in graph.nodes)


@pytest.mark.parametrize("spatial", [1, 3])
def test_images_of_other_rank(rng, spatial):
    ones = (1,) * spatial
    linear, back = random_linear(rng, 6, 6), Reshape((0, 6, *ones))
    graph = build(lambda x: Mul()(x, back(linear(row(mean(x))))), x=(None, 6, *(None,) * spatial))
    check_pass(unflatten_linear, graph)
    assert kinds(graph) == ["GlobalAvgPool", "Conv 6->6 " + "x".join(map(str, ones)), "Mul"]


@pytest.mark.parametrize(("numbers", "axis"), [(6, 1), (6, -1), (1, 1), (1, -1)])
def test_channels_are_scaled_whichever_end_the_axis_is_counted_from(rng, numbers, axis):
    linear, scale = random_linear(rng, 6, 6), random_scale(rng, numbers, axis)
    graph = build(lambda x: Mul()(x, image(scale(linear(number(x))))), x=IMAGE)
    check_pass(unflatten_linear, graph)
    assert kinds(graph) == ["GlobalAvgPool", "Conv 6->6 1x1", "Scale", "Mul"]


def test_a_skip_connection_goes_past_a_gate_of_fully_connected_layers(rng):
    first, second = random_conv(rng, 6, 6, 3, padding=1), random_conv(rng, 6, 6, 3, padding=1)
    down, up = random_linear(rng, 6, 3), random_linear(rng, 3, 6)

    def block(x):
        hidden = second(Relu()(first(x)))
        return relu(Sum((1, 1))(Mul()(hidden, image(Sigmoid()(up(Relu()(down(row(mean(hidden)))))))), x))

    graph = build(block, x=IMAGE)
    check_pass(PASSES, graph)
    assert "Sum" not in {node.op.kind for node in graph.nodes}


REFUSED = {
    "another image": (lambda f, x: Reshape((0, 2, 3, 1))(f(number(x))), "another image than one of a single pixel"),
    "a row of many pixels": (
        lambda f, x: Reshape((0, 6, 1, 1))(Relu()(f(Reshape((0, 6))(x)))),
        "it reads more than the channels of one pixel",
    ),
    "a scale of samples": (
        lambda f, x: image(Scale(np.ones(2), np.arange(2.0), 0)(f(number(x)))),
        "it scales another axis than the channels",
    ),
    "a layer of another axis": (
        lambda f, x: Reshape((0, 2, 1, 1))(
            random_linear(np.random.default_rng(0), 1, 1)(Reshape((0, 2, 1))(AvgPool((3, 5), (1, 1), ((0, 0), (0, 0)), 15)(x)))
        ),
        "the last axis, which is not that of the channels",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_anything_else_stays_with_the_reason(rng, name):
    linear = random_linear(rng, 6, 6)
    block, reason = REFUSED[name]
    shape = {"a row of many pixels": (None, 2, 3, 1), "a layer of another axis": (None, 2, 3, 5)}.get(name, (2, *IMAGE[1:]))
    log = check_pass(unflatten_linear, build(lambda x: relu(block(linear, x)), x=shape))
    assert not log.steps
    assert reason in log.declined[0].reason


def test_a_row_that_is_given_is_no_image(rng):
    linear = random_linear(rng, 6, 6)
    graph = build(lambda x, r: relu(image(Sum((1, 1))(linear(number(x)), r))), x=IMAGE, r=(None, 6))
    log = check_pass(unflatten_linear, graph)
    assert not log.steps
    assert "it reads more than the channels of one pixel" in log.declined[0].reason


def test_a_number_an_image_weighs_all_its_channels(rng):
    gate, linear = random_linear(rng, 6, 1), random_linear(rng, 6, 6)
    graph = build(lambda x: Mul()(x, image(Mul()(linear(number(x)), Sigmoid()(gate(number(x)))))), x=IMAGE)
    check_pass(unflatten_linear, graph)
    assert not any(isinstance(node.op, (Reshape, Linear)) for node in graph.nodes)


def test_rows_of_images_of_different_rank_are_refused(rng):
    linear = random_linear(rng, 6, 6)
    block = lambda x, z: relu(image(Sum((1, 1))(linear(number(x)), GlobalAvgPool(dropped=3)(z))))  # noqa: E731
    log = check_pass(unflatten_linear, build(block, x=IMAGE, z=(None, 6, None, None, None)))
    assert not log.steps
    assert "laid out otherwise than along axis 1" in log.declined[0].reason


def test_a_plain_reshape_of_a_row_is_left_alone():
    log = check_pass(unflatten_linear, build(lambda x: relu(image(Relu()(number(x)))), x=IMAGE))
    assert not log.steps
    assert not log.declined
