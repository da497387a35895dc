"""In which order of nodes equal ones are merged, and when."""

from dataclasses import replace

from repcompiler.ir import Graph, Value
from repcompiler.passes import PASSES
from repcompiler.testing import check_pass, random_batch_norm, random_conv


def test_equal_layers_with_norms_of_their_own_take_these_in_first(rng):
    """As one layer with two norms they would be three operations: so it waits until nothing else applies."""
    graph, x = Graph(), Value("x", shape=(None, 4, None, None))
    graph.inputs = [x]
    conv = random_conv(rng, 4, 6, 3)
    made = [Value(name) for name in ("a", "b", "y", "z")]
    for value, (op, source) in zip(
        made, [(conv, x), (replace(conv), x), *((random_batch_norm(rng, 6), layer) for layer in made[:2])], strict=True
    ):
        graph.add(op, [source], [value])
    graph.outputs = made[2:]
    check_pass(PASSES, graph, "plain")
    assert [node.op.kind for node in graph.nodes] == ["Conv", "Conv"]
