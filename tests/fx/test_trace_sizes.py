"""Which extents of the inputs a trace leaves free, and parts whose number depends on them."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn
from torch_blocks import Residual, pair

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.frontends.fx_inputs import guess_inputs


@pytest.mark.parametrize("example", [True, False])
def test_inputs_have_symbols_where_the_model_takes_other_sizes(example):
    model = nn.Sequential(nn.ReLU(), *pair(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    (spec,) = FxDocument.trace(model, torch.randn(1, 4, 20, 24) if example else None).inputs()
    assert (spec.name, spec.shape, spec.dtype) == ("input_1", ("batch", 4, "height", "width"), "float32")


def test_an_input_of_fixed_size_has_that_size():
    model = nn.Sequential(*pair(), nn.Flatten(), nn.Linear(4 * 20 * 24, 2)).eval()
    (spec,) = FxDocument.trace(model, torch.randn(1, 4, 20, 24)).inputs()
    assert spec.shape == ("batch", 4, 20, 24)


class Clips(nn.Module):
    """A batch of clips, four frames of each side by side, some channels of a frame taken from the one before."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        frames, channels, height, width = x.size()
        clips = x.view(frames // 4, 4, channels, height, width)
        return self.norm(self.conv(clips.roll(1, 1).view(frames, channels, height, width)))


class Windows(nn.Module):
    """Tokens of windows of seven pixels."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x):
        batch, channels, height, width = x.size()
        windows = x.view(batch, channels, height // 7, 7, width // 7, 7)
        return self.norm(self.conv(windows.permute(0, 1, 3, 2, 5, 4).reshape(batch, channels, height, width)))


@pytest.mark.parametrize(
    ("kind", "example", "other", "known"),
    [
        (Clips, (8, 4, 9, 10), (4, 4, 5, 3), ("batch", 4, "height", "width")),
        (Windows, (1, 4, 14, 21), (2, 4, 7, 28), ("batch", 4, "height", "width")),
    ],
)
def test_extents_that_have_to_divide_are_free_all_the_same(same, randomise, kind, example, other, known):
    model = randomise(kind()).double()
    (spec,) = FxDocument.trace(model, torch.randn(example, dtype=torch.float64)).inputs()
    assert spec.shape == known
    x = torch.randn(other, dtype=torch.float64)
    result = repcompiler.compile(model, torch.randn(example, dtype=torch.float64), objective="plain")
    same(model(x), result(x))


def test_an_input_that_no_layer_reads_is_unknown_without_an_example():
    class Gathers(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(5, 4))

        def forward(self, index):
            return self.table[index]

    (spec,) = FxDocument.trace(Gathers().eval()).inputs()
    assert spec.shape is None


def test_a_guess_that_the_model_does_not_run_on_asks_for_an_example():
    class Gathers(Residual):
        def forward(self, index):
            return super().forward(self.wide[0].weight[index])

    report = repcompiler.Report()
    repcompiler.compile(Gathers().eval(), report=report)
    assert "give example inputs" in report.verification.summary()


class Padded(nn.Module):
    """A border of the user's own before the convolutions."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return self.layers(F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2)))


class Blocks(Padded):
    """Space to depth, before convolutions of many channels."""

    def forward(self, x):
        batch, channels, height, width = x.shape
        blocks = x.view(batch, channels, height // 2, 2, width // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return self.layers(blocks.reshape(batch, 4 * channels, height // 2, width // 2))


class Decides(Padded):
    """A forward that is not traced; its layers are compiled one by one."""

    def forward(self, x):
        return self.layers(x if x.mean() > 0 else -x)


class Insists(Padded):
    """A forward that takes one size."""

    def forward(self, x):
        assert x.shape[-1] == 240, "the width must be 240"
        return self.layers(x)


class AcrossChannels(Padded):
    """The channels' means as one row, as in efficient channel attention."""

    def forward(self, x):
        means = F.adaptive_avg_pool2d(x, 1)
        return x * self.layers(means.reshape(x.shape[0], 1, x.shape[1]).tanh()).view_as(means)


def test_a_layer_of_images_on_the_way_says_how_many_axes_there_are(same, randomise):
    """A pool takes one image by itself, too: then its channels would be the batch."""
    model = randomise(AcrossChannels(nn.Conv1d(1, 1, 3, padding=1))).double()
    (spec,) = guess_inputs(FxDocument.trace(model).region)
    assert spec.shape is not None
    assert len(spec.shape) == 4
    x = torch.randn(2, 1, 6, 5, dtype=torch.float64)
    same(model(x), repcompiler.compile(model, objective="plain")(x))


@pytest.mark.parametrize(("kind", "channels"), [(Padded, 5), (Blocks, 12), (Decides, 5), (Insists, 2)])
def test_what_the_first_convolution_reads_says_what_the_model_takes(same, randomise, kind, channels):
    model = kind(nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU()))
    model = randomise(model).double()
    report = repcompiler.Report()
    result = repcompiler.compile(model, report=report)
    assert report.verification.checked
    x = torch.randn(2, channels // 4 if kind is Blocks else channels, 8, 240, dtype=torch.float64)
    same(model(x), result(x))
    assert not any(isinstance(part, nn.BatchNorm2d) for part in result.modules())


def test_an_error_that_two_sizes_share_is_not_of_the_size(randomise):
    tried = set()

    class Lacks(Padded):
        def forward(self, x):
            if type(x) is torch.Tensor:
                tried.add(x.shape)
            raise RuntimeError("an extension that is not installed")

    repcompiler.compile(randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), Lacks(nn.ReLU()))))
    assert len(tried) == 2


def test_a_model_that_takes_none_of_the_sizes_of_a_verification_is_verified_on_what_it_was_traced_on(randomise):
    model = randomise(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(250)))
    report = repcompiler.Report()
    repcompiler.compile(model, report=report)
    assert report.verification.probes == ["1x3x256x256"]


def test_branches_of_one_size_here_and_another_there_are_not_merged(plain):
    class Sizes(nn.Module):
        """The strided branches agree in size at odd extents only; the model takes nothing else."""

        def __init__(self):
            super().__init__()
            self.wide, self.narrow = nn.Conv2d(4, 4, 2, stride=2, bias=False), nn.Conv2d(4, 4, 3, stride=2, bias=False)

        def forward(self, x):
            return F.relu(self.wide(x) + self.narrow(x))

    with pytest.raises(RuntimeError):
        Sizes()(torch.randn(1, 4, 6, 6))
    model = Sizes().double().eval()
    x = torch.randn(1, 4, 7, 7, dtype=torch.float64)
    result = repcompiler.compile(model, x, objective="plain")
    assert sum(isinstance(part, nn.Conv2d) for part in result.modules()) == 2


@fx.wrap
def divided(x, sizes):
    sizes[0] *= 2
    return x / sizes[0]


def test_a_function_that_writes_into_a_list_it_is_given(exactly):
    class Divides(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.bn, self.sizes = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), [3, 5]

        def forward(self, x):
            return divided(self.bn(self.conv(x)), [*self.sizes])

    _, report = exactly(Divides())
    assert report.counts() == {"fold_batch_norm": 1}


class Parts(nn.Module):
    """Two parts of the channels, each through a layer of its own."""

    def __init__(self, parted):
        super().__init__()
        self.parted, self.layers = parted, nn.ModuleList([nn.Conv2d(2, 2, 1), nn.Conv2d(2, 2, 3, padding=1)])

    def forward(self, x):
        return torch.cat([layer(part) for layer, part in zip(self.layers, self.parted(x), strict=True)], 1)


def unpacked(x):
    first, second = x.split(2, dim=1)
    return first, second


@pytest.mark.parametrize(
    "parted",
    [
        lambda x: list(x.chunk(2, 1)),
        lambda x: torch.chunk(x, chunks=2, dim=1),
        lambda x: [*torch.split(x, [2, 2], dim=1)],
        lambda x: list(x.split((2, 2), 1)),
        unpacked,
    ],
)
def test_parts_of_the_channels_are_traced_through(parted, plain):
    assert plain(Parts(parted)) == "Conv2d"


def test_parts_whose_number_depends_on_the_input_are_traced_around(plain):
    assert plain(nn.Sequential(Parts(lambda x: list(x.split(2, 1))), *pair())) == "Parts Conv2d"


class Positions(nn.Module):
    """Tokens with positions, of a table that larger images do not fit into; how many there are is said in a view."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, 32, 1), nn.BatchNorm2d(4)
        self.table = nn.Parameter(torch.randn(1, 4, 7, 7))

    def forward(self, x):
        x = self.norm(self.conv(x))
        rows, columns = x.shape[-2:]
        return x.reshape(-1, 4, rows * columns) + self.table[..., :rows, :columns].reshape(1, 4, rows * columns)


@pytest.mark.parametrize("example", [True, False])
def test_a_size_that_no_larger_one_is_taken_beside_is_not_the_only_one(same, randomise, example):
    model = randomise(Positions()).double()
    result = repcompiler.compile(model, torch.randn(1, 4, 160, 224).double() if example else None)
    for size in ((160, 224), (224, 224), (128, 160), (33, 97)):
        x = torch.randn(2, 4, *size).double()
        same(model(x), result(x))


def test_a_guess_that_does_not_run_on_two_at_a_time_is_none(same, randomise):
    """Seed 25041: the mean of a row of one number runs as well as that of an image, and says the batch in a view."""

    class Means(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two = nn.Linear(1, 2), nn.Linear(2, 1)

        def forward(self, x):
            return self.two(self.one(x.mean([-2, -1], keepdim=True).flatten(1))).reshape(x.size(0), 1, 1, 1)

    model = randomise(Means()).double()
    result = repcompiler.compile(model, objective="plain", verify=False)
    for batch in (1, 3):
        x = torch.randn(batch, 1, 7, 9).double()
        same(model(x), result(x))
