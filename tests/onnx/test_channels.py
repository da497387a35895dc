"""How the operators that move channels are read, and the shapes they are told by.  Tables as in test_operators.py."""

import numpy as np
import pytest

import repcompiler

C = "c = Conv(x, w_8x4x3x3)"


PARTS = "SplitToSequence<axis=1>"
SWAP = "t = Transpose<perm=[1,0,2,3]>(c) g = GatherND(t, i)"


def number(n):
    return np.array(n, np.int64)


def case(name, body, becomes, **options):
    return pytest.param(body, becomes, options, id=name)


def table(*cases):
    return pytest.mark.parametrize(("body", "becomes", "options"), cases)


@table(
    case("Split, opset 7", f"{C} s, t = Split<axis=1, split=[3,5]>(c)", "Conv", opset=7),
    case("Split, opset 13", f"{C} s, t = Split<axis=1>(c, [3,5])", "Conv"),
    case("Split from behind", f"{C} s, t = Split<axis=-3>(c, [3,5])", "Conv"),
    case("Split into equal parts", f"{C} s, t = Split<axis=1>(c)", "Conv"),
    case("Split by number", f"{C} s, t = Split<axis=1, num_outputs=2>(c)", "Conv", opset=18),
    case("Slice", f"{C} s = Slice(c, [1], [5], [1])", "Conv"),
    case("Slice with steps", f"{C} s = Slice(c, [1], [8], [1], [3])", "Conv"),
    case("Gather", f"{C} s = Gather<axis=1>(c, [5,0,5,-1])", "Conv"),
    case("Gather of one", f"{C} s = Gather<axis=1>(c, [2])", "Conv"),
    case("SequenceAt, of equal parts", f"{C} q = {PARTS}(c, n) s = SequenceAt(q, i)", "Conv", n=number(3), i=number(2)),
    case("SequenceAt, of sizes", f"{C} q = {PARTS}(c, [3,5]) s = SequenceAt(q, i)", "Conv", i=number(1)),
    case("SequenceAt from behind", f"{C} q = {PARTS}(c, [3,4,1]) s = SequenceAt(q, i)", "Conv", i=number(-3)),
    case("GatherND", f"{C} {SWAP} s = Transpose<perm=[1,0,2,3]>(g)", "Conv", i=np.array([[5], [0], [-1]])),
)
def test_a_selection_of_channels_goes_into_the_conv_before_it(expect, body, becomes, options):
    expect(f"{body} y = Relu(s)", f"{becomes} Relu", options)


@table(
    case("Split of unequal parts by number", f"{C} s, t, u = Split<axis=1, num_outputs=3>(c)", "Conv Split", opset=18),
    case("Split of a spatial axis", f"{C} s, t = Split<axis=2>(c)", "Conv Split", x="1,4,6,7"),
    case(
        "Split by an input", f"{C} s, t = Split<axis=1>(c, p)", "Conv Split", inputs="int64[2] p", given={"p": np.array([3, 5])}
    ),
    case(
        "Gather by an input", f"{C} s = Gather<axis=1>(c, p)", "Conv Gather", inputs="int64[2] p", given={"p": np.array([3, 5])}
    ),
    case("Gather of a spatial axis", f"{C} s = Gather<axis=2>(c, [1,0])", "Conv Gather", x="1,4,6,7"),
    case("Gather by a matrix", f"{C} s = Gather<axis=1>(c, i)", "Conv Gather", i=np.array([[0, 1]]), y="a,b,c,d,e"),
    case("Gather by a scalar", f"{C} s = Gather<axis=1>(c, i)", "Conv Gather", i=np.array(3), y="a,b,c"),
    case("images", f"{C} s = Slice(c, [1], [9], [0])", "Conv Slice", x="3,4,6,7"),
    case("channels and rows", f"{C} s = Slice(c, [1,1], [5,-1], [1,2])", "Conv Slice"),
    case("GatherND of images", f"{C} s = GatherND(c, i)", "Conv GatherND", i=np.array([[1], [0]])),
    case(
        "GatherND of channels and images",
        f"{C} {SWAP} s = Transpose<perm=[1,0,2,3]>(g)",
        "Conv GatherND Transpose Transpose",
        i=np.array([[[5, 0], [0, 0]]]),
    ),
    case(
        "GatherND, put back otherwise",
        f"{C} {SWAP} s = Transpose<perm=[1,0,3,2]>(g)",
        "Conv GatherND Transpose Transpose",
        i=np.array([[5], [0]]),
    ),
)
def test_another_selection_stays(expect, body, becomes, options):
    expect(f"{body} y = Relu(s)", " ".join(sorted(f"{becomes} Relu".split())), options)


@table(
    case("one part", "s, u = Split<axis=1>(k_8x8x3x3) a = Conv(x, s)", "Conv Relu"),
    case("both", "s, u = Split<axis=1>(k_8x8x3x3) b = Conv(x, s) c = Conv(x, u) a = Add(b, c)", "Conv Relu"),
    case("in another order", "s, u = Split<axis=1>(k_8x4x3x3, [3,1]) w = Concat<axis=1>(u, s) a = Conv(x, w)", "Conv Relu"),
    case("single rows", "s, t, u = Split<axis=2>(k_8x4x3x3, [1,1,1]) a = Conv(x, t)", "Conv Relu"),
    case("of a sequence", f"q = {PARTS}(k_8x8x3x3, [4,4]) s = SequenceAt(q, i) a = Conv(x, s)", "Conv Relu", i=number(1)),
)
def test_a_kernel_that_is_a_part_of_another_is_a_constant(expect, body, becomes, options):
    expect(f"{body} n = BatchNormalization(a, g_8, b_8, m_8, var_8) y = Relu(n)", becomes, options)


@table(
    case("both parts read", "s, t = Split<axis=1>(c)", "Conv Mul Relu Split"),
    case("one part read twice", "s, u = Split<axis=1>(c) t = Neg(s)", "Conv Mul Neg Relu"),
    case("the whole read too", "s, u = Split<axis=1>(c) p = Neg(c) t, v = Split<axis=1>(p)", "Conv Mul Neg Relu Split Split"),
)
def test_parts_that_are_read_elsewhere_compute_what_they_did(check, model, body, becomes, options, operators):
    source = model(f"{C} {body} r = Relu(s) y = Mul(r, t)", **options)
    result, report = check(source)
    assert operators(result) == becomes
    assert report.verification.checked


@table(
    case(
        "by an input",
        f"q = {PARTS}(c, [3,5]) y = SequenceAt(q, p)",
        "Conv SequenceAt SplitToSequence",
        inputs="int64 p",
        given={"p": number(1)},
        y="a,b,c,d",
    ),
    case("of rows", "q = SplitToSequence<axis=2>(c, n) y = SequenceAt(q, i)", "Conv SequenceAt SplitToSequence", n=number(1)),
    case(
        "counted",
        f"q = {PARTS}(c, n) s = SequenceAt(q, i) y = Neg(s) v = SequenceLength(q)",
        "Conv Neg SequenceAt SequenceLength SplitToSequence",
        outputs="int64 v",
        n=number(4),
    ),
)
def test_another_sequence_stays(model, run, assert_close, operators, body, becomes, options):
    options = {**options}
    feeds = {"x": np.random.default_rng(0).standard_normal((2, 4, 6, 7)).astype("float32"), **options.pop("given", {})}
    source = model(f"{C} {body}", **{"i": number(1)} | options)
    result = repcompiler.compile(source, objective="plain")
    assert operators(result) == becomes
    assert_close(run(result, feeds), run(source, feeds))


@table(
    case("axis 1", "y = Concat<axis=1>(a, b)", "Conv"),
    case("axis -3", "y = Concat<axis=-3>(a, b)", "Conv"),
    case("with the image", "y = Concat<axis=1>(a, x)", "Conv"),
    case("twice the same", "y = Concat<axis=1>(a, a)", "Conv"),
    case("the batch", "y = Concat<axis=0>(a, b)", "Concat Conv Conv"),
    case("rows", "y = Concat<axis=2>(a, b)", "Concat Conv Conv"),
    case("a constant", "y = Concat<axis=1>(a, k_1x2x5x6)", "Concat Conv", x="1,4,5,6"),
)
def test_branches_side_by_side(expect, body, becomes, options):
    expect(f"a = Conv(x, v_4x4x1x1) b = Conv<pads=[1,1,1,1]>(x, w_4x4x3x3) {body}", becomes, options)


SHUFFLE = "t = Transpose<perm=[0,2,1,3,4]>(s) u = Reshape(t, {1}) y = Conv<group=2>(u, w_8x4x1x1)"


@table(
    case("of known size", "s = Reshape(x, [2,2,4,5,6])", "[2,8,5,6]", x="2,8,5,6"),
    case("of any batch", "s = Reshape(x, [-1,2,4,5,6])", "[-1,8,5,6]", x="N,8,5,6"),
    case(
        "of a size in a Shape node",
        "h = Shape<start=2>(x) g = Concat<axis=0>([2,2,4], h) s = Reshape(x, g)",
        "[2,8,5,6]",
        x="2,8,5,6",
    ),
    case("two axes crossed", "s = Reshape(x, [2,4,2,5,6])", "[2,8,5,6]", x="2,8,5,6"),
    case("0 for an extent that stays", "s = Reshape(x, [0,2,4,5,6])", "[0,8,5,6]", x="N,8,5,6"),
)
def test_a_channel_shuffle_computes_what_it_did(check, model, body, becomes, options):
    _, report = check(model(f"{body} {SHUFFLE.replace('{1}', becomes)}", **options))
    assert report.verification.checked
    assert not report.reverted


@table(
    case(
        "Reshape by an input", "s = Reshape(x, p)", "Relu Reshape", inputs="int64[2] p", given={"p": np.array([-1, 2])}, y="a,b"
    ),
    case("Reshape with allowzero", "s = Reshape<allowzero=1>(x, [6,-1])", "Relu Reshape", x="2,3,4", y="a,b"),
    case("Flatten of another axis", "s = Flatten<axis=2>(x)", "Flatten Relu", x="2,3,4,5", y="a,b"),
    case("Transpose in reverse", "s = Transpose(x)", "Relu Transpose"),
    case(
        "Shape of the part that is unknown",
        "h = Shape<start=2>(x) g = Concat<axis=0>([0,0], h) s = Reshape(x, g)",
        "Concat Relu Reshape Shape",
    ),
)
def test_other_layouts_stay(expect, body, becomes, options):
    expect(f"{body} y = Relu(s)", becomes, options)


def test_a_reshape_to_the_shape_there_is_goes(expect):
    expect("h = Shape(x) s = Reshape(x, h) y = Relu(s)", "Relu", {})


@table(
    case("Flatten", "f = Flatten(n) s = Gemm(f, w_80x5, b_5)", "Flatten Gemm Relu"),
    case("Flatten, axis from behind", "f = Flatten<axis=-3>(n) s = Gemm(f, w_80x5)", "Flatten Gemm Relu"),
    case("Reshape", "f = Reshape(n, [-1,80]) s = Gemm(f, w_80x5)", "Gemm Relu Reshape"),
    case("Reshape with allowzero", "f = Reshape<allowzero=1>(n, [-1,80]) s = Gemm(f, w_80x5)", "Gemm Relu Reshape"),
    case("Flatten of rows", "f = Flatten(n) s = MatMul(f, w_20x5)", "Flatten Gemm Relu", x="N,4,5"),
    case("Flatten of a conv", "c = Conv(n, k_6x4x2x1, d_6) f = Flatten(c) s = Gemm(f, w_90x5, b_5)", "Flatten Gemm Relu"),
)
def test_batch_norm_goes_into_the_fully_connected_layer_of_the_flattened_image(expect, body, becomes, options):
    body = f"n = BatchNormalization(x, gamma_4, beta_4, mean_4, var_4) {body} y = Relu(s)"
    expect(body, becomes, {"x": "N,4,4,5", "y": "a,b", **options})


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 18, 23])
def test_a_flattened_image_is_written_valid_in_every_operator_set(check, model, opset):
    body = "n = BatchNormalization(x, gamma_4, beta_4, mean_4, var_4) f = Flatten(n) y = Gemm(f, w_80x5, b_5)"
    _, report = check(model(body, x="N,4,4,5", y="a,b", opset=opset))
    assert report.steps
    assert report.verification.checked


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 13, 18, 23])
def test_what_is_written_for_channels_is_valid_in_every_operator_set(check, model, opset):
    select = "Split<axis=1, split=[3,5]>(x)" if opset < 13 else "Split<axis=1>(x, [3,5])"
    body = f"a, b = {select} c = Gather<axis=1>(b, [2,0,2]) d = Gather<axis=1>(c, [2,1]) e = Concat<axis=1>(a, d) y = Relu(e)"
    assert check(model(body, x="N,8,H,W", opset=opset))[1].verification.checked


def test_nodes_that_take_the_place_of_one_have_names_of_their_own(check, model, operators):
    body = "q = Relu(x) g = Gather<axis=1>(q, [3,2,1,0]) s, t = Split<axis=1>(g) r = Relu(s) y = Mul(r, t)"
    source = model(body, x="N,4,6,7", y="N,2,6,7")
    for index, node in enumerate(source.graph.node):
        node.name = f"{node.op_type} {index}"
    result, report = check(source)
    assert operators(result) == "Gather Gather Mul Relu Relu"
    names = [node.name for node in result.graph.node]
    assert len(set(names)) == len(names)
    assert report.verification.checked


@pytest.mark.parametrize("before", ["", "z = Relu(x)"])
def test_convolution_that_does_nothing_is_an_identity_where_its_result_has_a_name(check, model, operators, before):
    source = model(f"{before} y = Conv({'z' if before else 'x'}, k)", k=np.eye(4, dtype=np.float32)[..., None, None])
    result, _ = check(source, objective="latency")
    assert operators(result) == ("Identity Relu" if before else "Identity")


INTERLEAVED = "u = Unsqueeze(x, [2]) t = Tile(u, [1,1,2,1,1])"


@table(
    case("Tile", "t = Tile(x, [1,2,1,1])", "Conv"),
    case("Expand", "t = Expand(x, [1,8,1,1])", "Conv", x="N,1,H,W"),
    case("Expand by fewer axes", "t = Expand(x, [8,1,1])", "Conv", x="N,1,H,W"),
    case("Expand and Tile", "e = Expand(x, [1,1,1,1]) t = Tile(e, [1,2,1,1])", "Conv"),
    case("each twice", f"{INTERLEAVED} t_ = Reshape(t, [2,8,5,6]) t__ = Identity(t_)", "Conv", x="2,4,5,6"),
    case("all twice", "u = Unsqueeze(x, [1]) e = Expand(u, [2,2,4,5,6]) t = Reshape(e, [2,8,5,6])", "Conv", x="2,4,5,6"),
)
def test_copies_of_channels_merge_with_what_they_are_added_to(expect, body, becomes, options):
    """Du et al., ABPN, CVPRW 2021: what is enlarged by a pixel shuffle is added to copies of the image."""
    last = "t__" if "t__" in body else "t"
    expect(f"{body} c = Conv<pads=[1,1,1,1]>(x, w_8x{options.get('x', 'N,4,H,W')[2]}x3x3) y = Add(c, {last})", becomes, options)


@table(
    case("images", "y = Tile(c, [2,1,1,1])", "Conv Tile"),
    case("rows", "y = Tile(c, [1,1,2,1])", "Conv Tile"),
    case("rows of one", "y = Expand(c, [1,1,7,1])", "Conv Expand", x="N,4,1,W"),
    case("a new axis", "y = Expand(c, [2,1,1,1,1])", "Conv Expand", y="a,b,c,d,e"),
    case("by an input", "y = Tile(c, p)", "Conv Tile", inputs="int64[4] p", given={"p": np.array([1, 2, 1, 1])}),
    case(
        "put elsewhere",
        "u = Unsqueeze(c, [2]) t = Tile(u, [1,1,2,1,1]) y = Reshape(t, [2,4,5,12])",
        "Conv Reshape Tile Unsqueeze",
        x="2,4,5,6",
        k="w_4x4x1x1",
    ),
)
def test_copies_of_anything_else_stay(expect, body, becomes, options):
    options = {**options}
    expect(f"c = Conv(x, {options.pop('k', 'w_8x4x1x1')}) {body}", becomes, options)
