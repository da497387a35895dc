"""Convolutions of torch whose kernel is computed: one for all samples, or one a sample, the samples as groups of one."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import DynamicConv

GATES = "adaptive_avg_pool2d flatten Linear"
SAMPLES = "size mul flatten unsqueeze reshape conv2d unflatten squeeze"


class Experts(nn.Module):
    """As CondConv has them in timm."""

    def __init__(self, channels=4, out_channels=6, size=3, experts=3, gate=torch.sigmoid, groups=1, stride=1):
        super().__init__()
        self.channels, self.out_channels, self.size, self.groups, self.stride = channels, out_channels, size, groups, stride
        self.routing, self.gate = nn.Linear(channels, experts), gate
        self.weight = nn.Parameter(torch.randn(experts, out_channels * channels // groups * size * size))

    def gates(self, x):
        return self.gate(self.routing(F.adaptive_avg_pool2d(x, 1).flatten(1)))

    def forward(self, x):
        B, C, H, W = x.shape  # noqa: N806
        weight = torch.matmul(self.gates(x), self.weight)
        weight = weight.view(B * self.out_channels, self.channels // self.groups, self.size, self.size)
        y = F.conv2d(x.reshape(1, B * C, H, W), weight, None, self.stride, self.size // 2, groups=self.groups * B)
        return y.permute([1, 0, 2, 3]).view(B, self.out_channels, y.shape[-2], y.shape[-1])


class Briefly(Experts):
    """As in the implementations of dynamic convolution."""

    def forward(self, x):
        batch, _, height, width = x.size()
        weight = torch.mm(self.gates(x), self.weight.view(self.weight.shape[0], -1))
        weight = weight.view(-1, self.channels // self.groups, self.size, self.size)
        y = F.conv2d(
            x.view(1, -1, height, width), weight=weight, stride=self.stride, padding=self.size // 2, groups=self.groups * batch
        )
        return y.view(batch, self.out_channels, y.size(-2), y.size(-1))


def softmax(gates):
    return F.softmax(gates, 1)


@pytest.mark.parametrize("form", [Experts, Briefly])
@pytest.mark.parametrize(("gate", "name"), [(torch.sigmoid, "sigmoid"), (softmax, "softmax")])
@pytest.mark.parametrize("options", [{}, {"groups": 2, "stride": 2}, {"groups": 4, "out_channels": 4, "size": 5}, {"size": 1}])
def test_batch_norm_goes_into_the_experts_of_every_sample(plain, form, gate, name, options):
    experts = form(gate=gate, **options)
    compiled = plain(nn.Sequential(experts, nn.BatchNorm2d(experts.out_channels)))
    assert compiled == f"{GATES} {name} Linear {SAMPLES} add"


class OfInput(Experts):
    """As in the paper's first implementations: the result has the extents of the input."""

    def forward(self, x):
        batch, _, height, width = x.size()
        weight = torch.mm(self.gates(x), self.weight)
        weight = weight.view(batch * self.out_channels, self.channels // self.groups, self.size, self.size)
        y = F.conv2d(x.view(1, -1, height, width), weight, padding=self.size // 2, groups=self.groups * batch)
        return y.view(batch, self.out_channels, height, width)


@pytest.mark.parametrize("options", [{}, {"groups": 2, "size": 5}, {"size": 1}])
def test_the_extents_of_the_result_may_be_said_as_those_of_the_input(plain, options):
    assert plain(nn.Sequential(OfInput(**options), nn.BatchNorm2d(6))) == f"{GATES} sigmoid Linear {SAMPLES} add"


def test_convolutions_before_beside_and_behind_go_into_the_experts(plain):
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts, self.shortcut = Experts(out_channels=4), nn.Conv2d(4, 4, 1)
            self.last = nn.Conv2d(4, 4, 1)

        def forward(self, x):
            return self.last(self.experts(x) + self.shortcut(x) + x)

    assert plain(Block()) == f"{GATES} sigmoid Linear {SAMPLES} add"


def test_pointwise_without_a_bias_goes_into_the_experts_behind_it(plain):
    class Block(Experts):
        def __init__(self):
            super().__init__()
            self.mix = nn.Conv2d(4, 4, 1, bias=False)

        def forward(self, x):
            gates, (batch, _, height, width) = self.gates(x), x.shape
            x = self.mix(x)
            weight = (gates @ self.weight).view(batch * 6, 4, 3, 3)
            y = F.conv2d(x.reshape(1, batch * 4, height, width), weight, padding=1, groups=batch)
            return y.view(batch, 6, y.size(2), y.size(3))

    assert plain(Block()) == f"{GATES} sigmoid Linear {SAMPLES}"


def test_extents_that_it_reads_stay_where_another_reader_is_rewritten(plain):
    """Li et al., ODConv, ICLR 2022: attention over the kernel, reshaped by the batch that the samples are grouped by."""

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.gate, self.weight = nn.Conv2d(4, 4, 1), nn.Parameter(torch.randn(4, 4, 3, 3))

        def forward(self, x):
            batch, channels, height, width = x.size()
            gate = self.gate(F.adaptive_avg_pool2d(x, 1)).sigmoid()
            kernels = gate.view(batch, channels, 1, 1, 1).sigmoid() * self.weight.unsqueeze(0)
            joined = (x * gate).reshape(1, -1, height, width)
            y = F.conv2d(joined, kernels.view(-1, 4, 3, 3), None, 1, 1, 1, groups=batch)
            return y.view(batch, channels, y.size(-2), y.size(-1))

    assert "conv2d" in plain(Block())


def test_nothing_is_rewritten_where_nothing_is_beside(exactly, calls):
    model = nn.Sequential(Experts(), nn.ReLU()).eval()
    before = calls(FxDocument.trace(model, torch.randn(2, 4, 13, 18)).model)
    assert calls(exactly(model)[0]) == before


def test_experts_with_nothing_to_take_in_stay_as_they_are_written_where_others_are_rewritten(exactly, calls):
    experts = nn.Sequential(Experts(), nn.ReLU())
    result, report = exactly(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), experts))
    assert [step.rule for step in report.steps] == ["fold_batch_norm"]
    model = FxDocument.trace(experts.eval(), torch.randn(2, 4, 13, 18)).model
    assert calls(result) == f"Conv2d {calls(model)}"


def test_kernel_of_all_samples_takes_a_batch_norm(exactly, calls):
    class Generated(nn.Module):
        """A kernel from one vector of gates, whatever the batch."""

        def __init__(self):
            super().__init__()
            self.weight, self.bn = nn.Parameter(torch.randn(3, 6 * 4 * 9)), nn.BatchNorm2d(6)

        def forward(self, x):
            gates = torch.sigmoid(x.mean((0, 2, 3))[:3]).unsqueeze(0)
            return self.bn(F.conv2d(x, torch.matmul(gates, self.weight).view(6, 4, 3, 3), padding=1))

    result, _ = exactly(Generated())
    assert calls(result).endswith("Linear reshape conv2d")


class Wrong(Experts):
    """Nearly the idiom, and another computation."""

    def __init__(self, how):
        super().__init__(channels=4, out_channels=4)
        self.how = how

    def forward(self, x):
        B, C, H, W = x.shape  # noqa: N806
        weight = torch.matmul(self.gates(x), self.weight).view(B * 4, 4, 3, 3)
        joined = x.reshape(1, B * C, H, W)
        y = F.conv2d(joined, weight, None, padding=1, groups=B)
        match self.how:
            case "transposed pixels":
                y = y.view(B, 4, y.size(3), y.size(2))
            case "transposed pixels of the input":
                y = y.view(B, 4, W, H)
            case "transposed input":
                y = F.conv2d(x.reshape(1, B * C, W, H), weight, None, padding=1, groups=B)
                y = y.view(B, 4, y.size(2), y.size(3))
            case "samples behind channels":
                y = y.view(4, B, y.size(2), y.size(3)).transpose(0, 1)
            case "read elsewhere":
                return y.view(B, 4, y.size(2), y.size(3)).relu(), y.relu()
            case "input read elsewhere":
                return y.view(B, 4, y.size(2), y.size(3)) + F.max_pool2d(joined, 1).view(B, 4, H, W)
            case "written into":
                y.mul_(2.0)
                y = y.view(B, 4, y.size(2), y.size(3))
        return y


@pytest.mark.parametrize(
    "how",
    [
        "transposed pixels",
        "transposed pixels of the input",
        "transposed input",
        "samples behind channels",
        "read elsewhere",
        "input read elsewhere",
        "written into",
    ],
)
def test_what_only_looks_like_it_is_left_alone(exactly, how):
    class Then(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts, self.bn = Wrong(how), nn.BatchNorm2d(4)

        def forward(self, x):
            y = self.experts(x)
            return (self.bn(y[0]), y[1]) if isinstance(y, tuple) else self.bn(y)

    _, report = exactly(Then())
    assert "fold_batch_norm_into_experts" not in {step.rule for step in report.steps}


def test_condconv_of_timm_takes_its_batch_norm(randomise):
    layers = pytest.importorskip("timm.layers.cond_conv2d")

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.routing, self.conv = nn.Linear(8, 4), layers.CondConv2d(8, 6, 3, padding="same", num_experts=4)
            self.bn = nn.BatchNorm2d(6)

        def forward(self, x):
            return self.bn(self.conv(x, torch.sigmoid(self.routing(x.mean((2, 3))))))

    model, report = randomise(Block()).double(), repcompiler.Report()
    result = repcompiler.compile(model, torch.randn(2, 8, 9, 11, dtype=torch.float64), report=report)
    assert [step.rule for step in report.steps] == ["fold_batch_norm_into_experts"]
    with torch.no_grad():
        for batch in (1, 2, 5):
            x = torch.randn(batch, 8, 7, 6, dtype=torch.float64)
            assert torch.allclose(result(x), model(x), rtol=0, atol=1e-11)


def test_the_operation_is_what_interpreter_says(randomise):
    model, x = randomise(Experts()).double(), torch.randn(3, 4, 7, 6, dtype=torch.float64)
    document = FxDocument.trace(model, x)
    [node] = [node for node in document.lift().nodes if isinstance(node.op, DynamicConv)]
    assert node.op.each
    assert (node.op.weight_shape, node.op.groups) == ((6, 4, 3, 3), 1)
    assert node.output.shape == (None, 6, None, None)
