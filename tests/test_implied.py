"""What only the document still reads is set aside: the operation of its reader knows what it computes."""

import numpy as np
import pytest

from repcompiler.implied import set_aside
from repcompiler.ir import Graph, Value
from repcompiler.ops import Opaque, Relu, Reshape
from repcompiler.testing import random_conv


@pytest.fixture(name="g")
def _graph():
    """%y = Reshape(%c), to a shape that the document computes from %x (%s, %t) and from %r (%u); %d is read by nobody."""
    g, rng = Graph(), np.random.default_rng(0)
    x, r, c, s, t, u, d, y = (Value(name) for name in "xrcstudy")
    g.inputs, g.outputs = [x], [y]
    g.add(Relu(), [x], [r], origin=[x])
    g.add(random_conv(rng, 4, 4, 1), [r], [c], origin=[r])
    g.add(Opaque("Shape"), [x], [s], origin=[x])
    g.add(Opaque("Gather"), [s], [t], origin=[s])
    g.add(Opaque("Size"), [r], [u], origin=[r])
    g.add(Opaque("Shape"), [x], [d], origin=[x])
    g.add(Reshape((0, -1)), [c], [y], origin=[c, t, u])
    set_aside(g, lambda node: node.origin)
    g.check()
    return g


def test_what_a_reader_knows_is_in_the_graph_no_more_and_what_nobody_reads_is(g):
    assert [node.op.kind for node in g.nodes] == ["Relu", "Conv", "Shape", "Reshape"]
    reshape = g.outputs[0].producer
    assert {node.op.kind for node in reshape.implied} == {"Shape", "Gather", "Size"}
    assert {value.name for value in reshape.consulted} == {"x", "r"}
    assert g.is_private(reshape.inputs[0].producer.inputs[0])


def test_a_node_whose_document_form_reads_what_is_gone_is_bereft(g):
    reshape = g.outputs[0].producer
    conv = reshape.inputs[0].producer
    (relu,) = conv.inputs
    g.replace(relu.producer, Relu()(relu.producer.inputs[0]))
    assert not g.is_bereft(reshape), "the value is there, computed anew"
    g.replace(conv, conv.op(g.inputs[0]))
    assert g.is_bereft(reshape)


def test_what_was_read_in_the_place_of_a_value_may_be_gone_too(g):
    """Twins: a cast that does nothing before another, both behind a shape that one reader knows and another computes with."""
    reshape = g.outputs[0].producer
    conv = reshape.inputs[0].producer
    (relu,) = conv.inputs
    other = Value("other")
    g.add(Relu(), g.inputs, [other])
    g.replace(relu.producer, other)
    assert not g.is_bereft(reshape), "the other value is read instead"
    g.replace(conv, conv.op(g.inputs[0]))
    assert g.is_bereft(reshape)
