"""A plan as an ONNX model, in the many ways in which exporters write one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
import onnx
from fuzz_onnx_activations import activation
from fuzz_onnx_composites import add_to_part, addcmul, condition, dynamic_conv, frame, lerp, loop, pad_channels, stacked
from fuzz_onnx_emitter import END, Emitter, NDArray, pads_of
from fuzz_plans import Plan, Shape, Step
from onnx import TensorProto, helper


def model(plan: Plan, shapes: Sequence[Shape], opset: int, overridable: bool = False) -> onnx.ModelProto:
    """The network, checked; `shapes` are those of the plan's values.  `overridable`: some weights are inputs too."""
    emitter = Emitter(shapes, opset)
    batch = plan.inputs[0][0]
    inputs = []
    for index, shape in enumerate(plan.inputs):
        dims = [dim(plan.free, axis, size, batch) for axis, size in enumerate(shape)]
        inputs.append(helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, dims))
        emitter.names.append(f"x{index}")
    for step in plan.steps:
        emitter.names.append(EMITTERS[step.kind](emitter, step, [emitter.names[value] for value in step.inputs]))
    outputs = []
    for value in plan.outputs:
        name = emitter.names[value]
        if value < len(plan.inputs) or name in (output.name for output in outputs):
            name = emitter.node("Identity", [name])
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * len(shapes[value])))
    for name, tensor in emitter.tensors.items() if overridable else ():
        if name.startswith("w") and len(inputs) % 3:
            inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, tensor.dims))
    graph = helper.make_graph(emitter.nodes, "fuzz", inputs, outputs, list(emitter.tensors.values()))
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    inferred = onnx.shape_inference.infer_shapes(proto).graph.output
    for output, known in zip(proto.graph.output, inferred, strict=True):
        if known.type.tensor_type.HasField("shape"):  # inference loses it behind a Loop
            output.CopyFrom(known)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def dim(free: str, axis: int, size: int, batch: int) -> int | str | None:
    """An extent as the model states it: a number, a symbol, or nothing."""
    if axis == 0 and free != "none" and size == batch:
        return "N"
    return f"d{axis}_{size}" if axis > 1 and free == "all" else size


def conv(e: Emitter, step: Step, names: list[str]) -> str:
    a, style = step.attrs, step.attrs["style"]
    bias = [] if a["bias"] is None else [e.weight(a["bias"])]
    reach = [d * (k - 1) for k, d in zip(a["weight"].shape[2:], a["dilation"], strict=True)]
    padding: dict[str, Any] = {"pads": pads_of(a["pads"])}
    if "mode" in a:
        amounts = e.integers(pads_of(((0, 0), (0, 0), *a["pads"])))
        mode = {"replicate": "edge"}.get(a["mode"], a["mode"])
        inputs = [e.node("Pad", [*names, amounts], mode=mode), e.kernel(a, style), *bias]
        return e.node("Conv", inputs, strides=a["stride"], dilations=a["dilation"], group=a["groups"])
    if set(a["stride"]) == set(a["dilation"]) == {1} and style % 3 == 0:
        if a["pads"] == tuple((total // 2, total - total // 2) for total in reach):
            padding = {"auto_pad": "SAME_UPPER"}
        elif a["pads"] == tuple((total - total // 2, total // 2) for total in reach):
            padding = {"auto_pad": "SAME_LOWER"}
    if not any(map(any, a["pads"])) and style % 3 == 1:
        padding = {"auto_pad": "VALID"}
    inputs = [*names, e.kernel(a, style), *bias]
    return e.node("Conv", inputs, strides=a["stride"], dilations=a["dilation"], group=a["groups"], **padding)


def conv_transpose(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    bias = [] if a["bias"] is None else [e.weight(a["bias"])]
    sizes = {"strides": a["stride"], "dilations": a["dilation"], "output_padding": a["output_padding"]}
    pads = pads_of(a["pads"])
    return e.node("ConvTranspose", [*names, e.weight(a["weight"], a["style"]), *bias], pads=pads, group=a["groups"], **sizes)


def linear(e: Emitter, step: Step, names: list[str]) -> str:
    a, style = step.attrs, step.attrs["style"]
    bias = [] if a["bias"] is None else [e.weight(a["bias"])]
    if len(e.shape) == 2 and (style % 2 == 0 or "alpha" in a):
        numbers = {key: a[key] for key in ("alpha", "beta") if key in a}
        return e.node("Gemm", [*names, e.kernel(a, style), *bias], transB=1, **numbers)
    flipped = {**a, "weight": e.__dict__.setdefault("flipped", {}).setdefault(id(a["weight"]), a["weight"].T.copy())}
    product = e.node("MatMul", [*names, e.kernel(flipped, style)])
    return e.node("Add", [product, *bias]) if bias else product


def batch_norm(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    weights = [e.weight(a[name]) for name in ("gamma", "beta", "mean", "var")]
    return e.node("BatchNormalization", [*names, *weights], epsilon=a["eps"])


def scale(e: Emitter, step: Step, names: list[str]) -> str:
    a, constant = step.attrs, e.weight(step.attrs["constant"], step.attrs["style"])
    return e.node(a["by"].capitalize(), [constant, *names] if a["reverse"] else [*names, constant])


def avg_pool(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    modes = {"count_include_pad": int(a["count_include_pad"]), "ceil_mode": int(a["ceil_mode"])}
    return e.node("AveragePool", names, kernel_shape=a["kernel"], strides=a["stride"], pads=pads_of(a["pads"]), **modes)


def max_pool(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    sizes = {"kernel_shape": a["kernel"], "strides": a["stride"], "dilations": a["dilation"]}
    return e.node("MaxPool", names, pads=pads_of(a["pads"]), ceil_mode=int(a["ceil_mode"]), **sizes)


def global_avg_pool(e: Emitter, step: Step, names: list[str]) -> str:
    axes = list(range(2, step.attrs["rank"]))
    if step.attrs["style"] % 2:
        return e.node("GlobalAveragePool", names)
    if e.opset < 18:
        return e.node("ReduceMean", names, axes=axes)
    return e.node("ReduceMean", [*names, e.integers(axes)])


def pad(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    pads = e.integers(pads_of(((0, 0), (0, 0), *a["pads"])))
    value = [e.number(a["value"])] if a["mode"] == "constant" and (a["value"] or a["style"] % 2) else []
    return e.node("Pad", [*names, pads, *value], mode={"replicate": "edge"}.get(a["mode"], a["mode"]))


def add(e: Emitter, step: Step, names: list[str]) -> str:
    signs = step.attrs["signs"]
    if min(signs) > 0 and (step.attrs["style"] % 3 == 0 or len(signs) == 1):
        return e.node("Sum", names)
    total = names[0]
    for sign, name in zip(signs[1:], names[1:], strict=True):
        total = e.node("Add" if sign > 0 else "Sub", [total, name])
    return total


def slice_(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    axis = a["axis"] - (a["rank"] if a["style"] % 2 else 0)
    bounds = ([a["start"] or 0], [END if a["stop"] is None else a["stop"]], [axis], [a["step"]])
    return e.node("Slice", [*names, *map(e.integers, bounds)])


def split(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    key = names[0], a["sizes"], a["axis"]
    if key not in e.splits:
        e.splits[key] = [e.name("split") for _ in a["sizes"]]
        inputs = [*names, e.integers(a["sizes"])]
        axis = a["axis"] - (len(e.shape) if a["style"] % 4 == 1 else 0)
        e.nodes.append(helper.make_node("Split", inputs, e.splits[key], axis=axis))
    return e.splits[key][a["index"]]


def gather(e: Emitter, step: Step, names: list[str]) -> str:
    index, channels = step.attrs["index"], e.shapes[step.inputs[0]][1]
    counted = [number - channels if step.attrs["style"] % 3 == 1 else number for number in index]
    return e.node("Gather", [*names, e.integers(counted)], axis=step.attrs["axis"])


def shuffle(e: Emitter, step: Step, names: list[str]) -> str:
    """As grid, its axes exchanged; the shape read from the value."""
    shape, groups = e.node("Shape", names), step.attrs["groups"]
    batch = e.node("Slice", [shape, e.integers([0]), e.integers([1])])
    pixels = e.node("Slice", [shape, e.integers([2]), e.integers([END])])
    grid = e.node("Concat", [batch, e.integers([groups, e.shape[1] // groups]), pixels], axis=0)
    if step.attrs["style"] % 2:
        grid = e.integers([0, groups, e.shape[1] // groups, -1])
    split_up = e.node("Reshape", [*names, grid])
    rank = 4 if step.attrs["style"] % 2 else step.attrs["rank"] + 1
    return e.node("Reshape", [e.node("Transpose", [split_up], perm=[0, 2, 1, *range(3, rank)]), shape])


def space_to_depth(e: Emitter, step: Step, names: list[str]) -> str:
    block, area = step.attrs["block"], step.attrs["block"] ** 2
    result = e.node("SpaceToDepth", names, blocksize=block)
    if step.attrs["mode"] == "DCR":
        return result
    channels = e.shape[1] // area
    order = [phase * channels + channel for channel in range(channels) for phase in range(area)]
    return e.node("Gather", [result, e.integers(order)], axis=1)


def resize(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    scales = e.weight(np.array([1.0, 1.0, *a["scales"]]))
    sized = ["", e.integers(e.shape)] if a["style"] == 1 and a["stated"] else [scales]
    coordinates = "asymmetric" if a["mode"] == "nearest" else "half_pixel"
    modes = {"mode": a["mode"], "coordinate_transformation_mode": coordinates, "nearest_mode": "floor"}
    return e.node("Resize", [*names, "", *sized], **modes)


def reshape(e: Emitter, step: Step, names: list[str]) -> str:
    return e.node("Reshape", [*names, e.integers(step.attrs["shape"])])


def flatten(e: Emitter, step: Step, names: list[str]) -> str:
    style = step.attrs["style"] % 3
    if style == 0:
        return e.node("Flatten", names)
    shape = e.flat_shape(names[0]) if style == 1 else e.integers([0, prod(e.shape[1:])] if step.attrs["stated"] else [0, -1])
    return e.node("Reshape", [*names, shape])


def identity(e: Emitter, step: Step, names: list[str]) -> str:
    kind = ("Identity", "Dropout", "Cast")[step.attrs["style"] % 3]
    return e.node(kind, names, **({"to": TensorProto.FLOAT} if kind == "Cast" else {}))


EMITTERS: Mapping[str, Callable[[Emitter, Step, list[str]], str]] = {
    "conv": conv,
    "conv_transpose": conv_transpose,
    "linear": linear,
    "batch_norm": batch_norm,
    "scale": scale,
    "activation": lambda e, step, names: activation(e, step.attrs["name"], names[0]),
    "prelu": lambda e, step, names: e.node("PRelu", [*names, e.weight(_slope(e, step))]),
    "prelu_of_last": lambda e, step, names: e.node("PRelu", [*names, e.weight(step.attrs["slope"])]),
    "avg_pool": avg_pool,
    "max_pool": max_pool,
    "global_avg_pool": global_avg_pool,
    "pad": pad,
    "add": add,
    "mul": lambda e, step, names: e.node("Mul", names),
    "concat": lambda e, step, names: e.node(
        "Concat", names, axis=step.attrs["axis"] - (len(e.shape) if step.attrs["style"] % 4 == 1 else 0)
    ),
    "slice": slice_,
    "split": split,
    "gather": gather,
    "shuffle": shuffle,
    "reshape": reshape,
    "flatten": flatten,
    "transpose": lambda e, step, names: e.node("Transpose", names, perm=step.attrs["perm"]),
    "resize": resize,
    "space_to_depth": space_to_depth,
    "depth_to_space": lambda e, step, names: e.node("DepthToSpace", names, blocksize=step.attrs["block"], mode="CRD"),
    "softmax": lambda e, step, names: e.node("Softmax", names, axis=step.attrs["axis"]),
    "layer_norm": lambda e, step, names: e.node(
        "LayerNormalization", [*names, e.weight(step.attrs["gamma"]), e.weight(step.attrs["beta"])], axis=-1, epsilon=1e-5
    ),
    "identity": identity,
    "dynamic_conv": dynamic_conv,
    "if": condition,
    "loop": loop,
    "frame": frame,
    "add_to_part": add_to_part,
    "stacked": stacked,
    "lerp": lerp,
    "addcmul": addcmul,
    "pad_channels": pad_channels,
}


def _slope(e: Emitter, step: Step) -> NDArray:
    return step.attrs["slope"].reshape(-1, *(1,) * (len(e.shape) - 2))
