"""How the operators without weights are read: pooling, padding, slicing, and what passes its input on.

Tables as in test_operators.py.
"""

import numpy as np
import pytest

LAST = 2**62
"""An end that means 'to the end'."""


def case(name, body, becomes, **options):
    return pytest.param(body, becomes, options, id=name)


def table(*cases):
    return pytest.mark.parametrize(("body", "becomes", "options"), cases)


ROUNDED_UP = "AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)"


@table(
    case("plain", "p = AveragePool<kernel_shape=[3,2]>(x)", "Conv"),
    case("stride", "p = AveragePool<kernel_shape=[2,2], strides=[2,3]>(x)", "Conv", x="N,4,9,10"),
    case("padding counted", "p = AveragePool<kernel_shape=[3,3], pads=[1,0,1,2], count_include_pad=1>(x)", "Conv"),
    case("padding not counted", "p = AveragePool<kernel_shape=[3,3], pads=[1,1,1,1]>(x)", "AveragePool Conv"),
    case("no padding to count", "p = AveragePool<kernel_shape=[3,3], pads=[0,0,0,0], count_include_pad=0>(x)", "Conv"),
    case("partial windows", f"p = {ROUNDED_UP}", "AveragePool Conv"),
    case("no partial windows", "p = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", "Conv", x="N,4,8,6"),
    case(
        "a partial one", "p = AveragePool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)", "AveragePool Conv", x="N,4,8,7"
    ),
    case("rounded up, by ones", "p = AveragePool<kernel_shape=[2,2], ceil_mode=1>(x)", "Conv"),
    case("SAME counted", 'p = AveragePool<kernel_shape=[2,4], auto_pad="SAME_UPPER", count_include_pad=1>(x)', "Conv"),
    case("SAME not counted", 'p = AveragePool<kernel_shape=[2,4], auto_pad="SAME_LOWER">(x)', "AveragePool Conv"),
    case(
        "SAME of nothing", 'p = AveragePool<kernel_shape=[2,2], strides=[2,2], auto_pad="SAME_LOWER">(x)', "Conv", x="N,4,6,8"
    ),
    case("VALID", 'p = AveragePool<kernel_shape=[2,2], auto_pad="VALID">(x)', "Conv"),
    case("dilation", "p = AveragePool<kernel_shape=[2,2], dilations=[2,2]>(x)", "AveragePool Conv", opset=19),
    case("maximum", "p = MaxPool<kernel_shape=[2,1]>(x)", "Conv MaxPool"),
    case("maximum of one pixel", "p = MaxPool<kernel_shape=[1,1], strides=[2,2]>(x)", "Conv"),
    case("maximum of one pixel, rounded up", "p = MaxPool<kernel_shape=[1,1], strides=[2,2], ceil_mode=1>(x)", "Conv"),
    case("maximum and its index", "p, i = MaxPool<kernel_shape=[1,1]>(x)", "Conv MaxPool", outputs="int64[a,b,c,d] i"),
)
def test_pool_before_conv(expect, body, becomes, options):
    expect(f"{body} y = Conv(p, w_8x4x1x1)", becomes, options)


def test_a_shortcut_of_resnet_d_is_removed_where_no_window_is_partial(expect):
    """As timm exports resnet50d: an average rounded up, 1x1, and the block beside it."""
    skip = f"p = {ROUNDED_UP}  s = Conv(p, k_8x4x1x1, b_8)"
    block = "c = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w_8x4x3x3, e_8)  r = Relu(c)  d = Conv<pads=[1,1,1,1]>(r, w_8x8x3x3)"
    expect(f"{skip}  {block}  t = Add(d, s)  y = Relu(t)", "Conv Conv Relu Relu", {"x": "N,4,8,6"})


def test_pool_of_one_axis_is_a_conv(expect):
    expect("p = AveragePool<kernel_shape=[3]>(x) y = Conv(p, w_8x4x1)", "Conv", {"x": "N,4,L"})


AXES = {"inputs": "int64[2] axes", "given": {"axes": np.array([2, 3])}}


@table(
    case("opset 9", "p = Pad<pads=[0,0,1,2,0,0,3,0]>(x)", "Conv", opset=9),
    case("opset 11", "p = Pad(x, [0,0,1,2,0,0,3,0])", "Conv", opset=11),
    case("opset 13, zero", "p = Pad(x, [0,0,1,2,0,0,3,0], 0.0)", "Conv", opset=13),
    case("opset 18, axes", "p = Pad(x, [1,2,3,0], 0.0, [-1,2])", "Conv", opset=18),
    case("opset 18, axes without a value", "p = Pad(x, [1,2,3,0], , [2,3])", "Conv", opset=18),
    case("amounts in a Constant node", "a = Constant<value_ints=[0,0,1,2,0,0,3,0]>() p = Pad(x, a)", "Conv"),
    case("a crop", "p = Pad(x, [0,0,-1,0,0,0,0,-2])", "Conv Pad"),
    case("opset 9, ones", "p = Pad<pads=[0,0,1,2,0,0,3,0], value=1.0>(x)", "Conv Pad", opset=9),
    case("ones", "p = Pad(x, [0,0,1,2,0,0,3,0], 1.0)", "Conv Pad"),
    case("reflect", 'p = Pad<mode="reflect">(x, [0,0,1,2,0,0,3,0])', "Conv Pad", x="N,4,5,6"),
    case("edge", 'p = Pad<mode="edge">(x, [0,0,1,2,0,0,3,0])', "Conv Pad"),
    case("wrap", 'p = Pad<mode="wrap">(x, [0,0,1,2,0,0,3,0])', "Conv Pad", x="N,4,5,6", opset=19),
    case("channels", "q = Pad(x, [0,1,0,0,0,2,0,0]) p = Conv(q, w_4x7x1x1)", "Conv"),
    case("channels and pixels", "q = Pad(x, [0,1,0,1,0,0,0,0]) p = Conv(q, w_4x5x1x1)", "Conv Pad"),
    case("fewer channels", "q = Pad(x, [0,-1,0,0,0,0,0,0]) p = Conv(q, w_4x3x1x1)", "Conv Pad"),
    case(
        "an amount that is an input",
        "p = Pad(x, a)",
        "Conv Pad",
        inputs="int64[8] a",
        given={"a": np.array([0, 0, 1, 2, 0, 0, 3, 0])},
    ),
    case("axes that are an input", "p = Pad(x, [1,2,3,0], , axes)", "Conv Pad", opset=18, **AXES),
    case("a value that is an input", "p = Pad(x, [0,0,1,2,0,0,3,0], v)", "Conv Pad", inputs="float v"),
)
def test_pad_before_conv(expect, body, becomes, options):
    expect(f"{body} y = Conv(p, w_8x4x3x3)", becomes, options)


@table(
    case("a border cut off (ACNet)", "p = Slice(x, [1,1], [-1,-1], [2,3])", "Conv"),
    case("steps of one", "p = Slice(x, [1,1], [-1,-1], [2,-1], [1,1])", "Conv"),
    case("no axes", f"p = Slice(x, [0,0,1,1], [{LAST},{LAST},-1,-1])", "Conv"),
    case("opset 9", "p = Slice<axes=[2,3], starts=[1,1], ends=[-1,-1]>(x)", "Conv", opset=9),
    case("ends by number", "p = Slice(x, [1,1], [6,8], [2,3])", "Conv", x="N,4,7,9"),
    case("starts from the end", "p = Slice(x, [-6,-8], [6,-1], [2,3])", "Conv", x="N,4,7,9"),
    case(
        "starts before the beginning",
        f"q = Slice(x, [-100,1], [{LAST},-1], [2,3]) p = Slice(q, [1], [-1], [2])",
        "Conv",
        x="N,4,7,9",
    ),
    case("ends behind the end", "q = Slice(x, [0,1], [100,-1], [2,3]) p = Slice(q, [1], [-1], [2])", "Conv", x="N,4,7,9"),
)
def test_a_crop_beside_a_smaller_conv_merges_with_it(expect, body, becomes, options):
    expect(f"{body} b = Conv(x, w_4x4x3x3) y = Add(p, b)", becomes, options)


STEP = {"inputs": "int64[1] step", "given": {"step": np.array([2])}}


@table(
    case("ends by number", "p = Slice(x, [1], [3], [2])", "Conv Slice"),
    case("starts from the end", f"p = Slice(x, [-2], [{LAST}], [2])", "Conv Slice"),
    case("every second pixel from the second", f"p = Slice(x, [1], [{LAST}], [2], [2])", "Conv"),
    case("every second pixel up to an end", "p = Slice(x, [0], [-1], [2], [2])", "Conv Slice"),
    case(
        "every second pixel of one axis and a crop of the other",
        f"p = Slice(x, [0,1], [{LAST},{LAST}], [2,3], [2,1])",
        "Conv Slice",
    ),
    case("backwards", f"p = Slice(x, [-1], [{-LAST}], [2], [-1])", "Conv Slice"),
    case("backwards, size known", f"p = Slice(x, [-1], [{-LAST}], [2], [-1])", "Conv Slice", x="N,4,5,6"),
    case("channels", f"q = Slice(x, [1], [{LAST}], [1]) p = Conv(q, w_4x3x1x1)", "Conv"),
    case("axes that are an input", "p = Slice(x, [1,1], [-1,-1], axes)", "Conv Slice", **AXES),
    case("steps that are an input", "p = Slice(x, [1], [-1], [2], step)", "Conv Slice", **STEP),
    case("all of it", f"p = Slice(x, [0], [{LAST}], [2])", "Conv"),
    case("every second pixel", f"p = Slice(x, [0,0], [{LAST},{LAST}], [2,3], [2,2])", "Conv"),
)
def test_slice_before_padded_conv(expect, body, becomes, options):
    expect(f"{body} y = Conv<pads=[1,1,1,1]>(p, w_8x4x3x3)", becomes, options)


def test_a_slice_that_stays_keeps_the_constant_nodes_it_reads(expect):
    constants = " ".join(
        f"{name} = Constant<value_ints=[{number}]>()" for name, number in zip("seat", (0, 99, 2, 2), strict=True)
    )
    expect(f"{constants} p = Slice(x, s, e, a, t) y = Relu(p)", "Relu Slice", {"x": "N,4,7,9"})


@pytest.mark.parametrize("bounds", ["[3], [-3]", f"[9], [{LAST}]", "[3], [2]", "[0], [0]", "[1], [-9]"])
def test_a_slice_of_nothing_stays(expect, bounds):
    expect(f"p = Slice(x, {bounds}, [2]) y = Mul(p, k_scalar)", "Mul Slice", {"x": "2,4,5,6"})


def test_a_slice_of_nothing_of_an_unknown_size_stays(expect):
    expect("p = Slice(x, [0], [0], [2]) y = Mul(p, k_scalar)", "Mul Slice", {})


def test_a_slice_of_a_matrix_stays(expect):
    expect("p = Slice(x, [1], [-1], [1]) y = Mul(p, k_scalar)", "Mul Slice", {"x": "N,6"})


@table(
    case("Identity", "i = Identity(x)", "Relu"),
    case("Dropout, opset 7", "i = Dropout<ratio=0.3>(x)", "Relu", opset=7),
    case("Dropout, opset 13", "i = Dropout(x, 0.3)", "Relu"),
    case("Dropout that does not train", "i = Dropout(x, 0.3, t)", "Relu", t=np.False_),
    case("Dropout that trains", "i = Dropout(x, 0.0, t)", "Dropout Relu", t=np.True_),
    case("Dropout that may train", "i = Dropout(x, 0.0, t)", "Dropout Relu", inputs="bool t"),
    case("Dropout with a mask", "i, m = Dropout(x)", "Dropout Relu", outputs="bool[a,b,c,d] m"),
    case("Cast of an input to its type", "i = Cast<to=1>(x)", "Relu"),
    case("Cast of a result to its type", "a = Exp(x) i = Cast<to=1>(a)", "Exp Relu"),
    case("CastLike of its own type", "i = CastLike(x, k_4)", "Relu"),
    case(
        "CastLike of another type",
        "a = CastLike(x, t) b = CastLike(x, a) i = CastLike(b, x)",
        "CastLike CastLike CastLike Relu",
        t=np.True_,
    ),
    case("Cast to another type", "a = Cast<to=11>(x) i = Cast<to=1>(a)", "Cast Cast Relu"),
    case("Identity of a value that is an output", "i = Identity(x) o = Relu(i)", "Relu Relu", outputs="float[a,b,c,d] o"),
    case("Identity that makes an output", "i = Identity(x)", "Identity Relu", outputs="float[a,b,c,d] i"),
)
def test_what_passes_its_input_on_goes(expect, body, becomes, options):
    expect(f"{body} y = Relu(i)", becomes, options)
