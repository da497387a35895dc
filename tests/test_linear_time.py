"""The work of a compilation grows with the number of nodes, not with its square: counted in calls, which no load changes."""

import sys
from functools import partial

import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import repcompiler

COUNTS = (24, 48, 72)
BEND = 0.002
"""Of the growth, at most: how much more the second as many blocks may take than the first."""


def calls(function):
    """How many functions are called, those in C among them."""
    count = 0

    def seen(frame, event, argument):
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def onnx_chain(count):
    """Convolution, batch norm and ReLU over and over, each with weights of its own."""
    rng = torch.Generator().manual_seed(0)
    nodes, weights, value = [], [], "x"

    def weight(*shape):
        weights.append(numpy_helper.from_array(torch.rand(shape, generator=rng).numpy() + 0.5, f"w{len(weights)}"))
        return weights[-1].name

    def node(kind, *inputs, **attributes):
        nodes.append(helper.make_node(kind, inputs, [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    for _ in range(count):
        value = node("Conv", value, weight(3, 3, 3, 3), pads=[1] * 4)
        value = node("Relu", node("BatchNormalization", value, *(weight(3) for _ in range(4))))
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 6, 5]) for name in ("x", value)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


class Residual(nn.Module):
    """A batch norm of a convolution beside what it reads."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)) + x)


def torch_chain(count):
    return nn.Sequential(*(Residual() for _ in range(count))).eval()


def bend(function, count_of_blocks):
    """How much more the second as many blocks take than the first, as a part of that."""
    function(count_of_blocks(1))  # what is done once a process
    few, some, many = (calls(partial(function, count_of_blocks(count))) for count in COUNTS)
    return ((many - some) - (some - few)) / (some - few)


def test_twice_as_many_blocks_are_twice_the_work_to_compile():
    assert bend(repcompiler.compile, onnx_chain) < BEND
    assert bend(lambda model: repcompiler.compile(model, torch.zeros(1, 3, 6, 5)), torch_chain) < BEND


@pytest.mark.parametrize("verify", [True, False])
def test_twice_as_many_blocks_are_twice_the_work_to_show_what_differs(verify):
    def text(model):
        return repcompiler.diff(model, repcompiler.compile(model), verify=verify).to_text()

    assert bend(text, onnx_chain) < BEND
