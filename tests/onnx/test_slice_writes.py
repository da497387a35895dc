"""Slice assignment as exporters write it, ScatterND: channels of another map, and frames around one."""

import numpy as np
import pytest

import repcompiler
from repcompiler.frontends.onnx import OnnxDocument
from repcompiler.ops import Frame, Opaque, Pad

CONV = "c = Conv<kernel_shape=[1,1]>(x, w_6x4x1x1, b)"
FRONT = "t = Transpose<perm=[1,0,2,3]>(c)  u = Transpose<perm=[1,0,2,3]>(v)"
BACK = "z = Transpose<perm=[1,0,2,3]>(s)  y = Relu(z)"
ROWS, COLUMNS = "2,1,0,3", "3,1,2,0"
"""The order of axes that brings rows or columns to the front."""


def biased():
    """A bias, and the same in the shape of an image."""
    b = np.random.default_rng(5).normal(size=6).astype(np.float32)
    return {"b": b, "f": b.reshape(1, 6, 1, 1)}


def indices(*numbers):
    return np.array(numbers, np.int64).reshape(-1, 1)


def computed(name, source, axis, start, stop):
    """Places from `start` to `stop` along an axis, at every size."""
    return f"""{name}s = Shape({source})  {name}g = Gather({name}s, a{axis})  {name}r = Range(zero, {name}g, one)
        {name}p = Slice({name}r, [{start}], [{stop}], [0], [1])  {name} = Unsqueeze({name}p, [-1])"""


SCALARS = {name: np.array(number, np.int64) for name, number in (("zero", 0), ("one", 1), ("a2", 2), ("a3", 3))}
END = 2**31


def written(result, source, axis, start, stop, update, n=0):
    """Part of an axis overwritten with what broadcasts to it: exporters bring the axis to the front, and back."""
    perm = ROWS if axis == 2 else COLUMNS
    k = f"{result}{n}"
    return f"""{computed(k + "i", source, axis, start, stop)}
        {k}l = Slice({source}, [{start}], [{stop}], [{axis}], [1])  {k}z = Shape({k}l)  {k}e = Expand({update}, {k}z)
        {k}t = Transpose<perm=[{perm}]>({source})  {k}u = Transpose<perm=[{perm}]>({k}e)
        {k}o = ScatterND({k}t, {k}i, {k}u)  {result} = Transpose<perm=[{perm}]>({k}o)"""


def framed(*sides, update="f", source="p"):
    """A map whose sides (axis, start, stop) are written over, the last as `s`."""
    names = [source, *(f"s{n}" for n in range(1, len(sides))), "s"]
    return "  ".join(written(names[n + 1], names[n], *side, update, n) for n, side in enumerate(sides))


ALL_SIDES = ((2, 0, 1), (2, -1, END), (3, 0, 1), (3, -1, END))
PAD = "p = Pad(c, [0,0,1,1,0,0,1,1])"
THREE = "y = Conv<kernel_shape=[3,3]>(s, k_5x6x3x3)"


def kinds(proto, kind):
    return [node for node in OnnxDocument.open(proto).graph().nodes if isinstance(node.op, kind)]


@pytest.mark.parametrize("places", [(0, 1), (2, 3), (4, 5), range(6)])
def test_channels_written_over_are_a_concatenation(check, model, operators, places):
    rows = len(places)
    body = f"{CONV}  v = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(x, k_{rows}x4x3x3)  {FRONT}  s = ScatterND(t, i, u)  {BACK}"
    result, report = check(model(body, i=indices(*places), **biased()))
    assert operators(result) == "Conv Relu"
    assert report.verification.checked


def test_channels_that_are_counted_from_the_end_are_those(check, model, operators):
    body = f"{CONV}  v = Conv<kernel_shape=[1,1]>(x, k_2x4x1x1)  {FRONT}  s = ScatterND(t, i, u)  {BACK}"
    assert operators(check(model(body, i=indices(-3, -2), **biased()))[0]) == "Conv Relu"


def test_an_image_of_indices_names_channels_too(check, model, operators):
    """By TorchScript: a pair of numbers, of batch and channel, for every channel of every sample."""
    grid = np.stack(np.meshgrid(np.arange(2), np.arange(1, 4), indexing="ij"), -1)
    body = f"{CONV}  v = Conv<kernel_shape=[1,1]>(x, k_3x4x1x1)  y = ScatterND(c, i, v)"
    assert operators(check(model(body, x="2,4,H,W", i=grid, **biased()))[0]) == "Conv"


def test_some_channels_added_to_are_one_convolution(check, model, operators):
    """out[:, 1:5] += x writes the sum, and then once more where it already is."""
    body = f"""{CONV}  a = Slice(c, [1], [5], [1], [1])  v = Add(a, x)  {FRONT}  s = ScatterND(t, i, u)
        q = Transpose<perm=[1,0,2,3]>(s)  l = Slice(q, [1], [5], [1], [1])  m = Transpose<perm=[1,0,2,3]>(l)
        n = Transpose<perm=[1,0,2,3]>(q)  o = ScatterND(n, i, m)
        z = Transpose<perm=[1,0,2,3]>(o)  y = Relu(z)"""
    assert operators(check(model(body, i=indices(1, 2, 3, 4), **biased()))[0]) == "Conv Relu"


def test_what_was_written_over_stays_for_its_other_readers(check, model):
    kept = f"{CONV}  r = Relu(c)  v = Slice(r, [0], [4], [1], [1])  {FRONT}  s = ScatterND(t, i, u)"
    body = f"{kept}  q = Transpose<perm=[1,0,2,3]>(s)  y = Add(q, c)"
    check(model(body, i=indices(1, 2, 3, 4), **biased()))


def test_what_no_rewrite_touches_stays_as_it_is_written(model):
    body = f"c = Relu(x)  p = Sigmoid(x)  v = Slice(p, [0], [2], [1], [1])  {FRONT}  s = ScatterND(t, i, u)  y = Tanh(s)"
    source = model(body, y="4,N,H,W", i=indices(1, 2))
    result = repcompiler.compile(source)
    assert [(*node.input, *node.output) for node in result.graph.node] == [(*n.input, *n.output) for n in source.graph.node]


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 0, 2, 1)])
def test_a_frame_of_what_the_map_makes_of_zero_is_merged(check, model, operators, order):
    """As in ECBSR: pointwise, padded, all four sides overwritten with the bias, then 3x3."""
    body = f"{CONV}  {PAD}  {framed(*(ALL_SIDES[n] for n in order))}  {THREE}"
    assert operators(check(model(body, **biased(), **SCALARS))[0]) == "Conv"


@pytest.mark.parametrize(("factor", "merged"), [(1 + 2**-22, True), (1 + 2**-18, False), (0, False)])
def test_a_frame_is_the_bias_if_rounding_alone_tells_them_apart(check, model, operators, factor, merged):
    """Exporters fold a batch norm into the bias one way, and what it makes of zero another."""
    arrays = biased()
    arrays["f"] = (arrays["f"] * factor).astype(np.float32)
    result, _ = check(model(f"{CONV}  {PAD}  {framed(*ALL_SIDES)}  {THREE}", **arrays, **SCALARS))
    assert (operators(result) == "Conv") == merged


def test_sides_that_meet_leave_nothing_of_the_map(check, model):
    """Two rows of three from either end is refused below; two and one are all of them."""
    proto = model(f"{CONV}  {framed((2, 0, 2), (2, -1, END), source='c')}  y = Relu(s)", x="N,4,3,W", **biased(), **SCALARS)
    assert [node.op.padding for node in kinds(proto, Pad)] == [((-2, -1), (0, 0))]
    check(proto)


def test_wider_frames_are_merged(check, model, operators):
    sides = ((2, 0, 2), (2, -2, END), (3, 0, 2), (3, -2, END))
    body = f"{CONV}  p = Pad(c, [0,0,2,2,0,0,2,2])  {framed(*sides)}  y = Conv<kernel_shape=[5,5]>(s, k_5x6x5x5)"
    assert operators(check(model(body, **biased(), **SCALARS))[0]) == "Conv"


def test_a_border_of_the_map_itself_may_be_written_over(check, model):
    """The first row and the last column become something else: a crop, and a frame of one side each."""
    proto = model(f"{CONV}  {framed((2, 0, 1), (3, -1, END), source='c')}  {THREE}", **biased(), **SCALARS)
    assert [node.op.padding for node in kinds(proto, Frame)] == [((1, 0), (0, 1))]
    assert [node.op.padding for node in kinds(proto, Pad)] == [((-1, 0), (0, -1))]
    check(proto)


def test_sides_that_hold_other_numbers_are_frames_of_their_own(check, model):
    body = f"{CONV}  {PAD}  {written('q', 'p', 2, 0, 1, 'f')}  {written('s', 'q', 3, 0, 1, 'e')}  {THREE}"
    proto = model(body, e=np.array(0.75, np.float32), **biased(), **SCALARS)
    check(proto)
    assert len(kinds(proto, Frame)) == 2


def test_zeros_written_over_zeros_are_padding(check, model, operators):
    body = f"c = Conv<kernel_shape=[1,1]>(x, w_6x4x1x1)  {PAD}  {framed(*ALL_SIDES, update='e')}  {THREE}"
    assert operators(check(model(body, e=np.array(0, np.float32), **SCALARS))[0]) == "Conv"


def inside(constant):
    """A map into the inside of a constant, axis by axis."""
    return f"""{CONV}  z = Pad(c, [0,0,1,1,0,0,1,1])  n = Shape(z)  {constant}
        {computed("i", "d", 2, 1, -1)}  {computed("j", "d", 3, 1, -1)}  l = Slice(d, [1], [-1], [2], [1])
        lt = Transpose<perm=[{COLUMNS}]>(l)  ct = Transpose<perm=[{COLUMNS}]>(c)  o = ScatterND(lt, j, ct)
        dt = Transpose<perm=[{ROWS}]>(d)  ot = Transpose<perm=[2,1,3,0]>(o)  r = ScatterND(dt, i, ot)
        s = Transpose<perm=[{ROWS}]>(r)  {THREE}"""


def test_a_map_written_into_a_constant_is_framed_by_it(check, model, operators):
    proto = model(inside("d = Expand(f, n)"), **biased(), **SCALARS)
    assert operators(check(proto)[0]) == "Conv"


def test_a_map_written_into_zeros_is_padded(check, model, operators):
    proto = model(inside("d = ConstantOfShape(n)"), **biased(), **SCALARS)
    assert operators(check(proto)[0]) == "Conv Conv"
    assert not kinds(proto, Opaque) or "ScatterND" not in {node.op.label for node in kinds(proto, Opaque)}


def test_channels_written_into_zeros_are_channels_of_zeros_around(check, model, operators):
    body = f"""{CONV}  n = Shape(c)  d = ConstantOfShape(n)  v = Conv<kernel_shape=[3,3],pads=[1,1,1,1]>(x, k_3x4x3x3)
        t = Transpose<perm=[1,0,2,3]>(d)  u = Transpose<perm=[1,0,2,3]>(v)  s = ScatterND(t, i, u)
        q = Transpose<perm=[1,0,2,3]>(s)  y = Add(q, c)"""
    assert operators(check(model(body, i=indices(1, 2, 3), **biased()))[0]) == "Conv"


PARTLY = "v = Conv<kernel_shape=[1,1]>(x, k_2x4x1x1)"
REFUSED = {
    "its indices are not one range an axis": [
        (f"{CONV}  {PARTLY}  {FRONT}  s = ScatterND(t, i, u)  {BACK}", {"i": indices(1, 3)}),
        (f"{CONV}  {PARTLY}  {FRONT}  s = ScatterND(t, i, u)  {BACK}", {"i": indices(2, 2)}),
        (f"{CONV}  {PARTLY}  {FRONT}  s = ScatterND(t, i, u)  {BACK}", {"i": indices(2, 1)}),
        (f"{CONV}  {PARTLY}  {FRONT}  s = ScatterND(t, i, u)  {BACK}", {"i": indices(-1, 0)}),
    ],
    "its indices are computed, and not one range an axis at every size": [
        (
            f"{CONV}  {PARTLY}  {FRONT}  m = ReduceSum<keepdims=0>(x)  l = Less(m, g)  n = Cast<to=7>(l)  h = Add(i, n)"
            f"  s = ScatterND(t, h, u)  {BACK}",
            {"i": indices(1, 2), "g": np.array(-1e30, np.float32)},
        ),
        (f"{CONV}  {PAD}  {written('s', 'p', 2, 0, 1, 'f').replace('Range(zero', 'Range(one')}  {THREE}", {}),
        (
            f"{CONV}  {PAD}  {computed('i', 'c', 2, -1, END)}  l = Slice(p, [0], [1], [2], [1])  z = Shape(l)  e = Expand(f, z)"
            f"  t = Transpose<perm=[{ROWS}]>(p)  u = Transpose<perm=[{ROWS}]>(e)  o = ScatterND(t, i, u)"
            f"  s = Transpose<perm=[{ROWS}]>(o)  {THREE}",
            {},
        ),
    ],
    "it adds to what is there": [
        (f'{CONV}  {PARTLY}  {FRONT}  s = ScatterND<reduction="add">(t, i, u)  {BACK}', {"i": indices(1, 2)}),
    ],
    "what it writes has its axes in another order": [
        (
            f"{CONV}  {PARTLY}  {FRONT.replace('u = Transpose<perm=[1,0,2,3]>', 'u = Transpose<perm=[1,0,3,2]>')}"
            f"  s = ScatterND(t, i, u)  {BACK}",
            {"i": indices(1, 2), "x": "N,4,7,7"},
        ),
    ],
    "it writes to a part of the image, and not to channels": [
        (f"{CONV}  g = Sigmoid(c)  m = Slice(g, [-1], [{END}], [2], [1])  {written('s', 'c', 2, 0, 1, 'm')}  {THREE}", {}),
    ],
    "it writes a constant, and not along a border of the image": [
        (f"{CONV}  {PAD}  {written('s', 'p', 2, 1, -1, 'f')}  {THREE}", {}),
    ],
    "the image may have fewer pixels than it writes": [
        (f"{CONV}  {written('s', 'c', 2, 0, 2, 'f')}  {THREE}", {}),
        (f"{CONV}  {framed((2, 0, 1), (2, -1, END), source='c')}  {THREE}", {}),
        (f"{CONV}  {framed((2, 0, 2), (2, -2, END), source='c')}  y = Relu(s)", {"x": "N,4,3,W"}),
    ],
    "it writes a constant that is not one number a channel": [
        (f"{CONV}  {PAD}  {written('s', 'p', 2, 0, 1, 'e')}  {THREE}", {"x": "N,4,H,5", "e": np.arange(7, dtype=np.float32)}),
    ],
}


@pytest.mark.parametrize(("reason", "body", "arrays"), [(reason, *case) for reason, cases in REFUSED.items() for case in cases])
def test_anything_else_is_left_as_it_is_and_why(check, model, reason, body, arrays):
    proto = model(body, **{**biased(), **SCALARS, **arrays})
    assert reason in {node.op.reason for node in kinds(proto, Opaque) if node.op.label == "ScatterND"}
    check(proto)


@pytest.mark.parametrize(("step", "count"), [("Add({0}, {0})", 40), ("Identity({0})", 1000)])
def test_what_computes_an_index_is_looked_at_once(model, step, count):
    """Forty steps that double what they read, or a thousand in a row."""
    chain = "  ".join(f"r{n + 1} = {step.format(f'r{n}')}" for n in range(count))
    body = f"""{CONV}  {PARTLY}  {FRONT}  h = Shape(c)  g = Gather(h, a2)  r0 = Range(zero, g, one)  {chain}
        p = Slice(r{count}, [1], [3])  i = Unsqueeze(p, [-1])  s = ScatterND(t, i, u)  {BACK}"""
    graph = OnnxDocument.open(model(body, **biased(), **SCALARS)).graph()
    assert any(isinstance(node.op, Opaque) and node.op.label == "ScatterND" for node in graph.nodes)
