"""Activations, maximum pooling and other resolutions in torch: lifted in all forms, and kept where no rewrite touches them."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.ops import Clip, Conv, DepthToSpace, Identity, MaxPool, Odd, Opaque, PRelu, Relu, Resize, SpaceToDepth


class Then(nn.Module):
    """A convolution, then a function of its result."""

    def __init__(self, function, channels=4):
        super().__init__()
        self.conv = nn.Conv2d(4, channels, 3, padding=1)
        self.function = function

    def forward(self, x):
        return self.function(self.conv(x))


def lifted(function):
    document = FxDocument.trace(Then(function).eval(), torch.randn(2, 4, 12, 10))
    return [node.op for node in document.lift().nodes if not isinstance(node.op, Conv)]


KNOWN = {
    "ReLU": (nn.ReLU(), Relu),
    "ReLU in place": (nn.ReLU(inplace=True), Relu),
    "F.relu": (F.relu, Relu),
    "F.relu in place": (lambda x: F.relu(x, inplace=True), Relu),
    "torch.relu": (torch.relu, Relu),
    "x.relu()": (lambda x: x.relu(), Relu),
    "x.relu_()": (lambda x: x.relu_(), Relu),
    "ReLU6": (nn.ReLU6(), Clip),
    "F.relu6": (F.relu6, Clip),
    "Hardtanh": (nn.Hardtanh(-0.5, 0.25), Clip),
    "F.hardtanh": (lambda x: F.hardtanh(x, 0.0, 2.0), Clip),
    "clamp": (lambda x: x.clamp(-0.5, 0.5), Clip),
    "clamp from below": (lambda x: torch.clamp(x, min=0.1), Clip),
    "clamp_max": (lambda x: torch.clamp_max(x, 0.1), Clip),
    "LeakyReLU": (nn.LeakyReLU(0.3), PRelu),
    "F.leaky_relu": (lambda x: F.leaky_relu(x, 0.3), PRelu),
    "PReLU": (nn.PReLU(4), PRelu),
    "PReLU with one slope": (nn.PReLU(), PRelu),
    "Tanh": (nn.Tanh(), Odd),
    "x.tanh()": (lambda x: x.tanh(), Odd),
    "torch.erf": (torch.erf, Odd),
    "x ** 3": (lambda x: x**3, Odd),
    "torch.pow": (lambda x: torch.pow(x, 3), Odd),
    "MaxPool2d": (nn.MaxPool2d(3, 2, 1), MaxPool),
    "MaxPool2d dilated": (nn.MaxPool2d(2, dilation=2), MaxPool),
    "F.max_pool2d": (lambda x: F.max_pool2d(x, 2), MaxPool),
    "Upsample": (nn.Upsample(scale_factor=2), Resize),
    "Upsample to a size": (nn.Upsample(size=(7, 9), mode="bilinear"), Resize),
    "UpsamplingNearest2d": (nn.UpsamplingNearest2d(scale_factor=2), Resize),
    "UpsamplingBilinear2d": (nn.UpsamplingBilinear2d(size=5), Resize),
    "F.interpolate": (lambda x: F.interpolate(x, scale_factor=(1.5, 0.7), mode="bilinear"), Resize),
    "F.interpolate, exact": (lambda x: F.interpolate(x, size=7, mode="nearest-exact"), Resize),
    "PixelUnshuffle": (nn.PixelUnshuffle(2), SpaceToDepth),
    "F.pixel_unshuffle": (lambda x: F.pixel_unshuffle(x, 2), SpaceToDepth),
    "PixelShuffle": (nn.PixelShuffle(2), DepthToSpace),
    "F.pixel_shuffle": (lambda x: F.pixel_shuffle(x, 2), DepthToSpace),
}

UNKNOWN = {
    "clamp by a tensor": lambda x: torch.clamp(x, min=torch.zeros(4, 1, 1)),
    "partial windows": nn.MaxPool2d(2, 2, ceil_mode=True),
    "a maximum dilated and padded": nn.MaxPool2d(2, 1, 1, dilation=2),
    "bicubic": nn.Upsample(scale_factor=2, mode="bicubic"),
    "area": lambda x: F.interpolate(x, scale_factor=0.5, mode="area"),
    "antialiased": lambda x: F.interpolate(x, scale_factor=0.5, mode="bilinear", antialias=True),
    "a factor that is recomputed": nn.Upsample(scale_factor=1.3, recompute_scale_factor=True),
    "a subclass": type("Mine", (nn.ReLU,), {"forward": lambda self, x: x.abs()})(),
}


@pytest.mark.parametrize(("function", "kind"), KNOWN.values(), ids=KNOWN)
def test_it_is_lifted_and_stays_the_same_call_where_nothing_is_rewritten(function, kind, calls):
    [op] = lifted(function)
    assert isinstance(op, kind)
    model, x = Then(function).eval(), torch.randn(2, 4, 12, 10)
    result = repcompiler.compile(model, x, passes=["fold_batch_norm"])
    assert calls(result) == calls(FxDocument.trace(model, x).model)
    assert torch.equal(result(x), model(x))


@pytest.mark.parametrize("function", UNKNOWN.values(), ids=UNKNOWN)
def test_what_no_equation_covers_stays_opaque(function):
    assert any(isinstance(op, Opaque) for op in lifted(function))
    assert not any(isinstance(op, (Relu, Clip, PRelu, MaxPool, Resize, Identity)) for op in lifted(function))


class Scaled(nn.Module):
    """convolution, f, then a positive factor and perhaps a shift a channel."""

    def __init__(self, f, shift, channels=4):
        super().__init__()
        self.conv, self.f = nn.Conv2d(4, channels, 3, padding=1), f
        self.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.2)
        self.shift = nn.Parameter(torch.randn(4, 1, 1)) if shift else None

    def forward(self, x):
        x = self.f(self.conv(x)) * self.scale
        return x if self.shift is None else x + self.shift


FOLDED = {
    "ReLU in place": (nn.ReLU(inplace=True), False, "Conv2d relu"),
    "ReLU, then in place again": (nn.Sequential(nn.ReLU(), nn.LeakyReLU(0.1, inplace=True)), False, "Conv2d relu leaky_relu"),
    "PReLU": (nn.PReLU(4), False, "Conv2d prelu"),
    "LeakyReLU": (nn.LeakyReLU(0.3), False, "Conv2d leaky_relu"),
    "ReLU6": (nn.ReLU6(), False, "Conv2d ReLU6 mul"),
    "MaxPool2d": (nn.MaxPool2d(3, 2, 1), True, "Conv2d max_pool2d"),
    "bilinear": (nn.Upsample(scale_factor=1.7, mode="bilinear"), True, "Conv2d interpolate"),
    "corners": (nn.Upsample(size=9, mode="bilinear", align_corners=True), True, "Conv2d interpolate"),
    "nearest": (nn.Upsample(scale_factor=2), True, "Conv2d interpolate"),
    "nearest-exact": (lambda x: F.interpolate(x, size=(7, 5), mode="nearest-exact"), True, "Conv2d interpolate"),
}


@pytest.mark.parametrize(("f", "shift", "becomes"), FOLDED.values(), ids=FOLDED)
def test_scale_goes_through_into_the_convolution(plain, f, shift, becomes):
    assert plain(Scaled(f, shift)) == becomes


@pytest.mark.parametrize(("axes", "mode"), [(1, "linear"), (3, "trilinear"), (3, "nearest")])
def test_images_of_other_ranks(plain, axes, mode):
    conv, norm = (nn.Conv1d, None, nn.Conv3d)[axes - 1], (nn.BatchNorm1d, None, nn.BatchNorm3d)[axes - 1]
    model = nn.Sequential(conv(4, 4, 3), nn.Upsample(scale_factor=2, mode=mode), norm(4))
    assert plain(model, spatial=axes) == f"Conv{axes}d interpolate"


def test_batch_norm_behind_a_sum_of_two_inputs_and_behind_a_concatenation(plain):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.third = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x):
            a = self.first(x) + self.second(torch.sigmoid(x))
            return self.norm(torch.cat((a, self.third(torch.tanh(x))), 1))

    assert plain(Two()) == "sigmoid tanh Conv2d Conv2d add Conv2d cat"


def test_pointwise_convolution_goes_before_the_enlargement(plain):
    model = nn.Sequential(nn.ReLU(), nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(4, 2, 1))
    for objective in ("plain", "latency", "macs"):
        assert plain(model, objective=objective) == "ReLU Conv2d interpolate"


def test_pixel_unshuffle_and_a_pointwise_convolution_become_one(exactly, calls):
    model = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(16, 8, 1)).double().eval()
    x = torch.randn(2, 4, 12, 10, dtype=torch.float64)
    result = repcompiler.compile(model, x, objective="plain")
    assert calls(result) == "Conv2d"
    torch.testing.assert_close(result(x), model(x), rtol=0, atol=1e-12)


class Focus(nn.Module):
    def __init__(self, kernel):
        super().__init__()
        self.conv = nn.Conv2d(16, 8, kernel, padding=kernel // 2)

    def forward(self, x):
        return self.conv(torch.cat((x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]), 1))


@pytest.mark.parametrize("objective", ["plain", "latency", "macs"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_four_strided_slices_and_a_convolution_become_one_whatever_the_size(kernel, objective, calls):
    model = Focus(kernel).double().eval()
    result = repcompiler.compile(model, torch.randn(2, 4, 12, 10, dtype=torch.float64), objective=objective)
    assert calls(result) == "Conv2d"
    for size in ((12, 10), (6, 2), (2, 2)):
        x = torch.randn(1, 4, *size, dtype=torch.float64)
        torch.testing.assert_close(result(x), model(x), rtol=0, atol=1e-12)


def test_four_strided_slices_before_what_is_not_linear_are_blocks_of_pixels(calls):
    class Blocks(Focus):
        def forward(self, x):
            return self.conv(torch.cat((x[..., ::2, ::2], x[..., ::2, 1::2], x[..., 1::2, ::2], x[..., 1::2, 1::2]), 1).exp())

    model, x = Blocks(3).double().eval(), torch.randn(2, 4, 12, 10, dtype=torch.float64)
    result = repcompiler.compile(model, x, objective="plain")
    assert calls(result) == "pixel_unshuffle size channel_shuffle exp Conv2d"
    torch.testing.assert_close(result(x), model(x), rtol=0, atol=1e-12)


def test_slopes_of_a_new_rectifier_are_parameters():
    model = Scaled(nn.PReLU(4), False).double().eval()
    result = repcompiler.compile(model, torch.randn(2, 4, 6, 5, dtype=torch.float64), objective="plain")
    names = [name for name, parameter in result.named_parameters() if parameter.requires_grad]
    assert names == ["conv_merged_slope", "conv_merged.weight", "conv_merged.bias"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("f", "shift"), [found[:2] for found in FOLDED.values()], ids=FOLDED)
def test_exported_programs_are_read_too(same, f, shift):
    model = Scaled(f, shift).double().eval()
    x = torch.randn(2, 4, 6, 5, dtype=torch.float64)
    program = torch.export.export(model, (x,)).module()
    opaque = [node.op.label for node in FxDocument.trace(program, x).lift().nodes if isinstance(node.op, Opaque)]
    assert set(opaque) <= {"GuardsFn"}
    same(model(x), repcompiler.compile(program, x, objective="plain")(x))


class Enlarged(nn.Module):
    """A decoder's step: features of one level, at the size of the image they come from, mixed."""

    def __init__(self, size, **how):
        super().__init__()
        self.down, self.mix, self.norm = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(6, 5, 1), nn.BatchNorm2d(5)
        self.size, self.how = size, how

    def forward(self, x):
        return F.relu(self.norm(self.mix(F.interpolate(F.relu(self.down(x)), size=self.size(x), **self.how))))


@pytest.mark.parametrize("how", [{}, {"mode": "bilinear"}, {"mode": "bilinear", "align_corners": True}])
@pytest.mark.parametrize(
    "size",
    [
        lambda x: x.shape[2:],
        lambda x: x.size()[-2:],
        lambda x: (x.shape[2], x.size(3)),
        lambda x: [x.shape[-2] * 2, x.shape[-1]],
        lambda x: (7, x.shape[3]),
        lambda x: x.shape[2],
    ],
)
def test_a_pointwise_convolution_goes_before_a_resize_to_the_size_of_another_value(exactly, size, how):
    model, report = exactly(Enlarged(size, **how), shape=(2, 4, 13, 18))
    assert report.counts() == {"move_pointwise_before_resize": 1, "fold_batch_norm_through": 1}
    for other in ((1, 4, 5, 3), (1, 4, 1, 2)):
        x = torch.randn(other, dtype=torch.float64)
        assert model(x).shape[2:] == F.interpolate(x, size=size(x)).shape[2:]


def test_levels_that_are_enlarged_and_concatenated_are_mixed_each_at_its_own_size(exactly):
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.fine, self.coarse = nn.Conv2d(4, 8, 1), nn.Sequential(nn.MaxPool2d(4, ceil_mode=True), nn.Conv2d(4, 8, 1))
            self.fuse = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())

        def forward(self, x):
            coarse = F.interpolate(self.coarse(x), size=x.size()[2:], mode="bilinear", align_corners=False)
            return self.fuse(torch.cat([coarse, self.fine(x)], dim=1))

    model, _ = exactly(Decoder(), objective="macs")
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 2
    assert not any(isinstance(part, nn.BatchNorm2d) for part in model.modules())


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_a_resize_of_unknown_rank_is_moved_as_it_is(mode):
    """Without an example, only the mode says how many axes there are."""
    norm = nn.BatchNorm2d(3)
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.weight, -1.0, 1.0)
    model = nn.Sequential(nn.Conv2d(4, 3, 1), nn.Upsample(scale_factor=2, mode=mode), norm).eval()
    result = repcompiler.compile(model)
    x = torch.randn(2, 4, 5, 3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in result.modules())
    torch.testing.assert_close(result(x), model(x))
