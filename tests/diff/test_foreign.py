"""The diff of two files of which nobody has told what became of what: names, then structure, then values."""

import json

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import repcompiler
from repcompiler.alignment import align
from repcompiler.graphdiff.model import draw
from repcompiler.graphdiff.regions import links
from repcompiler.testing import build, random_batch_norm, random_conv, relu


def rename(path, target):
    """The same model with other names for all values but inputs and outputs."""
    model = onnx.load(path)
    fixed = {value.name for value in (*model.graph.input, *model.graph.output)}
    names = {}
    for node in model.graph.node:
        for values in (node.input, node.output):
            for index, name in enumerate(values):
                if name not in fixed:
                    values[index] = names.setdefault(name, f"t{len(names)}")
    for tensor in model.graph.initializer:
        tensor.name = names[tensor.name]
    onnx.save(model, target)
    return target


def changes(diff):
    """(operations that went, operations that came) of each region."""
    sides = lambda drawing, places: [drawing.boxes[place].kind for place in places]  # noqa: E731
    return [(sides(diff.before, r.before), sides(diff.after, r.after)) for r in diff.links.regions]


def is_whole(diff):
    """Whether each box of either side is in exactly one pair or region."""
    for side, drawing in (("before", diff.before), ("after", diff.after)):
        places = [getattr(pair, side) for pair in diff.links.pairs]
        places += [place for region in diff.links.regions for place in getattr(region, side)]
        if sorted(places) != list(range(len(drawing.boxes))):
            return False
    return True


def test_a_file_is_the_same_as_itself(blocks):
    path = blocks()
    diff = repcompiler.diff(path, path)
    assert changes(diff) == []
    assert len(diff.links.pairs) == len(diff.before.boxes)
    assert diff.verification.equal


def test_a_file_under_other_names_is_the_same(blocks, tmp_path):
    path = blocks(blocks=3)
    diff = repcompiler.diff(path, rename(path, tmp_path / "renamed.onnx"))
    assert changes(diff) == []
    assert is_whole(diff)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_compiled_file_is_aligned_block_by_block(blocks, tmp_path, renamed):
    path = blocks(blocks=3)
    plain = tmp_path / "plain.onnx"
    onnx.save(repcompiler.compile(path), plain)
    diff = repcompiler.diff(path, rename(plain, tmp_path / "renamed.onnx") if renamed else plain)
    assert is_whole(diff)
    assert sorted(len(went) for went, _ in changes(diff)) == [7, 7, 7]
    assert all(came == ["Conv"] for _, came in changes(diff))


def test_other_weights_are_a_change(blocks, tmp_path):
    path = blocks(blocks=2)
    model = onnx.load(path)
    [kernel] = [tensor for tensor in model.graph.initializer if tensor.name == "block1/w3"]
    kernel.CopyFrom(numpy_helper.from_array(2 * numpy_helper.to_array(kernel), kernel.name))
    onnx.save(model, tmp_path / "tuned.onnx")
    diff = repcompiler.diff(path, tmp_path / "tuned.onnx")
    assert changes(diff) == [(["Conv"], ["Conv"])]
    assert not diff.verification.equal
    assert "They differ" in diff.to_html()


def test_a_name_is_not_believed_against_the_numbers():
    rng = np.random.default_rng(0)
    conv, norm, folded = random_conv(rng, 4, 4, 3), random_batch_norm(rng, 4), random_conv(rng, 4, 4, 3)
    before = draw(build(lambda x: relu(norm(conv(x))), x=(1, 4, 8, 8)), "before")
    after = draw(build(lambda x: relu(folded(x)), x=(1, 4, 8, 8)), "after")
    assert before.boxes[1].name == after.boxes[1].name
    [believed, _] = links(before, after, align(before.graph, after.graph, {})).regions
    assert (believed.before, believed.after, believed.how, believed.certain) == ((1,), (1,), "name", True)
    of_conv, of_norm = (6.0, 0.9, 0.7, 0.3), (6.0, 0.5, 0.1, 0.2)
    prints = {before.boxes[1].value: of_conv, before.boxes[2].value: of_norm}, {after.boxes[1].value: of_norm}
    [region] = links(before, after, align(before.graph, after.graph, {}, prints)).regions
    assert (region.before, region.after, region.how, region.certain) == ((1, 2), (1,), "structure", True)


def test_files_that_cannot_be_fed_alike_are_not_compared(blocks):
    path = blocks()
    model = onnx.load(path)
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))
    diff = repcompiler.diff(path, model)
    assert diff.verification is None
    assert "Not compared" in diff.to_text()


def test_json_is_whole(blocks):
    path = blocks(blocks=1)
    content = json.loads(repcompiler.diff(path, path).to_json())
    assert [box["name"] for box in content["before"]["boxes"]][:2] == ["x", "block0/conv3"]
    assert content["regions"] == []
