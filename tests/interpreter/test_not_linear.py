"""The meaning of activations, maxima and interpolations, against torch in float64."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from repcompiler.interpreter import evaluate
from repcompiler.ops import (
    Clip,
    DepthToSpace,
    GlobalAvgPool,
    MaxPool,
    Mul,
    PRelu,
    Relu,
    Resize,
    Sigmoid,
    Softmax,
    SpaceToDepth,
    Stack,
    Take,
)

ACTIVATIONS = {
    "Relu": (Relu(), F.relu),
    "Clip": (Clip(-0.5, 0.75), lambda x: F.hardtanh(x, -0.5, 0.75)),
    "Clip from below": (Clip(0.2, np.inf), lambda x: x.clamp(min=0.2)),
    "Clip by bounds that cross": (Clip(0.5, -0.5), lambda x: x.clamp(0.5, -0.5)),
    "PRelu, one slope": (PRelu(np.array([0.3])), lambda x: F.leaky_relu(x, 0.3)),
    "PRelu": (PRelu(np.array([0.3, -1.0, 2.0, 0.0])), lambda x: F.prelu(x, torch.tensor([0.3, -1.0, 2.0, 0.0], dtype=x.dtype))),
}


@pytest.mark.parametrize(("op", "function"), ACTIVATIONS.values(), ids=ACTIVATIONS)
def test_activation_is_that_of_torch(op, function, image, assert_means):
    x = image(2)
    assert_means(op, x, function(torch.as_tensor(x)))


@pytest.mark.parametrize(
    ("function", "kernel", "stride", "padding", "dilation"),
    [
        (F.max_pool1d, (3,), (2,), (1,), (1,)),
        (F.max_pool2d, (3, 2), (1, 2), (1, 0), (1, 1)),
        (F.max_pool2d, (2, 3), (2, 1), (0, 0), (3, 2)),
        (F.max_pool3d, (2, 3, 1), (1, 2, 3), (1, 1, 0), (1, 1, 1)),
    ],
)
def test_maximum_is_torch_max_pool(function, kernel, stride, padding, dilation, image, assert_means):
    x = image(len(kernel)) - 3.0  # a padded zero would be the largest
    op = MaxPool(kernel, stride, tuple((side, side) for side in padding), dilation)
    assert_means(op, x, function(torch.as_tensor(x), kernel, stride, padding, dilation))


def test_window_larger_than_the_image_is_an_error(image):
    with pytest.raises(ValueError, match="larger than the image"):
        evaluate(MaxPool((8, 1), (2, 1), ((0, 0), (0, 0)), (1, 1)), [image(2)])


INTERPOLATIONS = {
    "nearest": ("nearest", "asymmetric", "floor", {"mode": "nearest"}),
    "nearest-exact": ("nearest", "half_pixel", "round_prefer_ceil", {"mode": "nearest-exact"}),
    "bilinear": ("linear", "half_pixel", "floor", {"mode": "bilinear", "align_corners": False}),
    "bilinear by corners": ("linear", "align_corners", "floor", {"mode": "bilinear", "align_corners": True}),
}


@pytest.mark.parametrize(
    "size", [{"scales": (2.0, 0.5)}, {"scales": (1.5, 3.25)}, {"scales": (2.5,)}, {"sizes": (5, 1)}, {"sizes": (16,)}], ids=str
)
@pytest.mark.parametrize(("mode", "coordinates", "rounding", "arguments"), INTERPOLATIONS.values(), ids=INTERPOLATIONS)
def test_resize_is_torch_interpolate(mode, coordinates, rounding, arguments, size, image, assert_means):
    x = image(2)
    given = size.get("scales"), size.get("sizes")
    factor, extents = (None if item is None else item if len(item) == 2 else item[0] for item in given)
    expected = F.interpolate(torch.as_tensor(x), size=extents, scale_factor=factor, **arguments)
    assert_means(Resize(mode, coordinates, rounding, **size), x, expected)


@pytest.mark.parametrize("axes", [1, 3])
def test_resize_of_other_ranks_is_torch_interpolate(axes, image, assert_means):
    x, mode = image(axes), {1: "linear", 3: "trilinear"}[axes]
    expected = F.interpolate(torch.as_tensor(x), scale_factor=2, mode=mode, align_corners=False)
    assert_means(Resize("linear", "half_pixel", "floor", scales=(2.0,)), x, expected)


def test_space_to_depth_is_torch_pixel_unshuffle_and_by_pixels_first_what_onnx_specifies(rng, assert_means):
    x = rng.normal(size=(2, 3, 6, 8))
    assert_means(SpaceToDepth(2, "CRD"), x, F.pixel_unshuffle(torch.as_tensor(x), 2))
    specified = x.reshape(2, 3, 3, 2, 4, 2).transpose(0, 3, 5, 1, 2, 4).reshape(2, 12, 3, 4)
    assert_means(SpaceToDepth(2, "DCR"), x, torch.as_tensor(specified))


def test_depth_to_space_is_torch_pixel_shuffle_and_the_inverse_of_space_to_depth(rng, assert_means):
    x = rng.normal(size=(2, 12, 3, 5))
    assert_means(DepthToSpace(2, "CRD"), x, F.pixel_shuffle(torch.as_tensor(x), 2))
    specified = x.reshape(2, 2, 2, 3, 3, 5).transpose(0, 3, 4, 1, 5, 2).reshape(2, 3, 6, 10)
    assert_means(DepthToSpace(2, "DCR"), x, torch.as_tensor(specified))
    for mode in ("CRD", "DCR"):
        assert_means(SpaceToDepth(2, mode), evaluate(DepthToSpace(2, mode), [x])[0], torch.as_tensor(x))


GATES = {
    "Sigmoid": (Sigmoid(), torch.sigmoid),
    "Softmax of channels": (Softmax(1), lambda x: torch.softmax(x, 1)),
    "Softmax of pixels": (Softmax(3), lambda x: torch.softmax(x, 3)),
    "GlobalAvgPool": (GlobalAvgPool(), lambda x: x.mean((2, 3), keepdim=True)),
    "Take": (Take(1, 2, keep=False), lambda x: x[:, 2]),
    "Take, the axis stays": (Take(2, 0, keep=True), lambda x: x[:, :, :1]),
}


@pytest.mark.parametrize(("op", "function"), GATES.values(), ids=GATES)
def test_what_gates_are_made_of_is_that_of_torch(op, function, image, assert_means):
    x = image(2)
    assert_means(op, x, function(torch.as_tensor(x)))


def test_large_numbers_overflow_nowhere():
    [weights] = evaluate(Softmax(1), [np.array([[1e4, -1e4]])])
    [gate] = evaluate(Sigmoid(), [np.array([-1e4, 0.0, 1e4])])
    assert weights.tolist() == [[1.0, 0.0]]
    assert gate.tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("axis", [0, 1, 2, 4])
def test_stack_is_along_a_new_axis(axis, image):
    parts = [image(2), image(2), image(2)]
    [actual] = evaluate(Stack(axis, new=True), parts)
    assert np.array_equal(actual, torch.stack([*map(torch.as_tensor, parts)], axis).numpy())
    assert Stack(axis, new=True).infer_shape([part.shape for part in parts]) == actual.shape


def test_stack_of_single_numbers_is_along_their_axis(image):
    parts = [image(2).mean(axis=2, keepdims=True) for _ in range(2)]
    [actual] = evaluate(Stack(2, new=False), parts)
    assert np.array_equal(actual, np.concatenate(parts, 2))
    assert Stack(2, new=False).infer_shape([part.shape for part in parts]) == actual.shape


def test_product_is_broadcast(image):
    x, gate = image(2), image(2).mean(axis=(2, 3), keepdims=True)
    [actual] = evaluate(Mul(), [gate, x])
    assert np.array_equal(actual, gate * x)
    assert Mul().infer_shape([gate.shape, x.shape]) == x.shape
    assert Mul().infer_shape([None, x.shape]) is None
