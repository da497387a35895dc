"""repc verify: two files, its verdict, its exit code, and where they part."""

import json
import subprocess
import sys
import tracemalloc

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

import repcompiler
from repcompiler import ModelError, verify
from repcompiler.cli import main
from repcompiler.difference import pattern

BLOCK = """
    a = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3, b_4)  n = BatchNormalization<epsilon=0.001>(a, g_4, h_4, m_4, var_4)  r = Relu(n)
    p = Conv(r, p_4x4x1x1, c_4)  q = Conv<pads=[1,0,1,0]>(x, q_4x4x3x1)  y = Sub(p, q)
"""


@pytest.fixture
def files(model, tmp_path):
    """Paths of a block, of the same, and of one whose padding has moved."""
    bodies = {"a": BLOCK, "same": BLOCK, "moved": BLOCK.replace("[1,0,1,0]", "[2,0,0,0]")}
    for name, body in bodies.items():
        onnx.save(model(body), tmp_path / f"{name}.onnx")
    return {name: tmp_path / f"{name}.onnx" for name in bodies}


def repc_verify(*arguments, code):
    result = CliRunner().invoke(main, ["verify", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_equal_files_end_with_0_and_different_ones_with_1(files):
    shown = repc_verify(files["a"], files["same"], code=0).stdout
    assert "equal: off by" in shown
    assert "run on 2x4x45x67, 2x4x45x67 large, 2x4x45x67 impulses" in shown
    shown = repc_verify(files["a"], files["moved"], code=1).stdout
    assert "different: on 6 of 7 probes" in shown
    assert "they part at 'q', made by Conv 4->4 3x1" in shown


def test_a_file_equals_its_compiled_form(files, tmp_path):
    plain = tmp_path / "plain.onnx"
    assert CliRunner().invoke(main, [str(files["a"]), "-o", str(plain), "--quiet"]).exit_code == 0
    assert repc_verify(files["a"], plain, "--quiet", code=0).output == ""


def test_everything_is_in_the_json(files, tmp_path):
    repc_verify(files["a"], files["moved"], "--json", tmp_path / "report.json", "-q", code=1)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verdict"] == "different"
    assert report["difference"]["value"] == "q"
    assert report["difference"]["after"] == ["x"]
    assert report["outputs"][0]["name"] == "y"
    assert not report["outputs"][0]["equal"]
    shown = repc_verify(files["a"], files["same"], "--json", "-", code=0)
    assert json.loads(shown.stdout)["verdict"] == "equal"


def test_arrays_from_a_file_come_first(files, tmp_path):
    np.savez(tmp_path / "data.npz", x=np.ones((1, 4, 6, 7), "f"))
    assert "run on 1x4x6x7 given, " in repc_verify(files["a"], files["same"], "--inputs", tmp_path / "data.npz", code=0).stdout


def test_torch_is_not_imported(files):
    program = (
        f"from repcompiler.cli import main; main(['verify', *{[str(files['a']), str(files['moved'])]!r}], prog_name='repc')"
    )
    check = "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules)); "
    done = subprocess.run([sys.executable, "-c", check + program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "False"


def test_bad_input_is_said_in_one_line(files, tmp_path, model, rejects):
    (tmp_path / "bad.npz").write_bytes(b"no arrays")
    np.savez(tmp_path / "wrong.npz", z=np.ones(3), u=np.ones(2))
    others = {
        "two": ("y = Add(x, v)", {"inputs": "float[N,4,H,W] v"}),
        "results": ("y = Relu(x) z = Relu(x)", {"outputs": "float[a,b,c,d] z"}),
        "half": ("y = Relu(x)", {"dtype": "float16"}),
        "rank": ("y = Relu(x)", {"x": "N,4,T"}),
        "channels": ("y = Relu(x)", {"x": "N,5,H,W"}),
        "foreign": ("y = their.Thing(x)", {"imports": ', "their" : 1'}),
    }
    for name, (body, options) in others.items():
        onnx.save(model(body, **options), tmp_path / f"{name}.onnx")
    for message, name in (
        ("the first model has 1 input ('x'), the second 2 ('x', 'v')", "two"),
        ("the first model has 1 output ('y'), the second 2 ('y', 'z')", "results"),
        ("input 'x' is float32 in the first model and float16 in the second", "half"),
        ("input 'x' has 4 axes in the first model and 3 in the second", "rank"),
        ("input 'x' is Nx4xHxW in the first model and Nx5xHxW in the second", "channels"),
        ("no such file", "missing"),
    ):
        rejects(message, "verify", files["a"], tmp_path / f"{name}.onnx")
    rejects("nothing can be said: the source does not run", "verify", tmp_path / "foreign.onnx", tmp_path / "foreign.onnx")
    rejects("not an .npz file", "verify", files["a"], files["same"], "--inputs", tmp_path / "bad.npz")
    rejects("No such file", "verify", files["a"], files["same"], "--inputs", tmp_path / "none.npz")
    rejects("lacks x", "verify", files["a"], files["same"], "--inputs", tmp_path / "wrong.npz")


def test_inputs_and_outputs_are_matched_by_name_in_any_order(model):
    one = model("y = Sub(x, v) z = Relu(v)", inputs="float[N,4,H,W] v", outputs="float[a,b,c,d] z")
    other = model("y = Sub(x, v) z = Relu(v)", inputs="float[N,4,H,W] v", outputs="float[a,b,c,d] z")
    other.graph.input.reverse()
    other.graph.output.reverse()
    result = verify(one, other)
    assert result.equal
    assert result.notes == []


def test_other_names_are_matched_by_position_and_that_is_said(model):
    body = "c = Conv(x, w_4x4x3x3) y = Relu(c)"
    one, other = model(body), model(body)
    for node in other.graph.node:
        for field in (node.input, node.output):
            field[:] = [f"new_{name}" if name in ("x", "c", "y") else name for name in field]
    other.graph.input[0].name, other.graph.output[0].name = "new_x", "new_y"
    result = verify(one, other)
    assert result.equal
    assert result.notes == ["inputs are matched by position: 'x' is 'new_x'", "outputs are matched by position: 'y' is 'new_y'"]
    (weight,) = other.graph.initializer
    array = onnx.numpy_helper.to_array(weight).copy()
    array[2] *= 1.01
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    difference = verify(one, other).difference
    assert (difference.value, difference.other) == ("c", "new_c")
    assert "channel 2 only, all images, everywhere" in str(difference)


def test_free_extents_are_what_both_models_take(model):
    free, square = model("y = Relu(x)"), model("y = Relu(x)", x="N,4,S,S")
    assert verify(free, square).probes[0] == "2x4x45x45"
    assert verify(free, model("y = Relu(x)", x="3,4,H,7")).probes[0] == "3x4x45x7"


def test_a_hidden_difference_that_is_put_right_is_not_named(model):
    """Channels of the first layer are permuted in one of them; the second layer differs."""
    body = "c = Conv(x, w_4x4x1x1) r = Relu(c) d = Conv(r, v_4x4x1x1) e = Relu(d) y = Conv(e, u_4x4x1x1)"
    one, other = model(body), model(body)
    w, v, u = (onnx.numpy_helper.to_array(tensor).copy() for tensor in other.graph.initializer)
    order = [2, 0, 3, 1]
    u[1] *= 1.1
    for tensor, array in zip(other.graph.initializer, (w[order], v[:, order], u), strict=True):
        tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    difference = verify(one, other).difference
    assert difference.value == "y"
    assert difference.after == ("e",)


def test_compiled_forms_are_compared_by_the_names_that_stay(model):
    norm = "BatchNormalization<epsilon=0.001>(a, g_4, h_4, m_4, var_4)"
    body = f"a = Conv(x, w_4x4x3x3) n = {norm} r = Relu(n) y = Conv(r, v_4x4x3x3)"
    source, broken = model(body), model(body.replace("0.001", "0.1"))
    difference = verify(source, repcompiler.compile(broken, objective="plain")).difference
    assert difference.value == "n"
    assert difference.operation == "BatchNorm"


def test_shapes_are_compared_too(model):
    one, other = model("y = MaxPool<kernel_shape=[2,2]>(x)"), model("y = MaxPool<kernel_shape=[3,3]>(x)")
    result = verify(one, other)
    assert result.summary().startswith("different: output 'y': float32[2, 4, 43, 65] instead of float32[2, 4, 44, 66]")
    assert "shape [2, 4, 43, 65] instead of [2, 4, 44, 66]" in str(result.difference)


def test_a_model_that_does_not_repeat_itself_is_undecided(model, tmp_path):
    random = model("r = RandomNormalLike(x) y = Add(x, r)")
    assert verify(random, random).verdict == "undecided"
    onnx.save(random, tmp_path / "random.onnx")
    repc_verify(tmp_path / "random.onnx", tmp_path / "random.onnx", code=2)


def test_memory_holds_a_few_values_whatever_the_depth(model):
    peaks = []
    for depth in (4, 40):
        body = " ".join(f"v{i} = {'Relu' if i % 2 else 'Neg'}({f'v{i - 1}' if i else 'x'})" for i in range(depth))
        one, other = model(f"{body} y = Add(v{depth - 1}, 0.5)"), model(f"{body} y = Add(v{depth - 1}, 0.75)")
        tracemalloc.start()
        assert verify(one, other, {"x": np.ones((1, 4, 200, 200), "f")}).difference.value == "y"
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def where(shape, *places):
    different = np.zeros(shape, bool)
    for place in places:
        different[place] = True
    return pattern(different)


def test_patterns_are_told_apart():
    every = slice(None)
    assert where((2, 3, 9, 9), (every,)) == "all channels, all images, everywhere"
    assert where((2, 3, 9, 9), (1, 2)) == "channel 2 only, image 1 only, everywhere"
    assert where((1, 3, 9, 9), (0, 0, 4, 4)) == "channel 0 only, at 1 of 81 pixels"
    assert where((1, 1, 9, 9), (0, 0, every, -1)) == "border only (right, 1 pixel deep)"
    assert where((1, 1, 9, 9), (0, 0, 0), (0, 0, 8), (0, 0, every, 0), (0, 0, every, 8)) == "border only (1 pixel deep)"
    assert where((1, 8, 5), (0, slice(5), every)) == "5 of 8 channels (0, 1, 2, 3, ...), everywhere"
    assert where((4, 6), ([0, 2], 3)) == "channel 3 only, 2 of 4 images (0, 2)"
    assert where((1, 1, 2, 2), (0, 0, 0, 0)) == "at 1 of 4 pixels"


def test_nothing_is_compared_that_is_no_model():
    with pytest.raises(ModelError, match="give a torch"):
        verify(3, 4)
