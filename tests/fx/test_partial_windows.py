"""Pooling whose number of windows is rounded up (ceil_mode): the plain one, where that adds no window."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import AvgPool, MaxPool, Opaque, Subsample
from repcompiler.ops.base import may_be_partial


@pytest.mark.parametrize("dilation", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_torch_adds_a_window_where_one_that_holds_a_pixel_is_partial(kernel, padding, dilation):
    if padding > kernel // 2:
        pytest.skip("torch wants padding of half a window at most")
    for stride in (1, 2, 3, 4):
        adds = []
        for size in range(max(dilation * (kernel - 1) + 1 - 2 * padding, 1), 32):
            x = torch.zeros(1, 1, size)
            plain, rounded = (F.max_pool1d(x, kernel, stride, padding, dilation, up).shape[-1] for up in (False, True))
            adds.append(rounded > plain)
            assert may_be_partial(size, kernel, stride, (padding, padding), dilation) == adds[-1]
        assert may_be_partial(None, kernel, stride, (padding, padding), dilation) == any(adds)


class Fixed(nn.Module):
    """A model that takes one size of image only."""

    def __init__(self, *layers, pixels):
        super().__init__()
        self.layers, self.head = nn.Sequential(*layers), nn.Linear(pixels, 2, bias=False)

    def forward(self, x):
        return self.head(self.layers(x).flatten(2))


def shortcut():
    """Of ResNet-D (He et al., 2019), as timm writes it."""
    pool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
    return pool, nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6)


def test_where_the_extents_are_known_to_be_even_the_shortcut_is_one_convolution(exactly, calls):
    result, _ = exactly(Fixed(*shortcut(), pixels=12), shape=(2, 4, 8, 6))
    assert calls(result) == "Conv2d flatten Linear"


@pytest.mark.parametrize(("height", "width"), [(7, 6), (8, 5), (1, 1)])
def test_where_a_window_is_partial_it_stays(exactly, calls, height, width):
    result, report = exactly(Fixed(*shortcut(), pixels=-(-height // 2) * -(-width // 2)), shape=(2, 4, height, width))
    assert calls(result).startswith("AvgPool2d Conv2d")
    assert "its windows may be partial (ceil_mode)" in "".join(report.explanation())


def test_where_the_extents_are_not_known_it_stays_and_says_why(exactly, calls):
    result, report = exactly(nn.Sequential(*shortcut()))
    assert calls(result) == "AvgPool2d Conv2d"
    assert "its windows may be partial (ceil_mode)" in "".join(report.explanation())


def lifted(function, size=(9, 7)):
    class Then(nn.Module):
        def __init__(self):
            super().__init__()
            self.pool = function

        def forward(self, x):
            return torch.relu(self.pool(x))

    return type(FxDocument.trace(Then().eval(), torch.randn(2, 4, *size)).lift().topological()[0].op)


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (nn.AvgPool2d(3, 1, ceil_mode=True), AvgPool),
        (lambda x: F.avg_pool2d(x, 2, 2, 1, True), AvgPool),
        (lambda x: F.max_pool2d(x, 2, 2, 1, ceil_mode=True), MaxPool),
        (nn.MaxPool2d(1, 3, ceil_mode=True), Subsample),
        (nn.MaxPool2d(3, 2, 1, ceil_mode=True), Opaque),
        (lambda x: F.avg_pool2d(x, 2, 2, 0, True), Opaque),
    ],
)
def test_at_no_size_is_there_a_partial_window_where_padding_is_as_wide_as_one_can_reach(function, kind):
    assert lifted(function) is kind
