"""The steps of a plan that are several nodes of ONNX: computed kernels, control flow, frames, sums with a part, of a stack."""

from __future__ import annotations

from fuzz_onnx_emitter import Emitter, pads_of
from fuzz_plans import Step
from onnx import TensorProto, helper


def dynamic_conv(e: Emitter, step: Step, names: list[str]) -> str:
    a = step.attrs
    x, gates = names
    batch, rows = e.shape[:2]
    weight = e.node("MatMul", [gates, e.weight(a["experts"])])
    weight = e.node("Reshape", [weight, e.integers([batch * rows, *a["shape"][1:]])])
    pixels = [0] * len(a["stride"])
    bias = [] if a["bias"] is None else [e.weight(a["bias"])]
    sizes = {"strides": a["stride"], "pads": pads_of(a["pads"]), "group": batch * a["groups"]}
    if batch == 1:
        return e.node("Conv", [x, weight, *bias], **sizes)
    joined = e.node("Reshape", [x, e.integers([1, batch * a["channels"], *pixels])])
    y = e.node("Reshape", [e.node("Conv", [joined, weight], **sizes), e.integers([batch, rows, *pixels])])
    return e.node("Add", [y, e.weight(a["bias"].reshape(-1, *(1,) * len(pixels)))]) if bias else y


def condition(e: Emitter, step: Step, names: list[str]) -> str:
    """A branch that captures both values, and one with a weight of its own."""
    x, other = names
    mean = e.node("ReduceMean", [other], keepdims=0)
    test, factor = e.node("Greater", [mean, e.number(0.0)]), e.weight(step.attrs["factor"])
    then, otherwise = e.name("then"), e.name("else")
    positive = [helper.make_node("Relu", [x], [f"{then}r"]), helper.make_node("Add", [f"{then}r", other], [then])]
    negative = [
        helper.make_node("Mul", [factor, x], [f"{otherwise}m"]),
        helper.make_node("Sub", [f"{otherwise}m", other], [otherwise]),
    ]
    bodies = [
        helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])
        for nodes, name in ((positive, then), (negative, otherwise))
    ]
    return e.node("If", [test], then_branch=bodies[0], else_branch=bodies[1])


def loop(e: Emitter, step: Step, names: list[str]) -> str:
    x, other = names
    factor, state = e.weight(step.attrs["factor"]), e.name("state")
    nodes = [
        helper.make_node("Identity", [f"{state}c"], [f"{state}d"]),
        helper.make_node("Mul", [factor, state], [f"{state}m"]),
        helper.make_node("Add", [f"{state}m", other], [f"{state}n"]),
    ]
    inputs = [
        helper.make_tensor_value_info(f"{state}i", TensorProto.INT64, []),
        helper.make_tensor_value_info(f"{state}c", TensorProto.BOOL, []),
        helper.make_tensor_value_info(state, TensorProto.FLOAT, None),
    ]
    outputs = [
        helper.make_tensor_value_info(f"{state}d", TensorProto.BOOL, []),
        helper.make_tensor_value_info(f"{state}n", TensorProto.FLOAT, None),
    ]
    body = helper.make_graph(nodes, state, inputs, outputs)
    return e.node("Loop", [e.integers([step.attrs["trips"]], scalar=True), "", x], body=body)


def frame(e: Emitter, step: Step, names: list[str]) -> str:
    value = e.weight(step.attrs["value"].reshape(-1, *(1,) * len(step.attrs["pads"])))
    pads = e.integers(pads_of(((0, 0), (0, 0), *step.attrs["pads"])))
    return e.node("Add", [e.node("Pad", [e.node("Sub", [*names, value]), pads]), value])


def add_to_part(e: Emitter, step: Step, names: list[str]) -> str:
    (start, stop), channels = step.attrs["part"], e.shape[1]
    sizes = [start, stop - start, channels - stop]
    parts = [e.name("part") if size else "" for size in sizes]
    present = [part for part in parts if part]
    e.nodes.append(helper.make_node("Split", [names[0], e.integers([size for size in sizes if size])], present, axis=1))
    parts[1] = e.node("Add", [parts[1], names[1]])
    return e.node("Concat", [part for part in parts if part], axis=1)


def stacked(e: Emitter, step: Step, names: list[str]) -> str:
    axis, kind = step.attrs["axis"], "ReduceMean" if step.attrs["mean"] else "ReduceSum"
    parts = [e.node("Unsqueeze", [name, e.integers([axis])]) for name in names]
    together = e.node("Concat", parts, axis=axis)
    if kind == "ReduceMean" and e.opset < 18:
        return e.node(kind, [together], axes=[axis], keepdims=0)
    return e.node(kind, [together, e.integers([axis])], keepdims=0)


def lerp(e: Emitter, step: Step, names: list[str]) -> str:
    x, y = names
    constant = e.weight(step.attrs["constant"])
    return e.node("Add", [x, e.node("Mul", [constant, e.node("Sub", [y, x])])])


def addcmul(e: Emitter, step: Step, names: list[str]) -> str:
    x, y = names
    product = e.node("Mul", [y, e.weight(step.attrs["constant"])])
    return e.node("Add", [x, e.node("Mul", [product, e.number(step.attrs["value"])])])


def pad_channels(e: Emitter, step: Step, names: list[str]) -> str:
    pads = ((0, 0), step.attrs["amounts"], *((0, 0),) * step.attrs["axes"])
    return e.node("Pad", [*names, e.integers(pads_of(pads))], mode="constant")
