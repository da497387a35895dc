from inspect import cleandoc

from repcompiler.ir import Value
from repcompiler.ops import Opaque, Sum
from repcompiler.passes.eliminate_dead_nodes import eliminate_dead_nodes
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv, relu


def with_unread(rng, effect=False):
    """A graph with two operations that nothing reads, one of them through the other."""
    graph = build(lambda x: relu(x), x=(None, 4, None, None))
    [x] = graph.inputs
    conv = random_conv(rng, 4, 4, 3)
    middle, end = Value("middle", conv.infer_shape([x.shape])), Value("end")
    graph.add(conv, [x], [middle])
    graph.add(Opaque("Print", lambda arrays: arrays, effect=effect), [middle], [end])
    return graph


def test_what_nobody_reads_goes_with_all_that_only_it_read(rng):
    graph = with_unread(rng)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Relu(%x) : [...]
          %middle = Conv(%x) 4->4 3x3 bias : [?, 4, ?, ?]
          %end = Print(%middle) : [...]
          return %y
    """)
    log = check_pass(eliminate_dead_nodes, graph)
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Relu(%x) : [...]
          return %y
    """)
    assert [name for step in log.steps for name, _ in step.removed] == ["end", "middle"]


def test_what_has_an_effect_of_its_own_stays(rng):
    graph = with_unread(rng, effect=True)
    assert not check_pass(eliminate_dead_nodes, graph).steps
    assert len(graph.nodes) == 3


def test_every_output_of_the_graph_is_read(rng):
    graph = build(lambda x: {"y": relu(x), "z": Sum((1, 1))(x, x)}, x=(None, 4))
    assert not check_pass(eliminate_dead_nodes, graph).steps


def test_one_read_result_of_several_keeps_the_operation():
    graph = build(lambda x: relu(x), x=(None, 4))
    [x] = graph.inputs
    first, second = Value("first"), Value("second")
    graph.add(Opaque("Split", lambda arrays: [arrays[0][:, :2], arrays[0][:, 2:]]), [x], [first, second])
    graph.outputs.append(second)
    assert not check_pass(eliminate_dead_nodes, graph).steps
