"""What is understood of torch, and what is left alone because an equation would not hold."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch_blocks import Call


def weight(*shape):
    return torch.randn(*shape)


CONVOLUTIONS = {
    "Conv1d": (1, nn.Conv1d(4, 4, 3, padding=1, stride=2)),
    "Conv2d uneven": (2, nn.Conv2d(4, 4, (3, 1), padding=(2, 0), dilation=(1, 1), groups=2)),
    "Conv3d": (3, nn.Conv3d(4, 4, 3, padding=1)),
    "same": (2, nn.Conv2d(4, 4, 4, padding="same", dilation=2)),
    "valid": (2, nn.Conv2d(4, 4, 3, padding="valid")),
    "reflect without padding": (2, nn.Conv2d(4, 4, 3, padding_mode="reflect")),
    "ConvTranspose1d": (1, nn.ConvTranspose1d(4, 4, 3, stride=2, padding=1, output_padding=1)),
    "ConvTranspose2d": (2, nn.ConvTranspose2d(4, 4, 3, stride=2, groups=2, bias=False)),
    "ConvTranspose3d": (3, nn.ConvTranspose3d(4, 4, 2, stride=2, dilation=1)),
}
NORMS = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("example", [True, False])
def test_a_norm_folds_into_a_convolution_module(plain, name, example):
    axes, conv = CONVOLUTIONS[name]
    folded = plain(nn.Sequential(conv, NORMS[axes](4)), spatial=axes, example=example)
    assert folded.removeprefix("pad ") == type(conv).__name__


FUNCTIONS = {
    "conv2d": lambda m, x: F.conv2d(x, m.w, stride=2, padding=1),
    "conv2d by keyword": lambda m, x: F.conv2d(input=x, weight=m.w, bias=m.b, padding="same"),
    "torch.conv2d": lambda m, x: torch.conv2d(x, m.w, m.b, 1, 1),
    "conv_transpose2d": lambda m, x: F.conv_transpose2d(x, m.w, m.b, stride=2, output_padding=1),
    "generated weight": lambda m, x: F.conv2d(x, torch.einsum("oihw,p->oihw", m.w, m.b.abs()) / 3 + m.w.flip(2)),
    "standardised weight": lambda m, x: F.conv2d(
        x, F.batch_norm(m.w.view(1, 4, -1), None, None, training=True).reshape_as(m.w)
    ),
    "weight of a module": lambda m, x: F.conv2d(x, m.conv.weight * 2, m.conv.bias),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_norm_folds_into_a_functional_convolution(plain, name):
    def forward(m, x):
        x = FUNCTIONS[name](m, x)
        return F.batch_norm(x, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias, eps=m.norm.eps)

    model = Call(forward, w=weight(4, 4, 3, 3), b=weight(4), norm=nn.BatchNorm2d(4), conv=nn.Conv2d(4, 4, 3))
    assert plain(model) in ("Conv2d", "ConvTranspose2d")


def test_a_weight_that_is_computed_becomes_a_plain_one(exactly, calls):
    result, _ = exactly(Call(lambda m, x: F.relu(F.conv2d(x, m.w * m.b.view(-1, 1, 1, 1))), w=weight(4, 4, 3, 3), b=weight(4)))
    assert calls(result) == "conv2d relu"
    (name,) = result.state_dict()
    assert result.state_dict()[name].shape == (4, 4, 3, 3)


@pytest.mark.parametrize("parametrise", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_a_parametrised_weight_is_what_it_evaluates_to(plain, parametrise):
    assert plain(nn.Sequential(parametrise(nn.Conv2d(4, 4, 3)), nn.BatchNorm2d(4))) == "Conv2d"


def test_a_random_parametrisation_is_drawn_each_time(plain):
    class Noisy(nn.Module):
        def forward(self, w):
            return w + 1e-30 * torch.randn_like(w)

    conv = nn.Conv2d(4, 4, 3)
    parametrize.register_parametrization(conv, "weight", Noisy(), unsafe=True)
    assert plain(nn.Sequential(conv, nn.BatchNorm2d(4))) == "randn_like mul add conv2d BatchNorm2d"


AFFINE = {
    "number": lambda m, x: 2 - m.conv(x) / 4 * 3 + 1,
    "methods": lambda m, x: m.conv(x).mul(2).add(m.c).sub(1, alpha=3).div(m.c),
    "in place": lambda m, x: m.conv(x).mul_(m.c).add_(1),
    "negative": lambda m, x: -m.conv(x),
    "channel vector": lambda m, x: torch.add(m.conv(x), m.c, alpha=2) * m.c[None],
    "channel vector in front": lambda m, x: m.c.exp() * m.conv(x) + m.c,
    "subtracted from": lambda m, x: torch.sub(m.c, m.conv(x)),
    "subtracted from, scaled": lambda m, x: torch.sub(m.c, m.conv(x), alpha=3),
}


@pytest.mark.parametrize("name", AFFINE)
def test_arithmetic_with_constants_folds(plain, name):
    assert plain(Call(AFFINE[name], conv=nn.Conv2d(4, 4, 3), c=weight(4, 1, 1))) == "Conv2d"


NOT_AFFINE = {
    "a constant for each column": (lambda m, x: m.conv(x)[..., :1] + torch.arange(3.0), "getitem add"),
    "a constant for each image": (lambda m, x: m.conv(x) * torch.ones(2, 1, 1, 1).double(), "mul"),
    "a constant of more axes": (lambda m, x: m.conv(x) * torch.ones(1, 1, 1, 1, 1).double(), "mul"),
    "rounding": (lambda m, x: torch.div(m.conv(x), 3, rounding_mode="floor"), "div"),
    "division by what is zero somewhere": (lambda m, x: torch.nan_to_num(m.conv(x) / torch.tensor(0.0)), "truediv nan_to_num"),
    "another factor than one": (lambda m, x: torch.add(m.conv(x), m.norm(x)[:, :, :1, :1], alpha=2), "getitem add"),
    "the size": (lambda m, x: m.conv(x) * x.size(3), "size mul"),
    "an integer": (lambda m, x: m.conv(x) + (x > 0).int()[:, :, :1, :1] * 2, "gt int getitem mul add"),
}


@pytest.mark.parametrize("name", NOT_AFFINE)
def test_arithmetic_that_is_no_scale_of_channels_is_left(exactly, calls, name):
    forward, left = NOT_AFFINE[name]
    model = Call(forward, conv=nn.Conv2d(4, 4, 3), norm=nn.BatchNorm2d(4))
    result, _ = exactly(model)
    assert [call for call in calls(result).split() if call in left.split()] == left.split()


POOLS = {
    "AvgPool2d": nn.AvgPool2d(3, 2, padding=1),
    "of its own stride": nn.AvgPool2d(2),
    "by a divisor": nn.AvgPool2d(3, 1, divisor_override=2),
    "by a divisor, padded": nn.AvgPool2d(3, 1, padding=1, count_include_pad=False, divisor_override=2),
    "unpadded": nn.AvgPool2d(3, 1, count_include_pad=False),
    "function": Call(lambda m, x: F.avg_pool2d(x, (3, 2), 1, (1, 0))),
    "subsampling by maximum": nn.MaxPool2d(1, 2),
    "subsampling by function": Call(lambda m, x: F.max_pool2d(x, 1, 2)),
    "subsampling by index": Call(lambda m, x: x[:, :, ::2, ::3]),
    "zero padding": nn.ZeroPad2d((1, 2, 0, 3)),
    "constant padding": nn.ConstantPad2d(1, 0.0),
    "functional padding and crop": Call(lambda m, x: F.pad(x, (1, -1, -2, 0))),
    "dropout": nn.Dropout2d(0.5),
    "functional dropout": Call(lambda m, x: F.dropout(x, 0.5, m.training)),
    "identity": nn.Identity(),
}


@pytest.mark.parametrize("name", POOLS)
def test_pooling_sampling_padding_and_nothing_merge_into_the_convolution_after(plain, name):
    merged = plain(nn.Sequential(POOLS[name], nn.Conv2d(4, 4, 1, bias=False)))
    assert merged.removeprefix("pad ") == "Conv2d"


LEFT = {
    "average that does not count padding": nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
    "average over partial windows": nn.AvgPool2d(2, ceil_mode=True),
    "maximum": nn.MaxPool2d(2),
    "maximum with indices": Call(lambda m, x: F.max_pool2d(x, 1, 2, return_indices=True)[0]),
    "padding by one": nn.ConstantPad2d(1, 1.0),
    "reflection": nn.ReflectionPad2d(1),
    "reflecting function": Call(lambda m, x: F.pad(x, (1, 1, 1, 1), mode="replicate")),
    "channels and pixels padded": Call(lambda m, x: F.pad(x[:, :2], (0, 1, 0, 0, 1, 1))),
    "channels of ones": Call(lambda m, x: F.pad(x[:, :2], (0, 0, 0, 0, 1, 1), value=1.0)),
    "channels padded and left out": Call(lambda m, x: F.pad(x, (0, 0, 0, 0, 1, -1))),
    "bound from the front": Call(lambda m, x: x[:, :, :9]),
    "bound from the back": Call(lambda m, x: x[:, :, -9:]),
    "crop and stride": Call(lambda m, x: x[:, :, 1::2]),
    "a bound that is computed": Call(lambda m, x: x[:, :, : x.shape[3] // 2]),
    "dropout that is on": Call(lambda m, x: F.dropout(x, 0.0, True)),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_no_equation_covers_is_left(plain, name):
    model = nn.Sequential(LEFT[name], nn.Conv2d(4, 4, 1, bias=False))
    assert plain(model).split()[-1] == "Conv2d"
    assert len(plain(model).split()) > 1


@pytest.mark.parametrize(
    "crop", [lambda m, x: x[:, :, 1:-1, 2:], lambda m, x: x[..., 1:-1, 2:], lambda m, x: x[:, :, 1:-1][..., 2:]]
)
def test_a_crop_is_negative_padding(plain, crop):
    both = Call(lambda m, x: m.one(crop(m, x)) + m.two(crop(m, x)), one=nn.Conv2d(4, 4, 3), two=nn.Conv2d(4, 4, 3))
    assert plain(both).split()[-1] == "Conv2d"
    assert plain(both).count("Conv2d") == 1


def test_a_subclass_that_does_more_is_not_taken_for_its_base(plain):
    class Activated(nn.BatchNorm2d):
        def forward(self, x):
            return F.relu(super().forward(x))

    class Doubled(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    activated = nn.Sequential(nn.Conv2d(4, 4, 3), Activated(4))
    assert plain(activated) == "dim eq _assert Conv2d relu"
    assert plain(activated, example=False) == "Conv2d Activated"  # a batch norm asks for the rank
    assert plain(nn.Sequential(Doubled(4, 4, 3), nn.BatchNorm2d(4))) == "Conv2d"


def test_a_subclass_with_a_constructor_of_its_own_is_its_base(plain):
    class Padded(nn.Conv2d):
        """Of the same size."""

        def __init__(self, channels, kernel):
            super().__init__(channels, channels, kernel, padding=kernel // 2)

    class Norm(nn.BatchNorm2d):
        pass

    assert plain(nn.Sequential(Padded(4, 3), Norm(4))) == "Conv2d"


def test_linear_layers_merge_with_their_norms_on_the_last_axis(plain):
    model = Call(lambda m, x: m.norm(m.one(x.mean((2, 3)))), one=nn.Linear(4, 5), norm=nn.BatchNorm1d(5))
    assert plain(model) == "mean Linear"
    tokens = Call(lambda m, x: m.one(x.flatten(2).transpose(1, 2)) * m.c, one=nn.Linear(4, 5), c=weight(5))
    assert plain(tokens) == "flatten transpose Linear"


def test_a_norm_on_another_axis_than_the_linear_one_stays(plain):
    def forward(m, x):
        return m.norm(m.one(x.flatten(2)[:, :, :1]))

    assert plain(Call(forward, one=nn.Linear(1, 4), norm=nn.BatchNorm1d(4))).split()[-2:] == ["Linear", "BatchNorm1d"]


def test_an_image_without_a_batch_is_not_mistaken_for_one_with(randomise):
    import repcompiler

    model = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), Call(lambda m, x: F.relu(x[:, ::2]))).double().eval()
    x = torch.randn(4, 9, 7, dtype=torch.float64)
    torch.testing.assert_close(repcompiler.compile(model, x)(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_models_stay_so(randomise, dtype):
    import repcompiler

    model = randomise(nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).to(dtype)
    report = repcompiler.Report()
    result = repcompiler.compile(model, torch.randn(2, 4, 9, 9, dtype=dtype), report=report)
    assert report.verification.checked
    assert not report.reverted
    assert {parameter.dtype for parameter in result.parameters()} == {dtype}
    assert len(list(result.children())) == 2


def both(m, parts):
    one, two = parts
    return m.one(one) + m.two(two)


def halves(part):
    return {"one": nn.Conv2d(part, 4, 1), "two": nn.Conv2d(4 - part, 4, 3, padding=1)}


CHANNELS = {
    "slices": (2, lambda m, x: m.one(x[:, :2]) + m.two(x[:, 2:])),
    "negative slices": (1, lambda m, x: m.one(x[:, -1:]) + m.two(x[:, :-1])),
    "chunks": (2, lambda m, x: both(m, x.chunk(2, 1))),
    "split by size": (3, lambda m, x: both(m, torch.split(x, 3, dim=1))),
    "split into sizes": (1, lambda m, x: both(m, x.split([1, 3], dim=-3))),
    "one after the other": (2, lambda m, x: torch.cat((m.one(x[:, :2]), m.two(x[:, 2:])), 1)),
    "one beside the other": (2, lambda m, x: torch.concat([m.two(x[:, 1:3]), m.one(x[:, 1:3])], dim=-3)),
    "shuffled": (2, lambda m, x: m.one(F.channel_shuffle(x, 2)[:, :2]) - m.two(F.channel_shuffle(x, 2)[:, 2:])),
}


@pytest.mark.parametrize("name", CHANNELS)
def test_convolutions_of_parts_of_the_channels_become_one_of_all(plain, name):
    part, forward = CHANNELS[name]
    calls = plain(Call(lambda m, x: forward(m, F.relu(x)), **halves(part))).split()
    assert calls.count("Conv2d") == 1
    assert set(calls) == {"relu", "Conv2d"}


NOT_CHANNELS = {
    "columns joined": lambda m, x: torch.cat((m.conv(x), m.conv(-x)), 3),
    "images joined": lambda m, x: torch.cat((m.conv(x), m.conv(-x))),
    "columns split": lambda m, x: torch.cat(m.conv(x[..., :8]).split(3, 3)[::-1], 3),
    "with a constant": lambda m, x: torch.cat((m.conv(x), torch.ones(2, 1, 13, 18)), 1),
    "a part twice": lambda m, x: torch.cat((m.conv(x).chunk(2, 1)[1], x, m.conv(x).chunk(2, 1)[0]), 1),
}


@pytest.mark.parametrize("name", NOT_CHANNELS)
def test_what_is_cut_and_joined_otherwise_computes_the_same(exactly, name):
    exactly(Call(NOT_CHANNELS[name], conv=nn.Conv2d(4, 4, 1)))
