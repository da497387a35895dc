"""What a forward asks in Python: answered where the answer is the same at every size."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional

import repcompiler


def pair(k=3):
    return nn.Sequential(nn.Conv2d(4, 4, k, padding=k // 2, bias=False), nn.BatchNorm2d(4))


class Asks(nn.Module):
    """RepVGG without its activation, behind a question."""

    def __init__(self, ask):
        super().__init__()
        self.wide, self.narrow, self.ask, self.channels = pair(3), pair(1), ask, 4

    def forward(self, x):
        x = self.ask(self, x)
        return self.wide(x) + self.narrow(x)


def unpacked(m, x):
    _, channels, *extents = x.shape
    return x if channels == 4 and len(extents) == 2 else -x


def with_batch(m, x):
    return x.unsqueeze(0) if x.dim() == 3 else x


def grey(m, x):
    return x.repeat(1, 4, 1, 1) if x.shape[1] == 1 else x


@pytest.mark.parametrize(
    "ask",
    [
        with_batch,
        grey,
        unpacked,
        lambda m, x: x if x.ndim == 4 and len(x.shape) == 4 else -x,
        lambda m, x: x if x.size(1) == m.channels and x.shape[-3] != 5 else -x,
        lambda m, x: x if int(x.shape[1] * 0.5) == 2 else -x,
        lambda m, x: sum(x[:, :1] for _ in range(x.shape[1] - 4)) + x,
        lambda m, x: x if all(size is not None for size in x.size()[1:]) else -x,
    ],
)
def test_ranks_and_channels_are_known_at_every_size(ask, exactly):
    model, _ = exactly(Asks(ask))
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 1


def missing(extent, kernel_size, stride):
    """Pixels that are missing at the border for TensorFlow's SAME padding, as timm counts them."""
    if isinstance(extent, torch.Tensor):
        return torch.clamp((torch.ceil(extent / stride) - 1) * stride + kernel_size - extent, min=0)
    return max((math.ceil(extent / stride) - 1) * stride + kernel_size - extent, 0)


class Same(nn.Conv2d):
    """A convolution that pads by as much as its input's size needs."""

    def forward(self, x):
        height, width = x.size()[-2:]
        rows, columns = (missing(n, k, s) for n, k, s in zip((height, width), self.weight.shape[-2:], self.stride, strict=True))
        x = functional.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride)


@pytest.mark.parametrize("example", [True, False])
def test_a_padding_that_is_computed_from_the_size_leaves_the_convolution_to_be_merged(same, randomise, example):
    model = randomise(
        nn.Sequential(Same(4, 6, 3, 2), nn.BatchNorm2d(6), nn.ReLU(), Same(6, 4, 5, 3), nn.BatchNorm2d(4))
    ).double()
    x = torch.randn(2, 4, 9, 10).double()
    result = repcompiler.compile(model, x if example else None)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in result.modules())
    assert sum(p.numel() for p in result.parameters()) == sum(
        p.numel() for part in (model[0], model[3]) for p in part.parameters()
    )
    for size in ((9, 10), (10, 7), (4, 5), (1, 2)):
        x = torch.randn(2, 4, *size).double()
        same(model(x), result(x))


def test_the_larger_of_two_numbers_of_channels_is_a_number(exactly):
    model, _ = exactly(Asks(lambda m, x: sum(x[:, :1] for _ in range(max(x.shape[1] - 4, 0))) + x))
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 1


@pytest.mark.parametrize(("ask", "other"), [(with_batch, (4, 9, 10)), (grey, (2, 1, 9, 10))])
def test_inputs_for_which_it_may_be_answered_otherwise_are_refused(ask, other, exactly):
    model, _ = exactly(Asks(ask))
    for result in (model, repcompiler.compile(model, torch.randn(2, 4, 9, 10).double())):
        with pytest.raises(AssertionError, match="compiled for 'x' of 4"):
            result(torch.randn(other).double())


@pytest.mark.parametrize(
    "ask",
    [
        lambda m, x: x if x.shape[2] > 8 else -x,
        lambda m, x: x if x.shape[0] == 2 else -x,
        lambda m, x: x if len(x) == 2 else -x,
        lambda m, x: x if x.size(2) % 2 else -x,
        lambda m, x: x if x.mean() > 0 else -x,
        lambda m, x: sum(x[:, :, i : i + 1] for i in range(x.shape[2])) + x,
    ],
)
def test_what_depends_on_the_input_is_not_answered(ask, exactly, calls):
    assert calls(exactly(Asks(ask))[0]) == "Asks Conv2d Conv2d"


OF_TYPES = {
    "the type": lambda m, x: -x if x.dtype == torch.float16 else x,
    "one of several types": lambda m, x: -x if x.dtype in (torch.float16, torch.bfloat16) else x,
    "that of a weight": lambda m, x: x if x.dtype == m.wide[0].weight.dtype else x.to(m.wide[0].weight.dtype),
    "whether it is a float": lambda m, x: x if torch.is_floating_point(x) else x.float() / 255,
    "the same as a method": lambda m, x: x if x.is_floating_point() and not x.is_complex() else -x,
    "the same of its type": lambda m, x: x if x.dtype.is_floating_point else -x,
    "the type of a result": lambda m, x: -x if (x * 2).dtype == torch.float16 else x,
    "limits of the type": lambda m, x: x * 2 if torch.finfo(x.dtype).bits == 16 else x,
    "rank and type": lambda m, x: x if x.dim() == 4 and x.dtype != torch.float16 else -x,
}


@pytest.mark.parametrize("example", [True, False])
@pytest.mark.parametrize("name", OF_TYPES)
def test_types_are_those_of_the_example_or_of_the_weights(name, example, exactly):
    finfo = torch.finfo
    model, _ = exactly(Asks(OF_TYPES[name]), example=example)
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 1
    assert torch.finfo is finfo
    with pytest.raises(AssertionError, match=r"compiled for torch\.float64 in 'x'"):
        model.float()(torch.randn(2, 4, 9, 10))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_type_answers_is_verified_in_double_precision_too(dtype, randomise):
    def limited(m, x):
        return x.clamp(-65504, 65504) if x.dtype == dtype else x.mean().expand_as(x)

    report = repcompiler.Report()
    model = randomise(Asks(limited)).to(dtype)
    result = repcompiler.compile(model, report=report)
    assert report.verification.checked
    assert not report.reverted
    assert sum(isinstance(part, nn.Conv2d) for part in result.modules()) == 1
    x = torch.randn(2, 4, 9, 10).to(dtype)
    torch.testing.assert_close(result(x), model(x), rtol=0.05, atol=0.1)


def test_limits_of_a_type_are_numbers(exactly, calls):
    model, _ = exactly(Asks(lambda m, x: x.clamp(min=-torch.finfo(x.dtype).max, max=torch.finfo((x + 1).dtype).eps)))
    assert calls(model) == "eq _assert clamp Conv2d"


@pytest.mark.parametrize("ask", [with_batch, grey])
def test_without_an_example_a_made_up_input_answers(ask, plain):
    assert plain(Asks(ask), example=False).split()[-1] == "Conv2d"


def listed(m, x):
    values = [x] if isinstance(x, torch.Tensor) else x
    return values[0] if not isinstance(x, (list, tuple)) else None


@pytest.mark.parametrize("example", [True, False])
def test_python_takes_a_tensor_for_one(plain, example):
    assert plain(Asks(listed), example=example) == "Conv2d"


def test_types_that_are_not_known_are_not_guessed(plain):
    class Undecided(nn.Module):
        """What is inside it is called with nobody knows what."""

        def __init__(self):
            super().__init__()
            self.inside = Asks(listed)

        def forward(self, x):
            return self.inside(x) if x.sum() > 0 else self.inside(-x)

    assert plain(nn.Sequential(Undecided())) == "Undecided Conv2d Conv2d"


@pytest.mark.parametrize("axis", [0, 2])
def test_a_model_that_takes_one_size_answers_for_that_size(axis, exactly):
    def fixed(m, x):
        if x.shape[axis] != m.extent:
            raise ValueError("another size")
        return x

    block = Asks(fixed)
    block.extent = 6
    shape = (6, 4, 6, 5)
    model, _ = exactly(block, shape=shape) if axis else (repcompiler.compile(block.eval(), torch.randn(shape)), None)
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 1
    with pytest.raises(AssertionError, match="compiled for 'x'"):
        model(torch.randn(3, 4, 3, 5).to(next(model.parameters())))


def test_what_is_asked_of_a_block_inside_is_asserted_of_the_input(exactly):
    model, _ = exactly(nn.Sequential(pair(), nn.ReLU(), Asks(with_batch)))
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 2
    with pytest.raises(AssertionError, match="compiled for 'input_1' of 4 axes"):
        model(torch.randn(4, 9, 10).double())


def test_answering_changes_nothing_in_the_model(exactly):
    class Counts(Asks):
        def __init__(self):
            super().__init__(with_batch)
            self.register_buffer("runs", torch.zeros(1))
            self.seen = []

        def forward(self, x):
            y = super().forward(x)
            if y.dim() == 4:
                self.runs += 1
                self.seen.append(1)
            return y

    model, _ = exactly(Counts())
    assert model.runs.item() == 4
    assert not hasattr(model, "seen")


def test_the_answered_model_is_exported(tmp_path):
    repcompiler.export(Asks(grey).eval(), tmp_path / "plain.onnx", torch.randn(1, 4, 9, 10))
    onnx = pytest.importorskip("onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "plain.onnx").graph.node] == ["Conv"]


def with_zeros(m, x):
    return torch.cat([x, torch.zeros(x.shape[0], 2, *x.shape[2:], dtype=x.dtype, device=x.device)], 1)[:, :4]


def with_positions(m, x):
    height, width = x.shape[-2:]
    rows, columns = torch.arange(height, device=x.device), torch.linspace(0, 1, width, dtype=x.dtype)
    return x + (rows[:, None] * columns) / (height * width)


def with_a_map_that_is_filled(m, x):
    out = torch.empty((*x.shape[:2], x.shape[2] + 1, x.shape[3]), dtype=x.dtype)
    out[:, :, 1:] = x
    out[:, :, :1] = torch.full((x.size(0), 4, 1, x.size(3)), 0.5, dtype=x.dtype)
    return out


@pytest.mark.parametrize("ask", [with_zeros, with_positions, with_a_map_that_is_filled])
def test_tensors_made_to_the_size_of_the_input_are_made_when_it_runs(ask, exactly):
    zeros = torch.zeros
    model, _ = exactly(Asks(ask))
    assert sum(isinstance(part, nn.Conv2d) for part in model.modules()) == 1
    assert torch.zeros is zeros
