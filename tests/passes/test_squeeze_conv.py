from inspect import cleandoc

import pytest

from repcompiler.ops import Reshape
from repcompiler.passes.squeeze_conv import squeeze_conv
from repcompiler.printer import render
from repcompiler.testing import build, check_pass, random_conv

FREE, KNOWN = (None, 6, None), (None, 6, 9)
WIDE = {"kernel_size": (1, 3), "stride": (1, 2), "padding": (0, 1), "dilation": (1, 2)}
HIGH = {"kernel_size": (3, 1), "stride": (2, 1), "padding": (1, 0), "dilation": (2, 1)}


@pytest.mark.parametrize(
    ("row", "arguments", "unsqueeze", "squeeze"),
    [
        (FREE, WIDE, (0, 6, 1, -1), (0, 4, -1)),
        (FREE, WIDE, (0, 0, 1, -1), (0, 0, -1)),
        (FREE, HIGH, (0, 0, 0, 1), (0, 0, 0)),
        (FREE, HIGH, (0, 6, -1, 1), (0, 4, -1)),
        (KNOWN, WIDE, (0, 6, 1, 9), (0, 4, 4)),
        (FREE, {**WIDE, "stride": (5, 2)}, (0, 6, 1, -1), (0, 4, -1)),
    ],
)
def test_a_conv_on_an_image_of_one_row_is_one_on_the_row(rng, row, arguments, unsqueeze, squeeze):
    conv = random_conv(rng, 6, 4, groups=2, **arguments)
    graph = build(lambda x: Reshape(squeeze)(conv(Reshape(unsqueeze)(x))), x=row)
    check_pass(squeeze_conv, graph)
    made = ", ".join(str(size) if size > 0 else "?" for size in squeeze[1:])
    assert render(graph) == cleandoc(f"""
        graph(%x: [?, 6, {row[2] or "?"}])
          %y = Conv(%x) 6->4 3 stride=2 padding=1 dilation=2 groups=2 bias : [?, {made}]
          return %y
    """)


@pytest.mark.parametrize(
    ("row", "arguments", "unsqueeze", "squeeze", "reason"),
    [
        (FREE, {"kernel_size": (3, 3), "padding": 1}, (0, 6, 1, -1), (0, 4, -1), "more than the one row"),
        (FREE, {"kernel_size": (1, 3), "padding": (1, 1)}, (0, 6, 1, -1), (0, 4, -1), "more than the one row"),
        (FREE, {"kernel_size": (3, 1), "padding": (1, 0)}, (0, 6, 1, -1), (0, 4, -1), "more than the one row"),
        (FREE, {"kernel_size": 1, "stride": (2, 1), "padding": ((1, 0), (0, 0))}, (0, 6, 1, -1), (0, 4, -1), "more than the"),
        (FREE, {"kernel_size": (1, 3, 1), "padding": (0, 1, 0)}, (0, 6, 1, 1, -1), (0, 4, -1), "more than the one row"),
        (KNOWN, {"kernel_size": 1}, (0, 6, 3, 3), (0, 4, 9), "an axis of one row"),
        ((2, 6, 9), {"kernel_size": 1}, (9, 6, 1, 2), (2, 4, 9), "an axis of one row"),
        ((None, 3, 8), {"kernel_size": 1}, (0, 6, 1, 4), (0, 2, 8), "an axis of one row"),
        (KNOWN, {"kernel_size": 1}, (0, 6, 1, 9), (0, 2, 18), "taken away again"),
        (FREE, {"kernel_size": 1}, (0, 6, 1, -1), (0, 4, 1, -1), "taken away again"),
        ((None, 6, 5, 1), {"kernel_size": 1}, (0, 6, 1, 5), (0, 4, 5), "an axis of one row"),
    ],
)
def test_all_else_is_refused(rng, row, arguments, unsqueeze, squeeze, reason):
    conv = random_conv(rng, 6, 4, **arguments)
    log = check_pass(squeeze_conv, build(lambda x: Reshape(squeeze)(conv(Reshape(unsqueeze)(x))), x=row))
    assert not log.steps
    assert reason in log.declined[0].reason


def test_it_reads_as_many_pixels_of_the_row_as_before(rng):
    """Where nothing is padded the row must have a kernel's pixels: the image had to have them, too."""
    graph = build(lambda x: Reshape((0, 4, -1))(random_conv(rng, 6, 4, (1, 3))(Reshape((0, 6, 1, -1))(x))), x=FREE)
    check_pass(squeeze_conv, graph)
    assert [str(node.op) for node in graph.nodes] == ["Conv 6->4 3"]


@pytest.mark.parametrize(("batch", "channels"), [(1, 6), (1, 1), (None, 1)])
def test_a_batch_or_channels_of_one(rng, batch, channels):
    conv = random_conv(rng, channels, channels, (1, 3), padding=(0, 1))
    squeeze, unsqueeze = Reshape((batch or 0, channels, -1)), Reshape((batch or 0, channels, 1, -1))
    graph = build(lambda x: squeeze(conv(unsqueeze(x))), x=(batch, channels, None))
    check_pass(squeeze_conv, graph)
    assert [str(node.op) for node in graph.nodes] == [f"Conv {channels}->{channels} 3"]


def test_an_image_of_one_slice(rng):
    conv = random_conv(rng, 6, 4, (1, 3, 2), padding=(0, 1, 0))
    graph = build(lambda x: Reshape((0, 4, 5, 6))(conv(Reshape((0, 6, 1, 5, 7))(x))), x=(None, 6, 5, 7))
    check_pass(squeeze_conv, graph)
    assert [str(node.op) for node in graph.nodes] == ["Conv 6->4 3x2"]
