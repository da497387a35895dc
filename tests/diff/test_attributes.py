"""What a graph does not look into is compared as its document has it: attributes, constants it reads, weights of modules."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import repcompiler
from repcompiler.graphdiff.model import draw
from repcompiler.graphdiff.regions import differences, is_same
from repcompiler.ir import Graph, Value
from repcompiler.ops import Opaque
from repcompiler.refusal import refuse


def changes(diff):
    return [
        ([diff.before.boxes[place].text for place in r.before], [diff.after.boxes[place].text for place in r.after])
        for r in diff.links.regions
    ]


def told(diff):
    """In what the one operation that has changed differs."""
    [region] = diff.links.regions
    return differences(diff.before.boxes[region.before[0]], diff.after.boxes[region.after[0]])


def file(*nodes, **arrays):
    """A model of x, (1, 4, 6, 5), and y."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4, 6, 5]) for name in "xy"]
    weights = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    graph = helper.make_graph(list(nodes), "g", values[:1], values[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def normalised(axis):
    node = helper.make_node("LpNormalization", ["x"], ["n"], axis=axis)
    return file(node, helper.make_node("Softplus", ["n"], ["y"]))


def test_another_attribute_of_an_operator_is_a_change():
    diff = repcompiler.diff(normalised(1), normalised(2), verify=False)
    assert changes(diff) == [(["LpNormalization axis=1"], ["LpNormalization axis=2"])]
    assert told(diff) == ["axis: 1 \N{RIGHTWARDS ARROW} 2"]
    assert told(diff)[0] in diff.to_text()


def test_an_attribute_that_states_the_default_is_none():
    stated, silent = normalised(-1), file(helper.make_node("LpNormalization", ["x"], ["n"]), normalised(1).graph.node[1])
    assert changes(repcompiler.diff(stated, silent, verify=False)) == []


@pytest.mark.parametrize("kind", ["HardSigmoid", "Clip", "Softmax"])
def test_another_number_in_an_operation_that_is_looked_into_is_a_change(kind):
    def model(number):
        limits = {"Clip": ["low", "high"]}.get(kind, [])
        attributes = {"HardSigmoid": {"alpha": number / 10}, "Softmax": {"axis": number}}.get(kind, {})
        arrays = {"low": np.float32(-1), "high": np.float32(number)} if limits else {}
        return file(helper.make_node(kind, ["x", *limits], ["y"], **attributes), **arrays)

    assert changes(repcompiler.diff(model(4), model(4))) == []
    [(went, came)] = changes(repcompiler.diff(model(4), model(6)))
    assert len(went) == len(came) == 1


def test_another_constant_that_is_read_is_a_change():
    def model(number):
        return file(helper.make_node("Pow", ["x", "exponent"], ["y"]), exponent=np.float32(number))

    assert changes(repcompiler.diff(model(4), model(4))) == []
    diff = repcompiler.diff(model(4), model(6))
    assert changes(diff) == [(["Pow"], ["Pow"])]
    assert told(diff) == ["exponent: other numbers, by up to 0.5 of the largest"]


class Head(nn.Module):
    def __init__(self, dim=-1, offset=1e-5):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm, self.dim = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4, eps=offset), dim

    def forward(self, x):
        return torch.cumsum(self.norm(self.conv(x)), self.dim)


IMAGE = torch.randn(1, 3, 8, 7)


def test_other_arguments_of_a_call_are_a_change():
    assert changes(repcompiler.diff(Head().eval(), Head().eval(), IMAGE)) == []
    [(went, came)] = changes(repcompiler.diff(Head().eval(), Head(dim=2).eval(), IMAGE))
    assert (went, came) == (["cumsum arguments=_, -1"], ["cumsum arguments=_, 2"])


def test_another_setting_or_weight_of_a_module_is_a_change():
    [(went, came)] = changes(repcompiler.diff(Head().eval(), Head(offset=0.1).eval(), IMAGE))
    assert "eps=1e-05" in went[0]
    assert "eps=0.1" in came[0]
    other = Head().eval()
    other.norm.weight.data[1] = 2
    diff = repcompiler.diff(Head().eval(), other, IMAGE)
    [(went, came)] = changes(diff)
    assert went == came
    assert told(diff) == ["weight: other numbers, by up to 1 of the largest"]


def test_modules_without_a_name_in_common_are_matched_by_values():
    class Renamed(Head):
        def __init__(self):
            super().__init__()
            self.first, self.second = self.conv, self.norm
            del self.conv, self.norm

        def forward(self, x):
            return torch.cumsum(self.second(self.first(x) + 0.0), -1)

    diff = repcompiler.diff(Head().eval(), Renamed().eval(), IMAGE)
    kinds = {diff.before.boxes[pair.before].kind: diff.after.boxes[pair.after].kind for pair in diff.links.pairs}
    assert kinds == {"Input": "Input", "Conv": "Conv", "GroupNorm": "GroupNorm", "cumsum": "cumsum"}


def test_an_annotated_copy_leaves_the_result_as_it_was(blocks, tmp_path):
    path, report = blocks(blocks=1), repcompiler.Report()
    plain = repcompiler.compile(path, report=report)
    bytes_before = plain.SerializeToString()
    repcompiler.diff(path, plain, report=report).to_onnx(tmp_path / "annotated.onnx")
    assert plain.SerializeToString() == bytes_before
    assert any(node.metadata_props for node in onnx.load(tmp_path / "annotated.onnx").graph.node)


def test_a_constant_that_cannot_be_computed_is_not_compared():
    made = Graph()
    x, noise, y = Value("x"), Value("noise", constant=lambda: refuse("it is random")), Value("y")
    made.inputs, made.outputs = [x], [y]
    made.add(Opaque("Blend"), [x, noise], [y])
    _, box = draw(made, "a").boxes
    assert is_same(box, box)
    assert differences(box, box) == []
