"""Writing in place: an equation where nobody can tell, a fence where somebody can."""

import operator

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

import repcompiler
from repcompiler.frontends.fx_memory import analyse


class Net(nn.Module):
    """Two conv-bn pairs and a forward given as a function of the net and its input."""

    def __init__(self, forward):
        super().__init__()
        self.function = forward
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.point, self.point_norm = nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.register_buffer("state", torch.ones(4, 1, 1))

    def forward(self, x):
        return self.function(self, x)

    def wide(self, x):
        return self.norm(self.conv(x))

    def narrow(self, x):
        return self.point_norm(self.point(x))


def residual(net, x):
    out = net.wide(x)
    out += net.narrow(x)
    return F.relu(out, inplace=True)


def method(net, x):
    return net.wide(x).add_(net.narrow(x)).relu_()


def dropout_between(net, x):
    return F.relu(F.dropout(net.wide(x), 0.5, net.training) + net.narrow(x), inplace=True)


def sub_and_scale(net, x):
    out = net.wide(x)
    out -= net.narrow(x)
    out *= 3
    return F.relu(out)


@pytest.mark.parametrize("forward", [residual, method, dropout_between, sub_and_scale])
def test_a_write_that_nobody_can_see_is_an_equation(plain, forward):
    assert plain(Net(forward)).split()[0] == "Conv2d"
    assert len(plain(Net(forward)).split()) == 2


def seen_by_a_reader_before(net, x):
    out = net.wide(x)
    kept = net.narrow(out)
    out += 1
    return kept, out


def seen_by_a_reader_after(net, x):
    out = net.wide(x)
    F.relu_(out)
    return net.narrow(out)


def seen_through_a_view(net, x):
    out = net.wide(x)
    out[:, :2] += 1
    return net.narrow(out) + out


def seen_through_a_module(net, x):
    out = net.wide(x)
    other = F.relu(out, inplace=True)
    return net.narrow(out) + net.narrow(other)


def written_twice(net, x):
    out = net.wide(x)
    early = net.narrow(out)
    out *= 2
    middle = net.narrow(out)
    out += 1
    return early + middle + net.narrow(out)


def input_is_written(net, x):
    y = net.narrow(x)
    x += 1
    return net.wide(x) + y + net.narrow(x)


def slices_are_written(net, x):
    out = net.wide(x)
    out[:, :, :1] = 0.5
    out[:, :, :, -1:] = out[:, :, :, :1]
    return net.narrow(out)


SEEN = [
    seen_by_a_reader_before,
    seen_by_a_reader_after,
    seen_through_a_view,
    seen_through_a_module,
    written_twice,
    input_is_written,
    slices_are_written,
]


@pytest.mark.parametrize("forward", SEEN)
@pytest.mark.parametrize("example", [True, False])
def test_a_write_that_somebody_sees_stays_where_it_is(exactly, forward, example):
    exactly(Net(forward), example=example)


def test_readers_before_a_visible_write_are_fenced_and_readers_after_it_are_free():
    def forward(net, x):
        out = net.conv(x)
        early = net.point(out)
        out += 1
        late = net.point(out)
        return early, late

    region = fx.symbolic_trace(Net(forward).eval())
    early, write, late = (node for node in region.graph.nodes if node.name in ("point", "add", "point_1"))
    write.target = operator.iadd
    fenced = {node.name for node in analyse(region).fenced}
    assert early.name in fenced
    assert late.name not in fenced
    assert {"conv", "add"} <= fenced


def test_a_private_write_fences_nothing():
    region = fx.symbolic_trace(Net(lambda net, x: F.relu(net.wide(x), inplace=True)).eval())
    assert not analyse(region).fenced


def test_a_buffer_that_the_forward_writes_is_no_constant(exactly, calls):
    def forward(net, x):
        net.state.add_(1)
        return net.norm(net.conv(x)) * net.state

    net = Net(forward)
    result, _ = exactly(net, verify=False, tolerance=float("inf"))
    assert "mul" in calls(result).split()
    x = torch.randn(1, 4, 5, 5, dtype=torch.float64)
    first, second = result(x), result(x)
    assert not torch.allclose(first, second)


def test_compiling_does_not_change_what_the_model_remembers(randomise):
    def forward(net, x):
        net.state.add_(1)
        return net.norm(net.conv(x)) * net.state

    net = randomise(Net(forward))
    result = repcompiler.compile(net, torch.randn(1, 4, 5, 5))
    assert torch.equal(net.state, torch.ones(4, 1, 1))
    assert torch.equal(result.state, torch.ones(4, 1, 1))


def test_a_copy_that_is_removed_because_it_changes_nothing_is_made_again_for_a_write(exactly, calls):
    def forward(net, x):
        x = F.relu(net.wide(x))
        copied = F.channel_shuffle(F.channel_shuffle(x, 2), 2)
        return F.relu_(copied.neg_()) + net.narrow(x)

    def same_but_for_the_copy(net, x):
        x = F.relu(net.wide(x))
        copied = F.channel_shuffle(F.channel_shuffle(x, 2), 2)
        return torch.cat([copied.clamp_(max=0.5), net.narrow(x)], 1)

    exactly(Net(forward))
    result, _ = exactly(Net(same_but_for_the_copy))
    assert "channel_shuffle" not in calls(result)
    assert "clone" in calls(result)
