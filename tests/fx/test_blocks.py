"""Multi-branch blocks as torch modules, each plain afterwards, or left as it is where it cannot be made so exactly."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORM = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def conv_bn(c, o, k, axes=2, norm=True, **options):
    layers = [CONV[axes](c, o, k, bias=False, **options)]
    return nn.Sequential(*layers, *([NORM[axes](o)] if norm else []))


class Branches(nn.Module):
    """The sum of branches, then an activation."""

    def __init__(self, *branches):
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x):
        return F.relu(sum(branch(x) for branch in self.branches))


class Apply(nn.Module):
    """A function, as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("axes", [1, 2, 3])
@pytest.mark.parametrize("example", [True, False])
def test_a_repvgg_block_becomes_one_convolution(plain, groups, axes, example):
    block = Branches(conv_bn(4, 4, 3, axes, padding=1, groups=groups), conv_bn(4, 4, 1, axes, groups=groups), NORM[axes](4))
    assert plain(block, spatial=axes, example=example) == f"Conv{axes}d relu"


def test_a_strided_repvgg_block_becomes_one_convolution(plain):
    block = Branches(conv_bn(4, 6, 3, padding=1, stride=2), conv_bn(4, 6, 1, stride=2))
    assert plain(block) == "Conv2d relu"


@pytest.mark.parametrize(("kernel", "padding"), [(3, 1), (3, 0), (5, 1), (5, 0)])
def test_an_acnet_block_becomes_one_square_convolution_also_where_it_crops(plain, kernel, padding):
    crop = kernel // 2 - padding

    class Cropped(nn.Module):
        def __init__(self, axis):
            super().__init__()
            self.axis = axis
            size = (kernel, 1) if axis == 3 else (1, kernel)
            self.conv = nn.Conv2d(4, 4, size, padding=(padding, 0) if axis == 3 else (0, padding), bias=False)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            if crop > 0:
                x = x[:, :, :, crop:-crop] if self.axis == 3 else x[:, :, crop:-crop, :]
            return self.norm(self.conv(x))

    block = Branches(conv_bn(4, 4, kernel, padding=padding), Cropped(3), Cropped(2))
    assert plain(block) == "Conv2d relu"


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_diverse_branch_block_that_pads_first_becomes_one_convolution(plain, stride, groups):
    pad = nn.ZeroPad2d(1)
    origin = conv_bn(4, 4, 3, padding=1, stride=stride, groups=groups)
    point = conv_bn(4, 4, 1, stride=stride, groups=groups)
    sequence = nn.Sequential(pad, *conv_bn(4, 6, 1, groups=groups), *conv_bn(6, 4, 3, stride=stride, groups=groups))
    average = nn.Sequential(pad, *conv_bn(4, 4, 1, groups=groups), nn.AvgPool2d(3, stride), nn.BatchNorm2d(4))
    assert plain(Branches(origin, point, sequence, average)) == "Conv2d relu"


def test_a_sequence_that_pads_a_biased_map_is_refused(exactly, calls):
    block = Branches(conv_bn(4, 4, 3, padding=1), nn.Sequential(*conv_bn(4, 6, 1), *conv_bn(6, 4, 3, padding=1)))
    result, report = exactly(block)
    assert calls(result) == "Conv2d Conv2d Conv2d add relu"
    assert any("exact only inside the image" in declined.reason for declined in report.declined)


class BNAndPad(nn.Module):
    """Batch norm, then a frame of what it makes of zero: as the authors of the diverse branch block write it."""

    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x):
        x = self.bn(x)
        frame = self.bn.bias.detach() - self.bn.running_mean * self.bn.weight.detach() / torch.sqrt(
            self.bn.running_var + self.bn.eps
        )
        x = F.pad(x, [1, 1, 1, 1])
        frame = frame.view(1, -1, 1, 1)
        x[:, :, 0:1, :] = frame
        x[:, :, -1:, :] = frame
        x[:, :, :, 0:1] = frame
        x[:, :, :, -1:] = frame
        return x


def test_slice_assignment_stays_and_what_reads_after_it_is_rewritten(plain):
    block = nn.Sequential(nn.Conv2d(4, 6, 1), BNAndPad(6), nn.Conv2d(6, 4, 3), nn.BatchNorm2d(4))
    assert [name for name in plain(block).split() if name in ("Conv2d", "BatchNorm2d", "setitem")] == [
        "Conv2d",
        *["setitem"] * 4,
        "Conv2d",
    ]


@pytest.mark.parametrize("large", [13, 7])
def test_a_dilated_reparam_block_becomes_one_depthwise_convolution(plain, large):
    small = {13: [(5, 1), (7, 2), (3, 3), (3, 4), (3, 5)], 7: [(5, 1), (3, 2), (3, 3)]}[large]
    branches = [conv_bn(4, 4, k, padding=r * (k - 1) // 2, dilation=r, groups=4) for k, r in small]
    block = nn.Sequential(Branches(conv_bn(4, 4, large, padding=large // 2, groups=4), *branches))
    assert plain(block) == "Conv2d relu"


def test_a_convolution_called_twice_with_two_norms_becomes_two(plain, exactly):
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3, padding=1)
            self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.two(self.conv(F.relu(self.one(self.conv(x)))))

    result, _ = exactly(Shared())
    assert plain(Shared()) == "Conv2d relu Conv2d"
    assert not any(name.startswith(("conv.", "one", "two")) for name in result.state_dict())


class Siamese(nn.Module):
    """Both inputs through the same layers."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(*conv_bn(4, 4, 3), nn.ReLU(), *conv_bn(4, 4, 1), nn.ReLU())
        self.head, self.norm = nn.Linear(4, 2), nn.BatchNorm1d(2)

    def embed(self, x):
        return self.norm(self.head(self.features(x).mean((2, 3))))

    def forward(self, x):
        return (self.embed(x) - self.embed(x.flip(3))).pow(2).sum(1)


def test_layers_that_are_called_twice_stay_shared(exactly, calls):
    result, _ = exactly(Siamese(), tolerance=1e-10)
    assert calls(result).split().count("Conv2d") == 4
    assert {name.rpartition(".")[0] for name in result.state_dict()} == {
        "features.0_merged",
        "features.3_merged",
        "head_merged",
    }


def test_layers_that_are_equal_by_chance_stay_apart(exactly):
    """A network may be compiled before it is trained, its layers copies of one another."""
    first = nn.Sequential(*conv_bn(4, 4, 1))
    model = nn.Sequential(first, nn.ReLU(), copy.deepcopy(first))
    result = repcompiler.compile(model.eval(), torch.randn(1, 4, 5, 5))
    assert set(result.state_dict()) == {"0.0_merged.weight", "2.0_merged.weight"}


def test_a_map_read_by_two_norms_is_left(plain):
    class Fork(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 4, 3)
            self.one, self.two = nn.BatchNorm2d(4), nn.BatchNorm2d(4)

        def forward(self, x):
            x = self.conv(x)
            return F.relu(self.one(x)) * F.relu(self.two(x))

    assert plain(Fork()) == "Conv2d BatchNorm2d relu BatchNorm2d relu mul"


def test_a_module_still_called_elsewhere_keeps_its_place(exactly):
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

        def forward(self, x):
            return self.norm(self.conv(F.relu(self.conv(x))))

    result, _ = exactly(Both())
    assert set(result.state_dict()) == {"conv.weight", "conv.bias", "conv_merged.weight", "conv_merged.bias"}


def test_tied_weights_are_untied_only_where_one_changes(exactly):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.norm = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
            self.two.weight = self.one.weight

        def forward(self, x):
            return self.norm(self.two(F.relu(self.one(x))))

    result, _ = exactly(Tied())
    assert set(result.state_dict()) == {"one.weight", "one.bias", "two_merged.weight", "two_merged.bias"}


def test_fastvit_mixer_becomes_one_depthwise_convolution(plain):
    class Mixer(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.mixer = nn.BatchNorm2d(4), Branches2(conv_bn(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4))
            self.scale = nn.Parameter(torch.randn(4, 1, 1))

        def forward(self, x):
            return x + self.scale * (self.mixer(x) - self.norm(x))

    class Branches2(nn.Module):
        def __init__(self, *branches):
            super().__init__()
            self.branches = nn.ModuleList(branches)

        def forward(self, x):
            return self.branches[0](x) + self.branches[1](x)

    assert plain(Mixer()) == "Conv2d"


def test_bn_before_an_unpadded_convolution_folds_and_before_a_padded_one_stays(plain):
    assert plain(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3))) == "Conv2d"
    assert plain(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1))) == "BatchNorm2d Conv2d"


def test_what_was_pad_and_convolution_may_need_uneven_padding(plain):
    block = nn.Sequential(nn.ZeroPad2d((1, 0, 2, 0)), nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
    assert plain(block) == "pad Conv2d"


def test_a_difference_of_nearly_equal_numbers_in_double_precision_verifies(randomise):
    """Its own rounding cannot be seen against float64: what flipping the last bit of the inputs changes is rounding too."""

    class Distance(Siamese):
        def forward(self, x):
            return (self.embed(x) - self.embed(x + 0.01)).pow(2).sum(1)

    report = repcompiler.Report()
    x = torch.randn(2, 4, 13, 18, dtype=torch.float64)
    result = repcompiler.compile(randomise(Distance()).double(), x, report=report)
    assert not report.reverted
    assert report.verification.checked
    assert "features.0_merged.weight" in result.state_dict()


@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_convolutions_that_double_the_image_become_one(exactly, calls, axes):
    def up(kernel, **options):
        layer = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}[axes]
        return nn.Sequential(layer(4, 6, kernel, stride=2, bias=False, **options), NORM[axes](6))

    block = Branches(up(4, padding=1), up(2), up(3, padding=1, output_padding=1, groups=2), up(2, padding=1, dilation=3))
    for objective in ("latency", "plain"):
        result, report = exactly(block, spatial=axes, objective=objective)
        assert calls(result) == f"ConvTranspose{axes}d relu"
        assert report.verification.equal
        assert report.certificates().keys() <= {"exact", "correctly rounded", "rounding"}


@pytest.mark.parametrize("behind", [[nn.BatchNorm2d(3)], [nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)]])
def test_norms_and_pointwise_convolutions_go_through_a_pixel_shuffle(plain, behind):
    tail = nn.Sequential(nn.Conv2d(4, 12, 3, padding=1), nn.BatchNorm2d(12), nn.PixelShuffle(2), *behind, nn.ReLU())
    assert plain(tail) == "Conv2d pixel_shuffle ReLU"
    assert plain(tail, example=False) == "Conv2d pixel_shuffle ReLU"


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_a_convolution_that_pads_with_its_own_pixels_takes_its_batch_norm(exactly, calls, mode):
    convs = (nn.Conv2d(4, 4, 3, padding=1, padding_mode=mode), nn.Conv2d(4, 4, (3, 1), 2, (1, 0), padding_mode=mode))
    layers = [layer for conv in convs for layer in (conv, nn.BatchNorm2d(4), nn.ReLU())]
    result, _ = exactly(nn.Sequential(*layers), shape=(2, 4, 9, 10))
    assert calls(result) == "pad Conv2d ReLU pad Conv2d ReLU"
