"""What is handed back: a GraphModule that runs, trains, copies, pickles and exports, and keeps what no rewrite touched."""

import copy
import io
import pickle

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import fx, nn

import repcompiler
from repcompiler.frontends.fx import FxDocument
from repcompiler.runtime import session


class Block(nn.Module):
    """A RepVGG block, cropping arms and a layer scale behind it."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv3, self.norm3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.norm0 = nn.BatchNorm2d(channels)
        self.gamma = nn.Parameter(torch.randn(channels, 1, 1))

    def forward(self, x):
        out = self.norm3(self.conv3(x))
        out += self.norm1(self.conv1(x))
        out += self.norm0(x)
        return F.relu(out * self.gamma)


class Net(nn.Module):
    """Blocks between layers that stay as they are."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.blocks = nn.Sequential(Block(), Block())
        self.pre = nn.BatchNorm2d(4)
        self.padded = nn.Conv2d(4, 4, 3, padding=1)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(4, 5)

    def forward(self, x):
        x = self.blocks(F.gelu(self.stem(x)))
        x = F.relu(self.padded(self.pre(x)))
        return self.head(self.drop(x).mean((2, 3)))


@pytest.fixture
def net(randomise):
    return randomise(Net())


@pytest.fixture
def x():
    return torch.randn(2, 3, 17, 14)


def test_untouched_layers_keep_their_names_and_numbers_and_replaced_ones_go(net, x):
    result = repcompiler.compile(net, x)
    before, after = net.state_dict(), result.state_dict()
    kept = before.keys() & after.keys()
    assert {name.split(".")[0] for name in kept} == {"stem", "pre", "padded", "head"}
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert set(after) - set(before) == {
        f"blocks.{index}.{name}" for index in (0, 1) for name in ("conv3_merged.weight", "conv3_merged.bias")
    }
    assert not any(isinstance(part, nn.BatchNorm2d) for part in result.get_submodule("blocks").modules())


def test_the_result_runs_at_other_sizes(net, x, same):
    result = repcompiler.compile(net, x)
    for size in ((1, 3, 8, 9), (3, 3, 30, 21)):
        other = torch.randn(size)
        same(net(other), result(other), 1e-5)


def test_every_parameter_of_the_result_trains(net, x):
    result = repcompiler.compile(net, x).train()
    result(x).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in result.parameters())


def test_frozen_parameters_stay_frozen(net, x):
    result = repcompiler.compile(net.requires_grad_(False), x)
    assert not any(parameter.requires_grad for parameter in result.parameters())


def test_the_result_copies_and_pickles_without_this_package(net, x):
    result = repcompiler.compile(net, x)
    assert torch.equal(copy.deepcopy(result)(x), result(x))
    data = pickle.dumps(result)
    assert b"repcompiler" not in data
    assert torch.equal(pickle.loads(data)(x), result(x))


def test_visible_writes_survive_pickling(x):
    class Sees(nn.Module):
        def forward(self, x):
            y = x * 2
            z = y.flatten(1)
            y[:, :, :1] = 0.5
            y += 1
            return z + y.flatten(1)

    region = FxDocument.trace(nn.Sequential(nn.Conv2d(3, 3, 1), Sees()).eval(), x).model
    assert torch.equal(pickle.loads(pickle.dumps(region))(x), region(x))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_the_result_exports_to_onnx_plain(net, x, dynamo):
    result = repcompiler.compile(net, x)
    file = io.BytesIO()
    if dynamo:
        free = torch.export.Dim.DYNAMIC
        torch.onnx.export(result, (x,), dynamo=True, dynamic_shapes=({0: free, 2: free, 3: free},), verbose=False).save(file)
    else:
        axes = {"x": {0: "batch", 2: "height", 3: "width"}}
        torch.onnx.export(result, (x,), file, dynamo=False, dynamic_axes=axes, input_names=["x"], output_names=["y"])
    model = onnx.load_from_string(file.getvalue())
    kinds = [node.op_type for node in model.graph.node]
    assert kinds.count("Conv") == 4
    other = torch.randn(1, 3, 9, 11)
    (y,) = session(file.getvalue()).run(None, {model.graph.input[0].name: other.numpy()})
    np.testing.assert_allclose(y, net(other).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_without_passes_the_network_is_only_traced(net, x, calls):
    result = repcompiler.compile(net, x, passes=[])
    assert result.state_dict().keys() == net.state_dict().keys()
    assert torch.equal(result(x), net(x))
    assert [name for name in calls(result).split() if "Norm" in name] == ["BatchNorm2d"] * 7


def test_forks_are_independent_and_share_their_weights(net, x):
    document = FxDocument.trace(net, x)
    fork = document.fork()
    assert {p.data_ptr() for p in fork.model.parameters()} == {p.data_ptr() for p in document.model.parameters()}
    before = document.model.code
    fork.model.graph.erase_node(next(iter(reversed(fork.model.graph.nodes))))
    fork.model.recompile()
    assert document.model.code == before


def test_statistics_count_calls_parameters_arithmetic_and_bytes():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()).eval()
    statistics = FxDocument.trace(model, torch.randn(1, 3, 10, 12)).statistics()
    assert statistics.operators == {"Conv2d": 1, "BatchNorm2d": 1, "ReLU": 1}
    assert statistics.parameters == 4 * 27 + 4 + 8
    assert statistics.macs == 4 * 27 * 120 + 4 * 120
    assert statistics.bytes == 4 * (statistics.parameters + 8) + 8


def test_assertions_that_always_hold_go_and_others_stay(x, calls):
    class Checks(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x):
            torch._assert(x.dim() == 4, "four axes")
            torch._assert(x.shape[1] == 3, f"three channels, not {x.shape[1]}")
            x = self.conv(x)
            torch._assert(x.ndim == 4, f"four axes, not {x.ndim}")
            torch._assert(x.shape[2] > 2, "rows")
            return self.norm(x)

    document = FxDocument.trace(Checks().eval(), x)
    assert calls(document.model).split().count("_assert") == 1
    with pytest.raises(AssertionError, match="rows"):
        document.model(torch.randn(1, 3, 3, 9))


def test_a_saved_model_is_what_torch_loads(net, x, tmp_path):
    document = FxDocument.trace(net, x)
    document.save(tmp_path / "net.pt")
    loaded = torch.load(tmp_path / "net.pt", weights_only=False)
    assert isinstance(loaded, fx.GraphModule)
    assert torch.equal(loaded(x), net(x))
    assert [path.name for path in tmp_path.iterdir()] == ["net.pt"]
