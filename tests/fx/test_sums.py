"""Sums and means of what torch.stack laid side by side."""

import operator

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch_blocks import pair

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import GlobalAvgPool, Identity, Opaque, Scale, Stack, Sum


class Joined(nn.Module):
    """Three branches, joined by a function."""

    def __init__(self, join):
        super().__init__()
        self.wide, self.narrow, self.join = pair(k=3), pair(k=1), join

    def forward(self, x):
        return self.join(self.wide(x), self.narrow(x), x)


SUMS = {
    "stack and sum": lambda *xs: torch.stack(xs).sum(0),
    "of a list": lambda a, b, x: torch.stack([a, b, x], 0).sum(0),
    "torch.sum": lambda *xs: torch.sum(torch.stack(xs, dim=1), dim=1),
    "the last axis": lambda *xs: torch.stack(xs, -1).sum(-1),
    "the last axis by its number": lambda *xs: torch.stack(xs, -1).sum(4),
    "all by keyword": lambda *xs: torch.sum(input=torch.stack(tensors=xs, dim=2), dim=-3, keepdim=False),
    "numpy's keywords": lambda *xs: torch.stack(xs, axis=3).sum(axis=3, keepdims=False),
    "a list of one axis": lambda *xs: torch.stack(xs).sum([0]),
    "a tuple of one axis": lambda *xs: torch.stack(xs).sum((-5,)),
    "mean": lambda *xs: torch.stack(xs).mean(dim=0),
    "torch.mean": lambda *xs: torch.mean(torch.stack(xs, 1), 1),
    "mean of pixels of pixels": lambda *xs: torch.stack(xs, -1).mean((-1,)),
    "one value twice": lambda a, b, x: torch.stack([a, a, b]).mean(0) + x,
    "the input twice": lambda a, b, x: torch.stack([x, x]).sum(0) + a - b,
    "a stack of one": lambda a, b, x: torch.stack([a]).sum(0) + b + x,
    "its mean": lambda a, b, x: torch.stack([a]).mean(0) + b + x,
    "new axes side by side": lambda a, b, x: torch.cat([a.unsqueeze(1), b.unsqueeze(1), x.unsqueeze(1)], 1).sum(1),
    "before the batch": lambda a, b, x: torch.cat((a[None], b[None], x.unsqueeze(0)), dim=0).mean(dim=0),
    "behind the image": lambda a, b, x: torch.mean(torch.cat([a[..., None], b.unsqueeze(-1), x.unsqueeze(4)], -1), -1),
    "among the pixels": lambda a, b, x: torch.cat([a.unsqueeze(3), b[:, :, :, None], x.unsqueeze(-2)], 3).sum(-2),
    "new axes by view": lambda *xs: torch.cat([x.view(x.size(0), 1, 4, x.size(2), x.size(3)) for x in xs], 1).sum(1),
    "stacks of stacks": lambda a, b, x: torch.stack([torch.stack([a, b]).mean(0), torch.stack([x, a], 1).sum(1)]).sum(0),
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", SUMS)
def test_branches_that_are_stacked_to_be_reduced_are_one_convolution(plain, name, example):
    assert plain(Joined(SUMS[name]), example=example) == "Conv2d"


def test_so_they_are_by_default_and_every_rewrite_is_certified(randomise, calls):
    block, x, report = randomise(Joined(SUMS["mean"])), torch.randn(2, 4, 9, 7), repcompiler.Report()
    result = repcompiler.compile(block, x, report=report)
    assert calls(result) == "Conv2d"
    assert report.verification.checked
    assert not report.reverted
    assert report.certificates() == {"correctly rounded": len(report.steps)}
    torch.testing.assert_close(result(x), block(x))


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ["stack and sum", "torch.mean", "numpy's keywords"])
def test_so_they_are_in_a_program_of_torch_export(randomise, calls, same, name):
    block, x = randomise(Joined(SUMS[name])).double(), torch.randn(2, 4, 9, 7, dtype=torch.float64)
    result = repcompiler.compile(torch.export.export(block, (x,)).module(), x, objective="plain")
    assert calls(result).split()[-1] == "Conv2d"
    assert "stack" not in calls(result)
    same(block(x), result(x))


@pytest.mark.parametrize("spatial", [1, 3])
def test_so_they_are_whatever_the_rank(plain, spatial):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide, self.narrow = (getattr(nn, f"Conv{spatial}d")(4, 4, k, padding=k // 2) for k in (3, 1))

        def forward(self, x):
            return torch.stack([self.wide(x), self.narrow(x), x], dim=1).mean(dim=1)

    assert plain(Block(), spatial=spatial) == f"Conv{spatial}d"


def test_so_are_layers_of_vectors(plain):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 5) for _ in range(3))

        def forward(self, x):
            return torch.stack([layer(x) for layer in self.layers], -1).mean(-1)

    assert plain(Block(), shape=(3, 4)) == "Linear"


def lifted(join, dtype=torch.float32):
    graph = FxDocument.trace(Joined(join).eval().to(dtype), torch.randn(2, 4, 12, 10, dtype=dtype)).lift()
    return graph.outputs[0].producer


def test_a_mean_is_a_sum_and_a_scale_that_are_one_call():
    scale = lifted(SUMS["mean"])
    (addition,) = scale.parts
    assert isinstance(scale.op, Scale)
    assert scale.op.scale == pytest.approx(1 / 3)
    assert addition.op == Sum((1, 1, 1))
    assert addition.origin is None
    assert [node.op for node in scale.implied] == [Stack(0, new=True)]


def test_a_stack_of_one_is_the_value_itself():
    assert lifted(lambda a, b, x: torch.stack([a]).sum(0)).op == Identity()


def test_a_mean_over_the_pixels_of_a_stack_is_that():
    assert lifted(lambda *xs: torch.stack(xs, 1).flatten(1, 2).mean((2, 3))).op == GlobalAvgPool(dropped=2)


LEFT = {
    "the axis stays": lambda *xs: torch.stack(xs).sum(0, keepdim=True),
    "the axis of a mean stays": lambda *xs: torch.stack(xs).mean(0, keepdim=True),
    "another axis": lambda *xs: torch.stack(xs).sum(1),
    "two axes": lambda *xs: torch.stack(xs).sum((0, 1)),
    "all axes": lambda *xs: torch.stack(xs).sum(),
    "all axes of a mean": lambda *xs: torch.stack(xs).mean(),
    "another type": lambda *xs: torch.stack(xs).sum(0, dtype=torch.float64),
    "an axis they had": lambda a, b, x: torch.cat([a[:, :1], b[:, :1]], 1).sum(1),
    "another new axis": lambda *xs: torch.cat([x.unsqueeze(1) for x in xs], 2).sum(2),
    "a new axis that is not summed": lambda *xs: torch.cat([x.unsqueeze(1) for x in xs], 1).sum(2),
    "no stack": lambda a, b, x: torch.cat([a, b], 1).sum(1),
    "a constant": lambda a, b, x: torch.stack([torch.ones(2, 4, 12, 10), torch.ones(2, 4, 12, 10) * a]).sum(0),
    "integers": lambda *xs: torch.stack([x.long() for x in xs]).sum(0),
    "truth values": lambda *xs: torch.stack([x > 0 for x in xs]).sum(0),
    "the largest": lambda *xs: torch.stack(xs).amax(0),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_no_sum_of_them_is_left_alone(name):
    assert isinstance(lifted(LEFT[name]).op, Opaque)


@pytest.mark.parametrize("name", [name for name in LEFT if name not in ("a constant", "integers", "truth values")])
def test_what_is_left_alone_computes_what_it_did(exactly, calls, name):
    result, _ = exactly(Joined(LEFT[name]))
    assert calls(result).split()[-1] in ("sum", "mean", "amax")


def test_where_nothing_merges_it_stays_as_it_was_written(exactly, calls):
    result, _ = exactly(Joined(lambda a, b, x: torch.stack([F.elu(a), F.gelu(b)]).sum(0)), objective="latency")
    assert calls(result) == "Conv2d Conv2d elu gelu stack sum"


def test_the_factor_of_a_mean_goes_on_without_its_sum(exactly, calls):
    class Block(Joined):
        def __init__(self):
            super().__init__(lambda a, b, x: torch.stack([F.elu(a), F.gelu(b)]).mean(0))
            self.last = nn.Conv2d(4, 6, 3)

        def forward(self, x):
            return self.last(super().forward(x))

    result, _ = exactly(Block())
    assert calls(result) == "Conv2d Conv2d elu gelu add Conv2d"


OTHERS = {
    "a number of the stack": lambda s: s.sum(0) + s[1],
    "an output": lambda s: (s.sum(0), F.elu(s)),
    "the stack itself": lambda s: (s.mean(0), s),
    "a sum over another axis": lambda s: (s.sum(0), s.sum(1)),
    "its extents": lambda s: s.sum(0) * s.size(0),
    "a gate": lambda s: (s * torch.softmax(s.sum(0), 1)).sum(0),
}


@pytest.mark.parametrize("objective", ["plain", "latency"])
@pytest.mark.parametrize("name", OTHERS)
def test_a_stack_that_something_else_reads_is_still_what_it_was(exactly, name, objective):
    exactly(Joined(lambda *xs: OTHERS[name](torch.stack(xs))), objective=objective)


def test_a_stack_whose_extents_alone_are_read_does_not_keep_its_branches(plain):
    assert plain(Joined(lambda *xs: (lambda s: s.sum(0) / s.size(0))(torch.stack(xs)))) == "Conv2d"


def written(change):
    """A stack, something that changes memory, and then the sum."""

    def join(*xs):
        stack = torch.stack(xs)
        change(stack, *xs)
        return stack.sum(0) + xs[0]

    return join


WRITES = {
    "a branch": lambda s, a, b, x: a.mul_(2),
    "the stack": lambda s, a, b, x: s.mul_(2),
    "the stack by a function": lambda s, a, b, x: F.relu_(s),
    "a part of the stack": lambda s, a, b, x: s[0].zero_(),
    "a view of a branch": lambda s, a, b, x: a.view(-1).add_(1),
}


WRITES_BETWEEN = {
    "a branch with a new axis": lambda a, b, x: (a.unsqueeze(1), b.mul_(2).unsqueeze(1), a.add_(1)),
    "before it has one": lambda a, b, x: (a.mul_(3).unsqueeze(1), b.unsqueeze(1), x),
    "through the new axis": lambda a, b, x: (a.unsqueeze(1).mul_(2), b.unsqueeze(1), a),
}


@pytest.mark.parametrize("name", WRITES_BETWEEN)
def test_what_is_written_before_they_lie_side_by_side_counts(exactly, name):
    def join(*xs):
        one, other, more = WRITES_BETWEEN[name](*xs)
        return torch.cat([one, other], 1).sum(1) + more

    exactly(Joined(join))


@pytest.mark.parametrize("name", WRITES)
def test_what_is_written_between_the_stack_and_its_sum_counts(exactly, name):
    exactly(Joined(written(WRITES[name])))


def test_the_sum_may_be_written_into(exactly, calls):
    result, _ = exactly(Joined(lambda *xs: torch.stack(xs).mean(0).add_(1).relu_()))
    assert calls(result) == "Conv2d relu_"


def test_a_stack_of_one_may_be_written_into_where_its_value_is_read(exactly):
    exactly(Joined(lambda a, b, x: torch.stack([x]).sum(0).mul_(2) + x + a))


def test_branches_of_different_precision_are_added_in_the_wider(same):
    block = Joined(lambda a, b, x: torch.stack([F.elu(a), x.double()]).sum(0)).eval()
    x = torch.randn(2, 4, 9, 7)
    same(block(x), repcompiler.compile(block, x)(x), 1e-6)


class OneChannel(nn.Module):
    """A picture without colours, or one map of attention, added to every channel."""

    def __init__(self, inside, outside):
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(inside, 6, 3, padding=1), nn.Conv2d(inside, outside, 1)
        self.norm = nn.BatchNorm2d(6)

    def forward(self, x):
        y = self.norm(self.wide(x)) - self.narrow(x)
        return y + x if x.shape[1] == 1 else y


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize(("inside", "outside"), [(1, 6), (1, 1), (4, 1)])
def test_one_channel_is_added_to_every_channel(exactly, inside, outside, example):
    model, _ = exactly(OneChannel(inside, outside), channels=inside, example=example)
    assert [part.out_channels for part in model.modules() if isinstance(part, nn.Conv2d)] == [6]
    assert not any(node.target in (operator.add, operator.sub) for node in model.graph.nodes)


def test_so_it_is_in_an_exported_file(tmp_path, randomise):
    onnx = pytest.importorskip("onnx")
    repcompiler.export(randomise(OneChannel(1, 1)), tmp_path / "plain.onnx", torch.randn(2, 1, 9, 7))
    assert [node.op_type for node in onnx.load(tmp_path / "plain.onnx").graph.node] == ["Conv"]
