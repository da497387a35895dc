"""What Python asks, while a forward is traced, of values that are computed from parameters alone: those have numbers by then.

    if self.alpha: ...      np.prod(self.weight.shape[1:])      for w in self.mixture.softmax(0): ...

An answer by numbers holds as long as the parameters do, which a compiled model takes for constants anyway.  Buffers are not
asked for numbers, nor is a parameter that the forward has written into: another run may find others there.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode

from repcompiler.frontends.fx_calls import behind, written_by_call

EXTENTS = ("shape", "ndim", "size", "dim", "ndimension", "numel", "nelement")
"""Attributes and methods that no numbers are needed for."""


class NoNumbers(Exception):
    """It depends on more than parameters."""


def extents_of(node: fx.Node, tracer: Any) -> Any:
    """A tensor of the shape of `node`, without numbers.  Raises NoNumbers where that depends on an input."""
    if node in tracer.fed:
        raise NoNumbers
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        return _evaluated(node, tracer, mode.from_tensor)


def numbers_of(node: fx.Node, tracer: Any) -> Any:
    """What `node` is.  Raises NoNumbers where it depends on more than parameters that stay what they are."""
    if node in tracer.fed:
        raise NoNumbers
    targets = {part.target for part in behind([node]) if part.op == "get_attr"}
    if not targets <= tracer.parameters:
        raise NoNumbers
    written = [value for part in node.graph.nodes for value in _written(part)]
    if not targets.isdisjoint(part.target for part in behind(written) if part.op == "get_attr"):
        raise NoNumbers
    return _evaluated(node, tracer, lambda tensor: tensor.detach().clone())


def _written(node: fx.Node) -> list[fx.Node]:
    """What a call may write into; a module, into all it is given."""
    if node.op == "call_module":
        return node.all_input_nodes
    return written_by_call(node) if node.op in ("call_function", "call_method") else []


def _evaluated(node: fx.Node, tracer: Any, held: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """What `node` is, where the model's own tensors are what `held` makes of them."""
    values: dict[fx.Node, Any] = {}
    needed = behind([node])
    tracer.questions.running = True
    try:
        with torch.no_grad():
            for part in (part for part in node.graph.nodes if part in needed):
                args, kwargs = fx.map_arg((part.args, part.kwargs), values.__getitem__)
                if part.op == "get_attr":
                    values[part] = held(attrgetter(part.target)(tracer.root))
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
