"""Costs are measured once for each shape and machine."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from repcompiler import stopwatch, tuning
from repcompiler.cost import latency
from repcompiler.ops import AvgPool, BatchNorm, Concat, Constant, Conv, Identity, Pad, Relu, Select, Subsample, Sum
from repcompiler.outline import outline
from repcompiler.passes import PASSES
from repcompiler.region import regions
from repcompiler.rewriter import Rewriter
from repcompiler.testing import (
    assert_equivalent,
    build,
    opaque,
    random_batch_norm,
    random_conv,
    random_conv_transpose,
    random_linear,
    random_scale,
)
from repcompiler.tuning import Timings, cache_folder, plainest, signature, stand_in, tuned

rng = np.random.default_rng(0)
IMAGE = (1, 4, 6, 5)
conv3, conv1, norm = random_conv(rng, 4, 4, 3, padding=1), random_conv(rng, 4, 4, 1), random_batch_norm(rng, 4)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Figures are kept here, and made in no time."""
    monkeypatch.setenv("REPC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(stopwatch, "SECONDS", 0.0)
    monkeypatch.setattr(stopwatch, "MODEL_SECONDS", 0.0)
    return tmp_path / "cache"


@pytest.fixture
def figures(folder):
    return folder / "timings.json"


@pytest.fixture
def timed(monkeypatch):
    """The operations that are really timed, in order."""
    operations = []
    measure = stopwatch.time_operation

    def record(op, *arguments):
        operations.append(str(op))
        return measure(op, *arguments)

    monkeypatch.setattr(stopwatch, "time_operation", record)
    return operations


def block():
    return build(lambda x: conv1(Sum((1, 1, 1))(norm(conv3(x)), conv1(x), x)), x=IMAGE)


def of_op(timings, op, *shapes):
    return timings.of_op(op, shapes, op.infer_shape(shapes))


# -- figures ---------------------------------------------------------------------------------------------------------------

WRITTEN = {
    "conv": (conv3, [IMAGE]),
    "1-D conv": (random_conv(rng, 4, 4, (3,), groups=2), [(1, 4, 9)]),
    "transposed": (random_conv_transpose(rng, 4, 2, 2, stride=2), [IMAGE]),
    "gemm": (random_linear(rng, 4, 3), [(2, 4)]),
    "matmul": (random_linear(rng, 4, 3), [(2, 5, 4)]),
    "norm": (norm, [IMAGE]),
    "scale": (random_scale(rng, 4), [IMAGE]),
    "last axis": (random_scale(rng, 4, axis=2), [(2, 5, 4)]),
    "sum": (Sum((-1, 1, 1)), [IMAGE] * 3),
    "pool": (AvgPool((3, 3), (2, 2), ((1, 1), (1, 1)), 9), [IMAGE]),
    "crop": (Pad(((0, -1), (1, 0))), [IMAGE]),
    "selection": (Select((2, 0)), [IMAGE]),
    "concat": (Concat(), [IMAGE, IMAGE]),
    "subsample": (Subsample((2, 2)), [IMAGE]),
    "relu": (Relu(), [IMAGE]),
}


@pytest.mark.parametrize(("op", "shapes"), WRITTEN.values(), ids=WRITTEN)
def test_operation_is_timed_once_and_then_known(op, shapes, figures, timed):
    first = of_op(Timings(figures, lambda message: None), op, *shapes)
    again = Timings(figures, lambda message: None)
    assert of_op(again, op, *shapes) == first >= 0
    assert len(timed) == 1
    assert again.measured == 0
    [kept] = json.loads(figures.read_text()).values()
    assert list(kept.values()) == [first]


def test_key_is_the_same_whatever_the_weights_and_another_whatever_else_differs():
    other = random_conv(rng, 4, 4, 3, padding=1)
    assert signature(conv3, [IMAGE]) == signature(other, [IMAGE]) == signature(replace(other, bias=np.zeros(4)), [IMAGE])
    variants = [
        conv3,
        conv1,
        replace(conv3, stride=(2, 2)),
        replace(conv3, padding=((1, 1), (0, 0))),
        replace(conv3, dilation=(1, 2)),
        random_conv(rng, 4, 4, 3, padding=1, groups=2),
    ]
    keys = {signature(op, [shape]) for op in variants for shape in (IMAGE, (2, 4, 6, 5))}
    assert len(keys) == 2 * len(variants)


def test_outline_has_the_key_of_the_convolution_it_outlines():
    graph = build(lambda x: conv1(norm(conv3(x))), x=IMAGE)
    rewriter = Rewriter(graph, PASSES, tuned())
    whole = {region.source: region for region, _ in regions(graph.outputs[0], rewriter.scope)}[graph.inputs[0]]
    rewriter.run()
    [node] = graph.nodes
    sketch = outline(whole, rewriter.scope.views)
    assert isinstance(node.op, Conv)
    assert signature(sketch, [IMAGE]) == signature(node.op, [IMAGE])


def test_bias_that_is_a_node_of_its_own_and_scale_without_shift_have_keys_of_their_own():
    layer, plain = random_linear(rng, 4, 3), random_linear(rng, 4, 3, bias=False)
    assert signature(layer, [(2, 5, 4)]) != signature(plain, [(2, 5, 4)])
    scale = random_scale(rng, 4)
    assert (
        len({signature(op, [IMAGE]) for op in (scale, replace(scale, shift=np.zeros(4)), replace(scale, scale=np.ones(4)))})
        == 3
    )


def test_batch_norm_is_timed_as_the_node_it_is_whatever_its_statistics():
    fresh = BatchNorm(np.ones(4), np.zeros(4), np.zeros(4), np.ones(4), 1e-5)
    assert signature(plainest(fresh), [IMAGE]) == signature(plainest(norm), [IMAGE])
    assert stand_in(plainest(fresh)).shift.all()


def test_what_no_node_computes_is_estimated(figures, timed):
    timings = Timings(figures, lambda message: None)
    for op in (opaque("Custom", lambda x: x), Identity(), Constant(np.zeros(3))):
        assert of_op(timings, op, IMAGE) == latency(op, [IMAGE], op.infer_shape([IMAGE]))
    assert timings.of_op(conv3, [None], None) == latency(conv3, [None], None)
    wide = random_conv(rng, 4, 4, 3, padding=1)
    huge = (1, 4, 1 << 14, 1 << 14)
    assert of_op(timings, wide, huge) == latency(wide, [huge], huge)
    assert not timed


def test_what_the_runtime_cannot_run_is_estimated_and_not_kept(figures, timed):
    timings = Timings(figures, lambda message: None)
    shape = (1, 3, 6, 5)  # three channels for a convolution of four
    assert of_op(timings, conv3, shape) == latency(conv3, [shape], conv3.infer_shape([shape]))
    of_op(timings, conv3, shape)
    assert len(timed) == 1
    assert not figures.exists()


def test_an_operation_costs_no_less_than_nothing(figures, monkeypatch):
    monkeypatch.setattr(stopwatch, "_overhead", lambda: 1.0)
    assert of_op(Timings(figures, lambda message: None), conv1, IMAGE) == 0


# -- the file --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", ["", "{", "[1, 2]", '{"machine": 3}', '{"machine": {"Conv": "fast"}}', "\0\1\2"])
def test_broken_file_is_as_none_and_is_replaced(content, figures, timed):
    figures.parent.mkdir()
    figures.write_text(content)
    of_op(Timings(figures, lambda message: None), conv1, IMAGE)
    of_op(Timings(figures, lambda message: None), conv1, IMAGE)
    assert len(timed) == 1
    assert list(json.loads(figures.read_text())) == [tuning.machine()]


def test_figures_of_another_machine_are_kept_and_not_used(figures, timed, monkeypatch):
    of_op(Timings(figures, lambda message: None), conv1, IMAGE)
    monkeypatch.setattr(tuning, "machine", lambda: "an abacus")
    of_op(Timings(figures, lambda message: None), conv1, IMAGE)
    assert len(timed) == 2
    assert "an abacus" in json.loads(figures.read_text())
    assert len(json.loads(figures.read_text())) == 2


def test_figures_that_another_process_wrote_meanwhile_are_kept(figures):
    one, other = Timings(figures, lambda message: None), Timings(figures, lambda message: None)
    of_op(one, conv1, IMAGE)
    of_op(other, conv3, IMAGE)
    [kept] = json.loads(figures.read_text()).values()
    assert len(kept) == 2
    assert [path.name for path in figures.parent.iterdir()] == ["timings.json"]


def test_folder_that_cannot_be_made_is_no_error(tmp_path, timed):
    (tmp_path / "file").write_text("")
    timings = Timings(tmp_path / "file" / "timings.json", lambda message: None)
    assert of_op(timings, conv1, IMAGE) == of_op(timings, conv1, IMAGE)
    assert len(timed) == 1


def test_cache_is_where_the_user_says_or_the_system_keeps_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("REPC_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("REPC_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache_folder() == tmp_path / "repcompiler"
    for platform in ("darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert cache_folder().name == "repcompiler"


# -- choosing --------------------------------------------------------------------------------------------------------------


def test_result_is_exact_and_the_second_run_times_nothing(timed):
    runs = []
    for _ in range(2):
        graph, before = block(), block()
        log = Rewriter(graph, PASSES, tuned()).run()
        assert_equivalent(before, graph)
        runs.append((log, len(timed)))
    assert runs[0] == runs[1]
    assert len(timed) == len(set(timed)) > 0


@pytest.mark.parametrize(("dense", "merged"), [(1e-9, True), (1.0, False)])
def test_what_is_measured_decides(dense, merged, monkeypatch):
    """A 1x1 before a depthwise 3x3 is one dense 3x3: whether that is quicker is for the machine to say."""

    def measure(op, *_):
        return dense if isinstance(op, Conv) and op.groups == 1 and op.kernel_size == (3, 3) else 1e-3

    monkeypatch.setattr(stopwatch, "time_operation", measure)
    depthwise = random_conv(rng, 4, 4, 3, groups=4)
    graph = build(lambda x: depthwise(conv1(x)), x=IMAGE)
    log = Rewriter(graph, PASSES, tuned()).run()
    assert len(graph.nodes) == (1 if merged else 2)
    assert merged or "it would cost more (tune" in log.declined[0].reason


def test_progress_tells_what_is_timed():
    messages = []
    Rewriter(block(), PASSES, tuned(messages.append)).run()
    assert messages[0] == "timing operation 1: Conv 4->4 3x3 on 1x4x6x5"
    assert len(messages) == len(set(messages))


def test_no_runtime_is_loaded_before_something_is_timed():
    code = "import sys, repcompiler.tuning; print({'onnxruntime', 'onnx_ir', 'torch'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
