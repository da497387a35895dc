"""Reshapes and transpositions with sizes read from tensors, and the channel shuffles that are made of them."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import Reshape, Transpose


class Net(nn.Module):
    """A function of two networks and the input, between convolutions of 6 channels."""

    def __init__(self, function):
        super().__init__()
        self.function = function
        self.before, self.norm = nn.Conv2d(4, 6, 1, bias=False), nn.BatchNorm2d(6)
        self.after = nn.Conv2d(6, 4, 1)

    def forward(self, x):
        return self.after(self.function(self.norm(self.before(x))))


def torchvisions(x, groups=3):
    batch, channels, height, width = x.size()
    x = x.view(batch, groups, channels // groups, height, width)
    return torch.transpose(x, 1, 2).contiguous().view(batch, channels, height, width)


def from_shape(x):
    b, c, h, w = x.shape
    return x.reshape((b, 2, c // 2, h, w)).permute(0, 2, 1, 3, 4).reshape(b, -1, h, w)


def inferred(x):
    x_size = x.size()
    y = x.view(x.size(0), 2, -1, x.size(2), x.size(3)).transpose(2, 1).contiguous()
    return y.view(x_size)


def sizes_of_the_grid(x):
    y = x.view(-1, 2, 3, x.shape[-2], x.shape[-1]).swapaxes(-3, -4)
    return y.flatten(1, 2)


def of_data(x):
    """ShuffleNetV2's authors."""
    batch, channels, height, width = x.data.size()
    y = x.view(batch, 2, channels // 2, height, width)
    return torch.transpose(y, 1, 2).contiguous().view(batch, -1, height, width)


def detached(x):
    sizes = x.detach().size()
    return x.reshape(sizes[0], 2, 3, sizes[2], sizes[3]).transpose(1, 2).reshape(x.detach().size())


def function(x):
    return F.channel_shuffle(x, 3)


def unflattened(x):
    return x.unflatten(1, (2, 3)).transpose(1, 2).flatten(1, 2)


def unflattened_by_one(x):
    return torch.unflatten(x, dim=-3, sizes=(-1, 2)).transpose(1, 2).flatten(1, 2)


def unflattened_by_a_module(x):
    return nn.Unflatten(1, (3, 2))(x).transpose(1, 2).reshape(x.shape)


GRIDS = [torchvisions, from_shape, inferred, sizes_of_the_grid, unflattened, unflattened_by_one, unflattened_by_a_module]
GRIDS += [of_data, detached]
SHUFFLES = [*GRIDS, function, nn.ChannelShuffle(2)]


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_a_channel_shuffle_however_written_disappears_between_convolutions(plain, shuffle):
    assert plain(Net(shuffle)) == "Conv2d"


@pytest.mark.parametrize("shuffle", GRIDS)
def test_a_shuffle_alone_is_one_selection_that_no_size_is_read_for(plain, shuffle):
    class Alone(nn.Module):
        def forward(self, x):
            return F.relu(shuffle(F.relu(x)))

    assert plain(Alone(), channels=6) == "relu index_select relu"


@pytest.mark.filterwarnings("ignore")
def test_an_exported_shuffle_disappears_too(exactly, calls):
    net = Net(torchvisions).double().eval()
    x = torch.randn(2, 4, 13, 18, dtype=torch.float64)
    free = torch.export.Dim.DYNAMIC
    program = torch.export.export(net, (x,), dynamic_shapes=({2: free, 3: free},))
    result = repcompiler.compile(program.module(), x, objective="plain")
    assert "transpose" not in calls(result)
    other = torch.randn(2, 4, 5, 9, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(result(other), net(other))


def rows_and_columns_exchanged(x):
    b, c, h, w = x.size()
    return x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, w, h)


def pixels_exchanged(x):
    b, c, h, w = x.size()
    return x.view(b, 2, c // 2, h, w).transpose(3, 4).contiguous().view(b, c, h, w)


def batch_mixed_in(x):
    b, c, h, w = x.size()
    return x.reshape(2, b * c // 2, h, w).transpose(0, 1).reshape(b, c, h, w)


def grid_of_pixels(x):
    b, c, h, w = x.size()
    return x.reshape(b, c, w, h).transpose(2, 3).reshape(b, c, h, w)


def three_parts(x):
    b, c, h, w = x.size()
    return x.view(b, 2, c // 2, h, w).permute(0, 2, 1, 4, 3).transpose(3, 4).reshape(b, c, h, w)


NO_SHUFFLES = [rows_and_columns_exchanged, pixels_exchanged, batch_mixed_in, grid_of_pixels]


@pytest.mark.parametrize("function", NO_SHUFFLES)
@pytest.mark.parametrize("example", [True, False])
def test_what_moves_pixels_or_samples_too_is_no_shuffle(exactly, function, example):
    _, report = exactly(Net(function), example=example)
    assert not report.counts().get("recognise_channel_shuffle")


def test_a_write_into_what_is_shuffled_keeps_the_shuffle_where_it_is(exactly):
    def forward(x):
        shuffled = torchvisions(x)
        x[:, :1] += 1
        return shuffled + x

    _, report = exactly(Net(forward))
    assert not report.counts().get("recognise_channel_shuffle")


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.flatten(2).transpose(1, 2).contiguous().view(x.size(0), -1).view(x.shape),
        lambda x: x.flatten(2).permute(0, 2, 1).contiguous().view(x.size()),
        lambda x: x.transpose(1, 2).reshape_as(x),
        lambda x: torch.reshape(x, (x.size(0), -1)).reshape(-1, 6, x.size(2), x.size(3)),
        lambda x: torch.flatten(x, 1).view(x.size(0), 6, x.size(2), -1),
    ],
)
def test_other_reshapes_stay_what_they_are(exactly, function):
    exactly(Net(function))


def test_sizes_that_are_known_or_stay_in_place_are_read(randomise):
    class Sizes(nn.Module):
        def forward(self, x):
            b, c, h, w = x.shape
            grid = x.view(b, 2, c // 2, h, w)
            rows = grid.permute(0, 3, 1, 2, 4)
            return rows, x.view(b, c, h * w), torch.flatten(x, 1), x.view(h, w, b, c), torch.flatten(x, 0, 1)

    graph = FxDocument.trace(Sizes().eval(), torch.randn(2, 6, 7, 5)).lift()
    ops = {node.output.name: node.op for node in graph.nodes if isinstance(node.op, (Reshape, Transpose))}
    assert ops == {
        "view": Reshape((0, 2, 3), tail=2),
        "permute": Transpose((0, 3, 1, 2, 4)),
        "view_1": Reshape((0, 6, -1)),
        "flatten": Reshape((0, -1)),
        "flatten_1": Reshape((-1,), tail=2),
    }


def test_a_view_of_what_now_lies_in_another_order_of_memory_is_a_reshape(exactly, calls):
    class Flat(nn.Module):
        def forward(self, x):
            batch = x.size(0)
            return F.relu(x.transpose(1, 2).contiguous().view(batch, -1)) + batch

    result, _ = exactly(Flat())
    assert calls(result).split() == ["size", "transpose", "reshape", "relu", "add"]


def test_a_shape_that_something_else_reads_too_is_still_read(exactly, calls):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)

        def forward(self, x):
            x = self.conv(x)
            batch = x.size(0)
            return self.norm(x).view(batch, -1) * batch

    result, _ = exactly(Shared())
    assert "BatchNorm2d" in calls(result)


def test_an_order_of_memory_that_somebody_may_ask_for_stays(exactly, calls):
    class Asks(nn.Module):
        def forward(self, x):
            x = x.transpose(1, 2).contiguous()
            return F.relu(x.view(x.size(0), -1)) + x.stride(1)

    result, _ = exactly(Asks())
    assert "contiguous" in calls(result)


def test_shape_that_is_computed_as_a_whole_is_no_single_size(exactly):
    class Whole(nn.Module):
        """The sizes are one argument, of which the graph does not say how many they are."""

        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.conv(x)
            swapped = x.shape[3], x.shape[2]
            return self.norm(x.reshape(x.shape[:2] + swapped))

    _, report = exactly(Whole())
    assert not report.steps


def test_one_size_that_is_computed_is_what_is_left(randomise):
    class Joined(nn.Module):
        def forward(self, x):
            b, c, h, w = x.shape
            return x.reshape(1, b * c, h, w), x.reshape(b * h, c * w)

    graph = FxDocument.trace(Joined().eval(), torch.randn(2, 6, 7, 5)).lift()
    ops = {node.output.name: node.op for node in graph.nodes if isinstance(node.op, Reshape)}
    assert ops == {"reshape": Reshape((1, -1), tail=2)}
