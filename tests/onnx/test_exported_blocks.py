"""Blocks whose authors assign to slices, exported by torch in training form and compiled from the file alone."""

import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler


def write_frame(x, width, value):
    x[:, :, 0:width, :] = value
    x[:, :, -width:, :] = value
    x[:, :, :, 0:width] = value
    x[:, :, :, -width:] = value


class EdgeOriented(nn.Module):
    """ECBSR (Zhang et al., 2021): 3x3 beside 1x1 - 3x3 whose map is framed with the bias of the 1x1."""

    def __init__(self):
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 3)

    def forward(self, x):
        y = F.conv2d(input=x, weight=self.first.weight, bias=self.first.bias, stride=1)
        y = F.pad(y, (1, 1, 1, 1), "constant", 0)
        write_frame(y, 1, self.first.bias.view(1, -1, 1, 1))
        y = F.conv2d(input=y, weight=self.second.weight, bias=self.second.bias, stride=1)
        return torch.relu(self.conv(x) + y + x)


class BNAndPad(nn.Module):
    """Ding et al., CVPR 2021: a batch norm in a frame of what it makes of zero."""

    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        bn, out = self.bn, F.pad(self.bn(x), [1, 1, 1, 1])
        of_zero = bn.bias.detach() - bn.running_mean * bn.weight.detach() / torch.sqrt(bn.running_var + bn.eps)
        write_frame(out, 1, of_zero.view(1, -1, 1, 1))
        return out


class DiverseBranch(nn.Module):
    def __init__(self):
        super().__init__()
        self.origin = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.mean = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), BNAndPad(4), nn.AvgPool2d(3, 1), nn.BatchNorm2d(4))
        self.pair = nn.Sequential(
            nn.Conv2d(4, 6, 1, bias=False), BNAndPad(6), nn.Conv2d(6, 4, 3, bias=False), nn.BatchNorm2d(4)
        )

    def forward(self, x):
        return torch.relu(self.origin(x) + self.mean(x) + self.pair(x))


class Mobile(nn.Module):
    """RMNet (Meng et al., 2021): the skip reaches the first channels only."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))

    def forward(self, x):
        out = self.conv(x)
        out[:, :4] += x
        return torch.relu(out)


class Partial(nn.Module):
    """FasterNet (Chen et al., 2023), as it runs: a convolution of some channels, in place."""

    def __init__(self):
        super().__init__()
        self.part, self.mix = nn.Conv2d(2, 2, 3, padding=1, bias=False), nn.Conv2d(4, 6, 1)

    def forward(self, x):
        x = x.clone()
        x[:, :2, :, :] = self.part(x[:, :2, :, :])
        return torch.relu(self.mix(x))


class Framed(nn.Module):
    """A map written into the inside of a constant."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 3)

    def forward(self, x):
        y = self.first(x)
        out = self.first.bias.view(1, -1, 1, 1).expand(y.shape[0], -1, y.shape[2] + 2, y.shape[3] + 2).clone()
        out[:, :, 1:-1, 1:-1] = y
        return torch.relu(self.second(out))


BLOCKS = (EdgeOriented, DiverseBranch, Mobile, Partial, Framed)
FREE = {0: "N", 2: "H", 3: "W"}


def exported(block, path, dynamo, free):
    if dynamo:
        form = {"dynamic_shapes": (FREE,)} if free else {}
        torch.onnx.export(block, (torch.randn(2, 4, 9, 7),), path, dynamo=True, verbose=False, external_data=False, **form)
    else:
        axes = {"input_names": ["x"], "dynamic_axes": {"x": FREE}} if free else {}
        torch.onnx.export(block, (torch.randn(2, 4, 9, 7),), path, dynamo=False, **axes)
    return onnx.load(path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("block", "dynamo", "free"),
    [
        *((block, dynamo, False) for block in BLOCKS for dynamo in (True, False)),
        *((block, True, True) for block in (Mobile, Framed, EdgeOriented)),
        *((block, False, True) for block in (Mobile, Partial)),  # others have extents of the example in them
    ],
)
def test_an_exported_block_becomes_one_convolution(tmp_path, randomised, operators, block, dynamo, free):
    source = exported(randomised(block()), tmp_path / "block.onnx", dynamo, free)
    assert "ScatterND" in operators(source)
    report = repcompiler.Report()
    result = repcompiler.compile(source, objective="plain", report=report)
    assert operators(result) == "Conv Relu"
    assert report.verification.checked
    assert not report.reverted


@pytest.fixture
def randomised():
    def randomise(model):
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
                norm.running_mean.normal_(generator=random)
                norm.running_var.uniform_(0.3, 2, generator=random)
                norm.weight.normal_(generator=random)
                norm.bias.normal_(generator=random)
        return model.eval()

    return randomise
