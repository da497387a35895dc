"""Slice assignment to channels."""

import operator

import pytest
import torch
from torch import nn

import repcompiler
from repcompiler.frontends.fx import FxDocument


class Block(nn.Module):
    """RMNet's reserving block, in one of the ways it is written."""

    def __init__(self, assign):
        super().__init__()
        self.assign = assign
        self.conv = nn.Conv2d(6, 4, 3, padding=1)
        self.last = nn.Conv2d(6, 6, 3, padding=1)

    def forward(self, x):
        x = torch.relu(x)
        return self.last(torch.relu(self.assign(x, self.conv(x))))


def in_two_parts(make):
    def assign(x, y):
        out = make(x)
        out[:, :2] = x[:, :2]
        out[:, 2:] = y
        return out

    return assign


def over_a_copy(x, y):
    out = x + 0.0
    out[:, 2:] = y
    return out


def overlapping(x, y):
    out = torch.empty_like(x)
    out[:, :3, :] = x[:, 1:4]
    out[:, 2:, :, :] = y
    out[:, -1:] = x[:, :1]
    return out


def read_between(x, y):
    out = torch.zeros_like(x)
    out[:, 2:] = y
    out[:, :2] = out[:, 2:4] + x[:, :2]
    return out


def added_to(x, y):
    out = x * 2.0
    out[:, :4] += y
    return out + x


def calls(result):
    modules = dict(result.named_modules())
    called = [node for node in result.graph.nodes if node.op.startswith("call")]
    return [type(modules[node.target]) if node.op == "call_module" else node.target for node in called]


@pytest.mark.parametrize("assign", [in_two_parts(torch.empty_like), in_two_parts(torch.zeros_like), over_a_copy, overlapping])
def test_assignment_to_channels_is_a_concatenation_and_merges(assign, compiled):
    found = calls(compiled(Block(assign), 6))
    assert found == [torch.relu, nn.Conv2d, torch.relu, nn.Conv2d]


@pytest.mark.parametrize("assign", [read_between, added_to])
def test_what_is_read_between_reads_what_was_assigned_before(assign, compiled):
    assert operator.setitem not in calls(compiled(Block(assign), 6))


def in_place(x, y):
    out = x * 2.0
    out[:, :4].add_(y)
    return out


def copied(x, y):
    out = x * 2.0
    out.narrow(1, 1, 4).copy_(y - x[:, :4])
    return out


def by_a_view(x, y):
    out = (x * 2.0).contiguous()
    part = torch.narrow(out, 1, 2, 4)
    part += y
    return out


def of_a_clone(x, y):
    out = (x * 2.0).clone()
    out[:, 6:] += y[:, 4:]
    out[:, :4] = (out[:, :4] + y).contiguous()
    return out


def of_views_that_are_joined(x, y):
    return torch.cat((x[:, :0], x.narrow(1, 0, 4) - y, x[:, 4:], x[:, 6:]), 1)


@pytest.mark.parametrize("assign", [in_place, copied, by_a_view, of_a_clone, of_views_that_are_joined])
def test_a_write_into_a_view_of_channels_is_an_assignment_to_them(assign, compiled):
    assert calls(compiled(Block(assign), 6)) == [torch.relu, nn.Conv2d, torch.relu, nn.Conv2d]


def of_chosen_channels(x, y):
    """A list of channels makes a copy: nobody sees what is written into it."""
    out = x * 2.0
    part = out[:, [0, 1, 2, 3]]
    part += y
    return out + part.sum()


def of_a_view_that_is_read(x, y):
    out = x * 2.0
    part = out[:, :4]
    part += y
    return torch.cat((out[:, 4:], part), 1)


def of_a_view_of_what_is_shared(x, y):
    out = x.contiguous()
    out[:, :4] += y
    return out + x


@pytest.mark.parametrize("assign", [of_chosen_channels, of_a_view_that_is_read, of_a_view_of_what_is_shared])
def test_a_write_into_what_else_is_read_stays_what_it_is(assign, compiled):
    found = calls(compiled(Block(assign), 6))
    assert operator.iadd in found or operator.add in found


def free(model, x):
    """RMNet's mobile block: 1x1, depthwise and 1x1, and x is added to the first channels alone."""
    y = model.project(torch.relu(model.depthwise(torch.relu(model.expand(x)))))
    y[:, : model.kept] += x[:, : model.kept]
    return y


def between(model, x):
    """The same as it comes out of ONNX: slices and a concatenation."""
    y = model.project(torch.relu(model.depthwise(torch.relu(model.expand(x)))))
    return torch.cat((y[:, :1], y[:, 1:3] - x[:, 2:4], y[:, 3:]), 1)


class Partial(nn.Module):
    def __init__(self, add, kept):
        super().__init__()
        self.add, self.kept = add, kept
        self.stem = nn.Conv2d(3, 6, 1)
        self.expand, self.depthwise = nn.Conv2d(6, 12, 1), nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.project, self.last = nn.Conv2d(12, 6, 1), nn.Conv2d(6, 2, 1)

    def forward(self, x):
        return self.last(self.add(self, self.stem(x)))


@pytest.mark.parametrize(("add", "kept"), [(free, 1), (free, 4), (free, 5), (between, 2)])
def test_a_residual_on_some_channels_is_removed(add, kept, compiled):
    found = calls(compiled(Partial(add, kept), 3))
    assert found == [nn.Conv2d, nn.functional.relu, nn.Conv2d, nn.functional.relu, nn.Conv2d]


def stale(x, y):
    out = x * 2.0
    view = out[:, :2]
    out[:, 2:] = y
    return out + torch.cat((view, view, view), 1)


def of_a_view(x, y):
    out = x[:, :]
    out[:, 2:] = y
    return out + x


def read_before_it_is_assigned(x, y):
    out = x * 2.0
    part = out[:, :2]
    part += x[:, :2]
    z = out * 3.0
    out[:, :2] = part
    return out + z


def written_twice(x, y):
    out = x * 2.0
    y = y * 2.0
    out[:, 2:] = y
    other = y.add_(1.0)
    out[:, :2] = other[:, :2]
    return out


def broadcast(x, y):
    out = x * 2.0
    out[:, 2:] = y[:, :1]
    return out


@pytest.mark.parametrize("assign", [stale, of_a_view, read_before_it_is_assigned, written_twice, broadcast])
def test_what_somebody_could_tell_stays_an_assignment(assign, compiled):
    assert operator.setitem in calls(compiled(Block(assign), 6))


@pytest.fixture
def compiled():
    def run(model, channels):
        torch.manual_seed(0)
        model = model.eval()
        x = torch.randn(2, channels, 7, 5)
        traced = FxDocument.trace(model, x).model
        torch.testing.assert_close(traced(x.clone()), model(x.clone()))  # nothing verifies the functional form later
        report = repcompiler.Report()
        result = repcompiler.compile(model, x, objective="plain", report=report)
        assert report.verification.checked
        torch.testing.assert_close(result(x.clone()), model(x.clone()), rtol=1e-4, atol=1e-4)
        return result

    return run
