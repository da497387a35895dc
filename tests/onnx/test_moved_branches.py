"""Branches whose numbers are moved alike are added before, not behind: depth-to-space, transpositions, reshapes, slices."""

import pytest

LAYERS = "a = Conv<pads=[1,1,1,1]>(x, w_8x4x3x3, b_8) b = Conv(x, v_8x4x1x1)"


@pytest.mark.parametrize("mode", ["CRD", "DCR"])
@pytest.mark.parametrize("join", ["Add", "Sub"])
def test_branches_of_super_resolution_are_one(expect, mode, join):
    blocks = f'c = DepthToSpace<blocksize=2, mode="{mode}">(a) d = DepthToSpace<blocksize=2, mode="{mode}">(b)'
    expect(f"{LAYERS} {blocks} y = {join}(c, d)", "Conv DepthToSpace", {})


@pytest.mark.parametrize(
    ("moves", "becomes", "options"),
    [
        ("c = Transpose<perm=[0,2,3,1]>(a) d = Transpose<perm=[0,2,3,1]>(b)", "Conv Relu Transpose", {}),
        ("c = Reshape(a, [0,8,-1]) d = Reshape(b, [0,8,-1])", "Conv Relu Reshape", {"x": "N,4,6,7", "y": "N,8,42"}),
        ("c = Flatten(a) d = Flatten(b)", "Conv Flatten Relu", {"x": "N,4,6,7", "y": "N,336"}),
        ("c = SpaceToDepth<blocksize=2>(a) d = SpaceToDepth<blocksize=2>(b)", "Conv Relu", {"x": "N,4,6,8"}),
        ("c = Flatten(a) d = Flatten(b)", "Add Conv Conv Flatten Flatten Relu", {"y": "N,M"}),
    ],
)
def test_branches_that_are_moved_alike_are_one(expect, moves, becomes, options):
    expect(f"{LAYERS} {moves} e = Add(c, d) y = Relu(e)", becomes, options)


def test_other_blocks_stay(expect):
    blocks = 'c = DepthToSpace<blocksize=2, mode="CRD">(a) d = DepthToSpace<blocksize=2, mode="DCR">(b)'
    expect(f"{LAYERS} {blocks} y = Add(c, d)", "Add Conv Conv DepthToSpace DepthToSpace", {})
