"""The meaning of every operation, against torch in float64."""

from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from repcompiler.interpreter import evaluate, run, trace
from repcompiler.ir import Graph, Value
from repcompiler.ops import (
    AvgPool,
    Constant,
    DynamicConv,
    Identity,
    Opaque,
    Pad,
    PadChannels,
    Scale,
    Subsample,
    Sum,
)
from repcompiler.testing import (
    build,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
    relu,
)


def torch_padding(padding):
    return [amount for pair in reversed(padding) for amount in pair]


CONVS = {
    "1-D": {"kernel_size": (3,)},
    "2-D": {"kernel_size": (3, 2)},
    "3-D": {"kernel_size": (2, 3, 1)},
    "strided": {"kernel_size": 3, "stride": (2, 3)},
    "dilated": {"kernel_size": 3, "dilation": (2, 1)},
    "grouped": {"kernel_size": 3, "groups": 2},
    "depthwise with multiplier": {"kernel_size": 3, "groups": 4, "stride": 2, "padding": 1},
    "asymmetric padding": {"kernel_size": 3, "padding": ((0, 2), (3, 1))},
    "crop": {"kernel_size": 2, "padding": ((-1, 1), (-2, -1)), "stride": 2},
    "no bias": {"kernel_size": 1, "bias": False},
}


@pytest.mark.parametrize("arguments", CONVS.values(), ids=CONVS)
def test_conv_is_torch_conv(rng, arguments, image, assert_means):
    conv = random_conv(rng, 4, 8, **arguments)
    x = image(len(conv.stride))
    function = (F.conv1d, F.conv2d, F.conv3d)[len(conv.stride) - 1]
    padded = F.pad(torch.tensor(x), torch_padding(conv.padding))
    weight, bias = torch.tensor(conv.weight), torch.tensor(conv.bias)
    assert_means(conv, x, function(padded, weight, bias, conv.stride, 0, conv.dilation, conv.groups))


def test_dynamic_conv_is_torch_conv_with_the_kernel_that_is_given(rng, image):
    conv, x = DynamicConv((8, 2, 3, 2), rng.normal(size=8), (2, 1), ((1, 1), (2, 2)), (1, 2), 2), image(2)
    weight = rng.normal(size=(8, 2, 3, 2))
    expected = F.conv2d(*map(torch.tensor, (x, weight, conv.bias)), (2, 1), (1, 2), (1, 2), 2)
    assert np.allclose(evaluate(conv, [x, weight])[0], expected.numpy(), rtol=0, atol=1e-12)


def test_each_sample_may_have_a_kernel_of_its_own(rng, image):
    conv, x = DynamicConv((8, 2, 3, 2), rng.normal(size=8), (2, 1), ((1, 1), (2, 2)), (1, 2), 2, each=True), image(2)
    weights = rng.normal(size=(2, 96))
    samples = zip(*map(torch.tensor, (x, weights.reshape(2, 8, 2, 3, 2))), strict=True)
    expected = [
        F.conv2d(sample[None], kernel, torch.tensor(conv.bias), (2, 1), (1, 2), (1, 2), 2) for sample, kernel in samples
    ]
    assert np.allclose(evaluate(conv, [x, weights])[0], torch.cat(expected).numpy(), rtol=0, atol=1e-12)


TRANSPOSED = {
    "1-D": {"kernel_size": (3,), "stride": 2},
    "2-D": {"kernel_size": (3, 2), "padding": 1},
    "3-D": {"kernel_size": (2, 3, 1), "stride": (1, 2, 3), "output_padding": (0, 1, 2)},
    "grouped": {"kernel_size": 3, "groups": 2, "stride": 2, "padding": 1},
    "depthwise with multiplier": {"kernel_size": 2, "groups": 4, "stride": 2},
    "dilated": {
        "kernel_size": 3,
        "dilation": (2, 3),
        "stride": (3, 1),
        "output_padding": (1, 2),
        "padding": (1, 2),
        "groups": 2,
    },
    "no bias": {"kernel_size": 4, "stride": 2, "padding": 1, "bias": False},
}


@pytest.mark.parametrize("arguments", TRANSPOSED.values(), ids=TRANSPOSED)
def test_transposed_conv_is_torch_conv_transpose(rng, arguments, image, assert_means):
    conv = random_conv_transpose(rng, 4, 8, **arguments)
    x = image(len(conv.stride))
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(conv.stride) - 1]
    padding = [before for before, _ in conv.padding]
    weight, bias = torch.tensor(conv.weight), torch.tensor(conv.bias)
    expected = function(torch.tensor(x), weight, bias, conv.stride, padding, conv.output_padding, conv.groups, conv.dilation)
    assert_means(conv, x, expected)


def test_transposed_conv_may_crop_its_two_sides_differently(rng, image, assert_means):
    conv = random_conv_transpose(rng, 4, 4, 3, stride=2, padding=((0, 1), (2, 0)))
    x = image(2)
    full = F.conv_transpose2d(torch.tensor(x), torch.tensor(conv.weight), torch.tensor(conv.bias), 2)
    assert_means(conv, x, full[:, :, :-1, 2:])


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 5), (2, 3, 4, 5)], ids=str)
def test_linear_is_torch_linear_on_the_last_axis(rng, shape, assert_means):
    linear = random_linear(rng, 5, 3)
    x = rng.normal(size=shape)
    assert_means(linear, x, F.linear(torch.tensor(x), torch.tensor(linear.weight), torch.tensor(linear.bias)))


@pytest.mark.parametrize("axes", [0, 1, 2, 3])
def test_batch_norm_is_torch_batch_norm_in_eval_mode(rng, axes, image, assert_means):
    norm = random_batch_norm(rng, 4, eps=1e-3)
    x = image(axes)
    mean, var, gamma, beta = (torch.tensor(array) for array in (norm.mean, norm.var, norm.gamma, norm.beta))
    assert_means(norm, x, F.batch_norm(torch.tensor(x), mean, var, gamma, beta, eps=1e-3))


POOLS = {
    "1-D": (F.avg_pool1d, {"kernel_size": (3,), "stride": (2,), "padding": (1,)}),
    "2-D": (F.avg_pool2d, {"kernel_size": (2, 3), "stride": (2, 1), "padding": (1, 1)}),
    "3-D": (F.avg_pool3d, {"kernel_size": (2, 3, 1), "stride": (1, 2, 2), "padding": (0, 1, 0)}),
}


@pytest.mark.parametrize(("function", "arguments"), POOLS.values(), ids=POOLS)
@pytest.mark.parametrize("divisor", [None, 5])
def test_average_pool_is_torch_avg_pool_with_padding_counted(function, arguments, divisor, image, assert_means):
    kernel, padding = arguments["kernel_size"], tuple((amount, amount) for amount in arguments["padding"])
    pool = AvgPool(kernel, arguments["stride"], padding, divisor or int(np.prod(kernel)))
    x = image(len(kernel))
    if divisor and len(kernel) > 1:
        function = partial(function, divisor_override=divisor)
    expected = function(torch.tensor(x), **arguments, count_include_pad=True)
    assert_means(pool, x, expected * 3 / 5 if divisor and len(kernel) == 1 else expected)


@pytest.mark.parametrize("padding", [((1, 2),), ((0, -2), (-3, 1)), ((-1, -1), (0, 2), (-2, 0))], ids=str)
def test_pad_is_torch_pad_and_crops_where_negative(padding, image, assert_means):
    x = image(len(padding))
    assert_means(Pad(padding), x, F.pad(torch.tensor(x), torch_padding(padding)))


def test_channels_of_zeros_are_as_torch_pads_them(image, assert_means):
    x = image(2)
    assert_means(PadChannels(1, 2), x, F.pad(torch.tensor(x), (0, 0, 0, 0, 1, 2)))


def test_crop_larger_than_the_image_is_an_error(image):
    with pytest.raises(ValueError, match="cannot crop"):
        evaluate(Pad(((-4, -4), (0, 0))), [image(2)])


def test_subsample_is_a_strided_slice(image, assert_means):
    x = image(3)
    assert_means(Subsample((2, 1, 4)), x, torch.tensor(x)[:, :, ::2, :, ::4])


def test_subsample_may_begin_behind_the_first_pixel(image, assert_means):
    x = image(2)
    assert_means(Subsample((2, 3), (1, 2)), x, torch.as_tensor(x[:, :, 1::2, 2::3].copy()))


def test_scale_acts_on_its_axis_or_on_everything(rng, image, assert_means):
    x = image(2)
    for axis, shape in ((1, (4, 1, 1)), (2, (7, 1)), (3, (10,)), (-1, (10,)), (-3, (4, 1, 1))):
        scale = random_scale(rng, shape[0], axis)
        assert_means(scale, x, torch.tensor(x * scale.scale.reshape(shape) + scale.shift.reshape(shape)))
    whole = random_scale(rng, 1)
    assert_means(whole, x, torch.tensor(x * whole.scale[0] + whole.shift[0]))
    shifted = Scale(np.array([2.0]), rng.normal(size=4))
    assert_means(shifted, x, torch.tensor(2 * x + shifted.shift.reshape(4, 1, 1)))


def test_sum_is_signed_and_broadcasts(rng, image):
    x, y, z = image(2), rng.normal(size=(1, 4, 1, 1)), rng.normal(size=(2, 1, 7, 10))
    [total] = evaluate(Sum((1, -1, 1)), [x, y, z])
    assert np.allclose(total, x - y + z, rtol=0, atol=1e-15)
    assert Sum((1, -1, 1)).infer_shape([(None, 4, 7, 10), y.shape, (2, 1, None, 10)]) == (2, 4, 7, 10)


def test_identity_and_constant(image, assert_means):
    x = image(1)
    assert_means(Identity(), x, torch.tensor(x))
    [array] = evaluate(Constant(x.astype(np.float32)), [])
    assert array.dtype == np.float64
    assert np.array_equal(array, x.astype(np.float32))


def test_opaque_operation_is_evaluated_by_its_document(image):
    split = Opaque("Split", lambda arrays: [arrays[0][:, :1], arrays[0][:, 1:]])
    first, second = evaluate(split, [image(1)])
    assert (first.shape, second.shape) == ((2, 1, 7), (2, 3, 7))
    with pytest.raises(ValueError, match="NonMaxSuppression cannot be evaluated here"):
        evaluate(Opaque("NonMaxSuppression"), [])


def test_arithmetic_is_in_float64_and_integers_stay_integers(rng, image):
    conv = random_conv(rng, 4, 4, 3)
    graph = build(lambda x: conv(x), x=(None, 4, None, None))
    half = image(2).astype(np.float16)
    [result] = run(graph, {graph.inputs[0]: half}).values()
    assert result.dtype == np.float64
    assert np.array_equal(result, evaluate(conv, [half.astype(np.float64)])[0])
    shape = Opaque("Shape", lambda arrays: [np.array(arrays[0].shape)])
    assert evaluate(shape, [half])[0].dtype == np.int64


def test_run_returns_the_outputs_or_whatever_is_wanted(rng):
    graph = build(lambda x: {"y": relu(relu(x)), "x": x}, x=(None, 4))
    [x] = graph.inputs
    array = rng.normal(size=(2, 4))
    assert {value.name for value in run(graph, {x: array})} == {"y", "x"}
    middle = graph.topological()[0].output
    [wanted] = run(graph, {x: array}, [middle]).values()
    assert np.array_equal(wanted, np.maximum(array, 0))


def test_missing_input_is_named():
    graph = build(lambda x, z: Sum((1, 1))(x, z), x=(None, 4), z=(None, 4))
    with pytest.raises(ValueError, match="no array was given for 'z'"):
        run(graph, {graph.inputs[0]: np.zeros((1, 4))})


def test_parameters_are_read_where_they_are_used():
    weight = Value("weight", (4,), constant=lambda: np.full(4, 2.0, np.float32))
    graph = build(lambda x: Sum((1, 1))(x, weight), x=(None, 4))
    graph.outputs.append(weight)
    outputs = run(graph, {graph.inputs[0]: np.ones((1, 4))})
    assert [(value.name, array.tolist()) for value, array in outputs.items()] == [("y", [[3.0] * 4]), ("weight", [2.0] * 4)]


def test_trace_visits_every_value_in_order_and_keeps_only_what_is_still_read():
    seen = []

    def note(array):
        seen.append(array)
        return array + 1

    count = Opaque("Note", lambda arrays: [note(*arrays)])
    graph = build(lambda x: count(count(count(x))), x=(None, 4))
    names = [value.name for value, _ in trace(graph, {graph.inputs[0]: np.zeros((1, 4))})]
    assert names == ["x", "note1", "note2", "y"]
    assert [array[0, 0] for array in seen] == [0, 1, 2]


def test_deep_graph_is_evaluated_without_recursion():
    graph = Graph()
    value = Value("x", (None, 1))
    graph.inputs.append(value)
    increment = Scale(np.ones(1), np.ones(1))
    for index in range(20_000):
        value, before = Value(f"v{index}", (None, 1)), value
        graph.add(increment, [before], [value])
    graph.outputs.append(value)
    [result] = run(graph, {graph.inputs[0]: np.zeros((1, 1))}).values()
    assert result.item() == 20_000


def test_numbers_that_overflow_are_infinite_and_no_warning():
    op = Scale(np.full(1, 1e200), np.zeros(1))
    [once] = evaluate(op, [np.full((1, 1), 1e200)])
    [twice] = evaluate(Scale(np.zeros(1), np.zeros(1)), [once])
    assert np.isinf(once)
    assert np.isnan(twice)
