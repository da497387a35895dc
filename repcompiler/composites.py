"""Activations x g(x) written out, as exporters do where the operator set has none of their own.

    SiLU         x sigmoid(x)
    GELU         x (1 + erf(sqrt(1/2) x)) / 2
    hard swish   x hardsigmoid(x),   x clip(x + 3, 0, 6) / 6

The constant factor may stand before or behind the product, or be lacking: a layer may have taken it in.  Constants are
compared to the precision of a float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isclose, sqrt

from repcompiler.ir import Value
from repcompiler.ops import Clip, Gated, HardSigmoid, Mul, Opaque, Scale, Sigmoid

Interior = tuple[Value, ...]

FACTORS = {"gelu": 0.5, "hardswish": 1 / 6}
PRECISION = 1e-6


def composite(value: Value) -> tuple[Gated, float, Value, Interior] | None:
    """(activation, factor, x, values between) where `value` is factor times such an activation of x."""
    for outer, product, behind in _factors(value):
        node = product.producer
        if node is None or not isinstance(node.op, Mul):
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            for inner, core, before in _factors(gate):
                found = _gate(x, core)
                if found is not None:
                    name, factor, inside = found
                    return Gated(name), outer * inner / factor, x, (*behind, gate, *before, *inside)
    return None


def _factors(value: Value) -> Iterator[tuple[float, Value, Interior]]:
    """`value` as a constant times another value, with what lies between: itself, and behind a factor that is looked for."""
    yield 1.0, value, ()
    for factor in FACTORS.values():
        operand = _scaled(value, factor, 0.0)
        if operand is not None:
            yield factor, operand, (operand,)


def _gate(x: Value, gate: Value) -> tuple[str, float, Interior] | None:
    """Which gate this value is, times which factor of `FACTORS` it would be, and the values between it and x."""
    maker = gate.producer
    if maker is None:
        return None
    if maker.inputs[:1] == (x,) and isinstance(maker.op, (Sigmoid, HardSigmoid)):
        name = "silu" if isinstance(maker.op, Sigmoid) else "hardswish" if maker.op == HardSigmoid(1 / 6, 0.5) else ""
        return (name, 1.0, ()) if name else None
    if maker.op == Clip(0.0, 6.0) and _scaled(maker.inputs[0], 1.0, 3.0) is x:
        return "hardswish", FACTORS["hardswish"], (maker.inputs[0],)
    erf = _scaled(gate, 1.0, 1.0)
    node = None if erf is None else erf.producer
    if erf is None or node is None or not isinstance(node.op, Opaque) or node.op.label != "Erf":
        return None
    return ("gelu", FACTORS["gelu"], (erf, node.inputs[0])) if _scaled(node.inputs[0], sqrt(0.5), 0.0) is x else None


def _scaled(value: Value, scale: float, shift: float) -> Value | None:
    """The operand where `value` is scale * operand + shift, alike for all numbers."""
    op = None if value.producer is None else value.producer.op
    if value.producer is None or not isinstance(op, Scale) or op.channels != 1:
        return None
    known = zip((op.scale[0], op.shift[0]), (scale, shift), strict=True)
    return value.producer.inputs[0] if all(isclose(a, b, rel_tol=PRECISION) for a, b in known) else None
