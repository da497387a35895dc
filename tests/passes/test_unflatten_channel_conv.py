from inspect import cleandoc

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from repcompiler.ops import GlobalAvgPool, HardSigmoid, Identity, Mul, Opaque, PRelu, Relu, Reshape, Sigmoid, Transpose
from repcompiler.passes.unflatten_channel_conv import unflatten_channel_conv
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv, relu

IMAGE = (None, 6, None, None)
mean, number = GlobalAvgPool(), GlobalAvgPool(dropped=2)
swap, row, image = Transpose((0, 2, 1)), Reshape((0, 1, 6)), Reshape((0, 6, 1, 1))


def along(rng, kernel=3, channels=1, **attributes):
    return random_conv(rng, channels, channels, (kernel,), padding=attributes.pop("padding", kernel // 2), **attributes)


def kinds(graph):
    return [str(node.op) for node in graph.topological()]


def test_a_convolution_of_the_channels_is_a_pointwise_one_of_the_image(rng):
    conv = along(rng, bias=False)
    graph = build(lambda x: Mul()(x, image(Sigmoid()(conv(row(number(x)))))), x=IMAGE)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 6, ?, ?])
          %globalavgpool1 = GlobalAvgPool(%x) : [?, 6]
          %reshape1 = Reshape(%globalavgpool1) : [?, 1, 6]
          %conv1 = Conv(%reshape1) 1->1 3 padding=1 : [?, 1, 6]
          %sigmoid1 = Sigmoid(%conv1) : [?, 1, 6]
          %reshape2 = Reshape(%sigmoid1) : [?, 6, 1, 1]
          %y = Mul(%x, %reshape2) : [?, 6, ?, ?]
          return %y
    """)
    check_pass(unflatten_channel_conv, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 6, ?, ?])
          %reshape2/1 = GlobalAvgPool(%x) : [?, 6, 1, 1]
          %reshape2/2 = Conv(%reshape2/1) 6->6 1x1 : [?, 6, 1, 1]
          %reshape2 = Sigmoid(%reshape2/2) : [?, 6, 1, 1]
          %y = Mul(%x, %reshape2) : [?, 6, ?, ?]
          return %y
    """)
    a, b, c = conv.weight.reshape(-1)
    band = sum(w * np.eye(6, k=k) for k, w in [(-1, a), (0, b), (1, c)])
    assert np.array_equal(next(node.op.weight for node in graph.nodes if node.op.kind == "Conv")[:, :, 0, 0], band)


WRITTEN = {
    "squeezed and transposed": lambda f, x: Reshape((0, 6, 1, 1))(swap(f(swap(Reshape((0, 6, 1))(mean(x)))))),
    "its number of channels inferred": lambda f, x: Reshape((0, -1, 1, 1))(f(Reshape((0, 1, -1))(number(x)))),
    "back by way of a row": lambda f, x: image(Reshape((0, 6))(f(row(number(x))))),
    "a batch that is inferred": lambda f, x: Reshape((-1, 6, 1, 1))(f(Reshape((-1, 1, 6))(mean(x)))),
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("act", [Identity(), HardSigmoid(1 / 6, 0.5), Relu(), PRelu(np.array([0.2]))], ids=lambda act: act.kind)
def test_however_the_channels_are_put_in_a_row_and_back(rng, written, act):
    conv = along(rng, 5)
    graph = build(lambda x: Mul()(x, written(lambda signal: act(conv(signal)), x)), x=IMAGE)
    check_pass(unflatten_channel_conv, graph)
    assert kinds(graph) == ["GlobalAvgPool", "Conv 6->6 1x1", act.kind, "Mul"]


@pytest.mark.parametrize("spatial", [1, 3])
def test_images_of_other_rank(rng, spatial):
    back = swap if spatial == 1 else Reshape((0, 6, 1, 1, 1))
    forth = swap if spatial == 1 else row
    graph = build(lambda x: Mul()(x, back(along(rng)(forth(mean(x))))), x=(None, 6, *(None,) * spatial))
    check_pass(unflatten_channel_conv, graph)
    assert kinds(graph) == ["GlobalAvgPool", "Conv 6->6 " + "x".join("1" * spatial), "Mul"]


def test_one_after_the_other(rng):
    first, second = along(rng, 4, padding=0), along(rng, 3, padding=1)
    graph = build(lambda x: relu(Reshape((0, 3, 1, 1))(second(Relu()(first(row(mean(x))))))), x=IMAGE)
    check_pass(unflatten_channel_conv, graph)
    assert kinds(graph) == ["GlobalAvgPool", "Conv 6->3 1x1", "Relu", "Conv 3->3 1x1", "Relu"]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_any_convolution_is_a_matrix(data):
    """Whatever of it hangs over the border, and also where nothing but padding is left of the signal."""
    number_of = lambda least, most: data.draw(st.integers(least, most))  # noqa: E731
    channels, kernel, stride, dilation = number_of(1, 7), number_of(1, 5), number_of(1, 3), number_of(1, 3)
    padding = ((number_of(-2, 6), number_of(-2, 6)),)
    whole = channels + sum(padding[0]) - dilation * (kernel - 1)
    assume(whole > 0 and channels + sum(min(p, 0) for p in padding[0]) > 0)
    made = (whole - 1) // stride + 1
    conv = random_conv(np.random.default_rng(0), 1, 1, (kernel,), stride=stride, dilation=dilation, padding=padding)
    forth, back = Reshape((0, 1, channels)), Reshape((0, made, 1, 1))
    graph = build(lambda x: relu(back(conv(forth(number(x))))), x=(None, channels, None, None))
    check_pass(unflatten_channel_conv, graph)
    assert kinds(graph) == ["GlobalAvgPool", f"Conv {channels}->{made} 1x1", "Relu"]


def refused(block, shape=IMAGE):
    log = check_pass(unflatten_channel_conv, build(lambda x: relu(block(x)), x=shape))
    assert not log.steps
    return log.declined[0].reason


def test_more_than_one_channel_of_a_signal_is_refused(rng):
    wide, narrow = random_conv(rng, 1, 2, (1,)), random_conv(rng, 2, 1, (3,), padding=1)
    more = "it mixes more than one channel"
    assert more in refused(lambda x: image(narrow(Relu()(wide(row(mean(x)))))))
    assert more in refused(lambda x: Reshape((0, 6, 1, 1))(along(rng, channels=2)(Reshape((0, 2, 3))(mean(x)))))
    assert more in refused(lambda x: Reshape((0, 6, 1, 1))(along(rng, channels=6)(Reshape((0, 6, 1))(mean(x)))))
    one, pixel = Reshape((0, 1, 1)), Reshape((0, 1, 1, 1))
    assert more in refused(lambda x: pixel(along(rng)(one(random_conv(rng, 1, 1, 1)(mean(x))))), (None, 1, None, None))


def test_an_unknown_number_of_channels_is_refused(rng):
    forth, back = Reshape((0, 1, -1)), Reshape((0, -1, 1, 1))
    assert refused(lambda x: back(along(rng)(forth(mean(x)))), (None,) * 4) == "the number of channels is not known"
    assert "how many numbers they hold is not known" in refused(lambda x: swap(along(rng)(swap(mean(x)))), (None,) * 3)


def test_an_image_of_unknown_rank_is_refused(rng):
    unknown = Opaque("custom", evaluate=lambda arrays: arrays)
    assert refused(lambda x: image(along(rng)(row(mean(unknown(x)))))) == "the rank of the image is not known"


def test_another_image_than_one_of_a_single_pixel_is_refused(rng):
    another = "it makes another image than one of a single pixel"
    assert refused(lambda x: Reshape((0, 2, 3, 1))(along(rng)(row(mean(x))))) == another
    assert refused(lambda x: Reshape((0, 6, 1))(along(rng)(row(mean(x))))) == another


def test_channels_that_change_places_are_refused(rng):
    forth, back = Reshape((0, 2, 3)), Reshape((0, 6, 1, 1))
    places = lambda x: back(along(rng)(row(Transpose((0, 2, 1))(forth(mean(x))))))  # noqa: E731
    assert refused(places) == "it moves channels past each other"
    batch = lambda x: Transpose((0, 2, 1))(along(rng)(Transpose((2, 1, 0))(mean(x))))  # noqa: E731
    assert refused(batch, (6, 1, 4)) == "it moves channels past each other"


def test_a_constant_a_channel_goes_along_where_the_channels_are_on_axis_1(rng):
    conv, slopes = along(rng), PRelu(rng.normal(size=6))
    graph = build(lambda x: Mul()(x, image(slopes(swap(conv(row(slopes(mean(x)))))))), x=IMAGE)
    check_pass(unflatten_channel_conv, graph)
    assert kinds(graph) == ["GlobalAvgPool", "PRelu", "Conv 6->6 1x1", "PRelu", "Mul"]
    halves, slopes = Reshape((0, 2, 3)), PRelu(rng.normal(size=2))
    reason = refused(lambda x: image(along(rng)(row(slopes(halves(mean(x)))))))
    assert reason == "it acts on each channel by itself, and they are laid out otherwise than along axis 1"


def test_a_signal_that_is_no_mean_is_left_alone(rng):
    graph = build(lambda x: relu(image(along(rng)(row(relu(x))))), x=(None, 6, 1, 1))
    log = check_pass(unflatten_channel_conv, graph)
    assert not log.steps
    assert not log.declined


def test_a_reshape_without_a_convolution_of_the_channels_is_left_alone(rng):
    pointwise = random_conv(rng, 6, 6, 1)
    for block in (lambda x: image(Relu()(number(x))), lambda x: row(pointwise(mean(x)))):
        log = check_pass(unflatten_channel_conv, build(lambda x, block=block: relu(block(x)), x=IMAGE))
        assert not log.steps
        assert not log.declined
