from inspect import cleandoc

from repcompiler.ops import Concat, Identity, Sum
from repcompiler.passes import PASSES
from repcompiler.passes.eliminate_identity import eliminate_identity
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv, relu


def test_readers_of_an_identity_read_its_input(rng):
    graph = build(lambda x: relu(Identity()(random_conv(rng, 4, 4, 3)(x))), x=(None, 4, None, None))
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->4 3x3 bias : [?, 4, ?, ?]
          %identity1 = Identity(%conv1) : [?, 4, ?, ?]
          %y = Relu(%identity1) : [...]
          return %y
    """)
    check_pass(eliminate_identity, graph, "latency")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %conv1 = Conv(%x) 4->4 3x3 bias : [?, 4, ?, ?]
          %y = Relu(%conv1) : [...]
          return %y
    """)


def test_every_reader_is_moved_however_often_it_reads():
    def fan_out(x):
        same = Identity()(Identity()(x))
        return {"y": Sum((1, -1, 1))(same, x, same), "z": relu(same)}

    graph = build(fan_out, x=(None, 4))
    assert len(check_pass(eliminate_identity, graph).steps) == 2
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4])
          %y = Sum[1, -1, 1](%x, %x, %x) : [?, 4]
          %z = Relu(%x) : [...]
          return %y, %z
    """)


def test_identity_that_names_an_output_of_the_graph_is_refused():
    graph = build(lambda x: Identity()(relu(x)), x=(None, 4))
    log = check_pass(eliminate_identity, graph)
    assert not log.steps
    assert log.declined[0].reason == "'y' is an output of the graph and keeps its name"


def test_output_name_moves_onto_the_conv_before_its_identity(rng):
    graph = build(lambda x: Identity()(random_conv(rng, 4, 4, 3)(x)), x=(None, 4, None, None))
    check_pass(PASSES, graph, "latency")
    assert render(graph) == cleandoc("""
        graph(%x: [?, 4, ?, ?])
          %y = Conv(%x) 4->4 3x3 bias : [?, 4, ?, ?]
          return %y
    """)


def test_a_concatenation_of_one_value_is_that_value(rng):
    """DenseNet's first layer concatenates the one map there is."""
    graph = build(lambda x: relu(Concat()(random_conv(rng, 4, 4, 3)(x))), x=(None, 4, None, None))
    check_pass(eliminate_identity, graph, "latency")
    assert [node.op.kind for node in graph.topological()] == ["Conv", "Relu"]
    graph = build(lambda x: relu(Concat()(x, x)), x=(None, 4, None, None))
    assert not check_pass(eliminate_identity, graph, "latency").steps
