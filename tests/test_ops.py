import numpy as np
import pytest

from repcompiler.ops import (
    AvgPool,
    BatchNorm,
    Constant,
    Conv,
    DepthToSpace,
    DynamicConv,
    MaxPool,
    Opaque,
    Pad,
    PadChannels,
    Resize,
    Scale,
    SpaceToDepth,
    Subsample,
    Sum,
)
from repcompiler.testing import random_batch_norm, random_conv, random_conv_transpose, random_linear, random_scale, relu

SHAPES = [
    (random_conv(np.random.default_rng(0), 4, 8, 3, stride=2, padding=1), ("batch", 4, 7, None), ("batch", 8, 4, None)),
    (random_conv(np.random.default_rng(0), 4, 8, 3), None, (None, 8, None, None)),
    (random_conv_transpose(np.random.default_rng(0), 4, 8, 3, stride=2), (1, 4, 7, "w"), (1, 8, 15, None)),
    (random_linear(np.random.default_rng(0), 4, 8), (None, "tokens", 4), (None, "tokens", 8)),
    (random_linear(np.random.default_rng(0), 4, 8), None, None),
    (random_scale(np.random.default_rng(0), 4), (None, 4, 2), (None, 4, 2)),
    (AvgPool((2, 2), (2, 2), ((0, 0), (1, 0)), 4), (1, 4, 7, 7), (1, 4, 3, 4)),
    (AvgPool((2, 2), (2, 2), ((0, 0), (1, 0)), 4), None, None),
    (Pad(((1, 2), (-3, 0))), (1, 4, 7, 7), (1, 4, 10, 4)),
    (PadChannels(1, 2), (None, 4, 7), (None, 7, 7)),
    (PadChannels(1, 2), (None, None, 7), (None, None, 7)),
    (PadChannels(1, 2), None, None),
    (Subsample((2, 3)), (1, 4, 7, "w"), (1, 4, 4, None)),
    (Subsample((2, 3), (1, 2)), (1, 4, 7, 9), (1, 4, 3, 3)),
    (MaxPool((3, 2), (2, 1), ((1, 1), (0, 0)), (1, 2)), (1, 4, 7, 9), (1, 4, 4, 7)),
    (MaxPool((3, 2), (2, 1), ((1, 1), (0, 0)), (1, 2)), None, None),
    (Resize("nearest", "asymmetric", "floor", scales=(2.0, 1.5)), ("n", 4, 7, 9), ("n", 4, 14, 13)),
    (Resize("nearest", "asymmetric", "floor", scales=(2.0,)), ("n", 4, 7, None), ("n", 4, 14, None)),
    (Resize("linear", "half_pixel", "floor", sizes=(5, 6)), ("n", 4, 7, 9), ("n", 4, 5, 6)),
    (Resize("linear", "half_pixel", "floor", sizes=(5, 6)), None, None),
    (SpaceToDepth(2, "CRD"), ("n", 3, 8, "w"), ("n", 12, 4, None)),
    (SpaceToDepth(2, "DCR"), ("n", None, 8, 6), ("n", None, 4, 3)),
    (SpaceToDepth(2, "DCR"), None, None),
    (DepthToSpace(2, "CRD"), ("n", 12, 4, "w"), ("n", 3, 8, None)),
    (DepthToSpace(3, "DCR"), ("n", None, 4, 3), ("n", None, 12, 9)),
    (DepthToSpace(2, "DCR"), None, None),
    (Constant(np.zeros((2, 3))), None, (2, 3)),
    (relu, (1, 2), None),
]


@pytest.mark.parametrize(("op", "shape", "result"), SHAPES, ids=lambda value: getattr(value, "kind", ""))
def test_shape_of_a_result_is_known_as_far_as_the_operand_says(op, shape, result):
    assert op.infer_shape([shape]) == result


@pytest.mark.parametrize(
    ("shapes", "result"),
    [
        ([(1, 4, 9, 7), (8, 2, 3, 2)], (1, 8, 5, 9)),
        ([("n", 4, 9, None), (8, 2, 3, 2)], ("n", 8, 5, None)),
        ([(1, 4, 9, 7), None], (1, 8, 5, 9)),
        ([None, (8, 2, 3, 2)], (None, 8, None, None)),
    ],
)
def test_shape_of_a_dynamic_conv_follows_from_the_image_whatever_holds_the_kernel(shapes, result):
    conv = DynamicConv((8, 2, 3, 2), np.zeros(8), (2, 1), ((1, 1), (2, 2)), (1, 2), 2)
    assert conv.infer_shape(shapes) == result


def test_shape_of_a_sum_broadcasts_and_is_unknown_where_an_operand_is():
    assert Sum((1, 1)).infer_shape([("n", 4, 1), (1, 4, 7)]) == ("n", 4, 7)
    assert Sum((1, 1)).infer_shape([(4, 1), ("n", 1, 7)]) == ("n", 4, 7)
    assert Sum((1, 1)).infer_shape([("n", 4, None), ("n", "m", 7)]) == ("n", 4, 7)
    assert Sum((1, 1)).infer_shape([("n", 4), ("m", None)]) == (None, 4)  # either may be 1
    assert Sum((1, 1)).infer_shape([(2, 4), None]) is None


def test_channels_of_a_conv_count_all_groups():
    rng = np.random.default_rng(0)
    conv, up = random_conv(rng, 6, 12, (3, 2), groups=3, dilation=(2, 1)), random_conv_transpose(rng, 6, 12, (3, 2), groups=3)
    assert (conv.in_channels, conv.out_channels, conv.kernel_size, conv.extent) == (6, 12, (3, 2), (5, 2))
    assert (up.in_channels, up.out_channels, up.kernel_size) == (6, 12, (3, 2))
    assert (conv.weight.shape, up.weight.shape) == ((12, 2, 3, 2), (6, 4, 3, 2))


def test_axis_that_an_operation_tells_apart():
    rng = np.random.default_rng(0)
    linear, per_channel = random_linear(rng, 4, 8), random_scale(rng, 4, axis=-1)
    assert [linear.channel_axis(rank) for rank in (2, 3, None)] == [1, 2, -1]
    assert [per_channel.channel_axis(rank) for rank in (2, 3, None)] == [1, 2, -1]
    assert [random_scale(rng, 4).channel_axis(rank) for rank in (2, 4, None)] == [1, 1, 1]
    assert random_scale(rng, 1, axis=2).channel_axis(3) is None
    assert BatchNorm(*(np.ones(4) for _ in range(4)), 1e-5).channel_axis(None) == 1
    assert Scale(np.ones(1), np.ones(4)).channels == Scale(np.ones(4), np.ones(1)).channels == 4


def test_operations_are_shown_briefly():
    rng = np.random.default_rng(0)
    shown = {
        "Conv 4->8 3x3 g2": random_conv(rng, 4, 8, 3, groups=2),
        "Linear 4->8": random_linear(rng, 4, 8),
        "Add": Sum((1, 1)),
        "Sub": Sum((1, -1)),
        "Sum[-1, 1]": Sum((-1, 1)),
        "Relu": relu,
        "Pad": Pad(((0, 0),)),
    }
    assert {str(op): op for op in shown.values()} == shown


def test_only_an_operation_with_an_effect_is_impure():
    assert not Opaque("Print", effect=True).pure
    assert Opaque("Relu").pure
    assert Pad(((0, 0),)).pure


def test_operations_with_weights_are_told_apart_by_identity():
    """Comparing arrays would be slow and, on live parameters, meaningless."""
    one, other = (random_conv(np.random.default_rng(0), 4, 4, 1) for _ in range(2))
    assert one != other
    assert isinstance(one, Conv)
    assert len({one, other}) == 2
    assert Pad(((0, 1),)) == Pad(((0, 1),))


def test_numbers_of_channels_tell_how_many_there_are():
    """Runtimes lay out windows by the number of channels, which they would not know behind a reshape to a computed shape."""
    rng, unknown = np.random.default_rng(0), (None,) * 4
    assert random_batch_norm(rng, 6).infer_shape([unknown]) == (None, 6, None, None)
    assert random_scale(rng, 6, axis=-1).infer_shape([unknown]) == (None, None, None, 6)
    assert Scale(np.ones(1), np.ones(1)).infer_shape([unknown]) == unknown
    assert random_batch_norm(rng, 6).infer_shape([None]) is None
