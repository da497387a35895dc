"""What Python asks, while a forward is traced, of values that are computed from parameters alone: those have numbers by then.

    if self.alpha: ...      np.prod(self.weight.shape[1:])      for w in self.mixture.softmax(0): ...

An answer by numbers holds as long as the parameters do, which a compiled model takes for constants anyway.  Buffers are not
asked for numbers, nor is a parameter that the forward has written into: another run may find others there.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from operator import attrgetter
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

EXTENTS = ("shape", "ndim", "size", "dim", "ndimension", "numel", "nelement")
"""Attributes and methods that no numbers are needed for."""


class NoNumbers(Exception):
    """It depends on more than parameters."""


def extents_of(node: fx.Node, tracer: Any) -> Any:
    """A tensor of the shape of `node`, without numbers.  Raises NoNumbers where that depends on an input."""
    if node in tracer.fed:
        raise NoNumbers
    return _evaluated(node, _behind([node]), tracer, FakeTensorMode(allow_non_fake_inputs=True))


def numbers_of(node: fx.Node, tracer: Any) -> Any:
    """What `node` is.  Raises NoNumbers where it depends on more than parameters that stay what they are."""
    if node in tracer.fed:
        raise NoNumbers
    behind = _behind([node])
    targets = {part.target for part in behind if part.op == "get_attr"}
    if not targets <= tracer.parameters:
        raise NoNumbers
    written = (part for part in node.graph.nodes if part.op.startswith("call_") and _writes(part))
    if not targets.isdisjoint(part.target for part in _behind(written) if part.op == "get_attr"):
        raise NoNumbers
    return _evaluated(node, behind, tracer, nullcontext())


def _behind(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """The nodes themselves, and all that they are computed from."""
    found = dict.fromkeys(nodes)
    pending = [*found]
    while pending:
        operands = [operand for operand in pending.pop().all_input_nodes if operand not in found]
        found.update(dict.fromkeys(operands))
        pending += operands
    return set(found)


def _writes(node: fx.Node) -> bool:
    """Whether a call may write into what it is given."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    of_python = getattr(node.target, "__module__", "") == "_operator"
    return node.op == "call_module" or name.endswith("_") or (of_python and (name == "setitem" or name.startswith("i")))


def _evaluated(node: fx.Node, behind: set[fx.Node], tracer: Any, mode: Any) -> Any:
    values: dict[fx.Node, Any] = {}
    tracer.questions.running = True
    try:
        with torch.no_grad(), mode:
            for part in (part for part in node.graph.nodes if part in behind):
                args, kwargs = fx.map_arg((part.args, part.kwargs), values.__getitem__)
                if part.op == "get_attr":
                    tensor = attrgetter(part.target)(tracer.root)
                    values[part] = tensor.detach().clone() if isinstance(mode, nullcontext) else mode.from_tensor(tensor)
                elif part.op == "call_module":
                    values[part] = tracer.root.get_submodule(part.target)(*args, **kwargs)
                elif part.op == "call_method":
                    values[part] = getattr(args[0], str(part.target))(*args[1:], **kwargs)
                else:
                    values[part] = part.target(*args, **kwargs)
            return values[node]
    except Exception as error:  # whatever the user's code may raise
        raise NoNumbers from error
    finally:
        tracer.questions.running = False
