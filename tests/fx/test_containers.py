"""Containers that a forward is given, and parts that it splits off: Python may ask for their number, their keys, their type."""

from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import repcompiler


def pair(c=4, o=4, k=3):
    return nn.Sequential(nn.Conv2d(c, o, k, padding=k // 2, bias=False), nn.BatchNorm2d(o))


class Levels(nn.Module):
    """Laterals and outputs of a feature pyramid over the maps of a list or of a dictionary."""

    def __init__(self):
        super().__init__()
        self.inner = nn.ModuleList(pair(c, k=1) for c in (4, 6))
        self.outer = nn.ModuleList(pair() for _ in range(2))

    def forward(self, maps):
        if not isinstance(maps, (list, tuple)):
            maps = list(maps.values())
        laterals = [lateral(x) for lateral, x in zip(self.inner, maps, strict=True)]
        for index in range(len(maps) - 1, 0, -1):
            laterals[index - 1] += F.interpolate(laterals[index], scale_factor=2.0)
        return [outer(x) for outer, x in zip(self.outer, laterals, strict=True)]


@pytest.mark.parametrize(
    "pack",
    [list, tuple, lambda maps: OrderedDict(zip("ab", maps, strict=True)), lambda maps: dict(enumerate(maps))],
    ids=["list", "tuple", "ordered", "dict"],
)
def test_maps_of_a_container_are_folded_into(randomise, same, calls, pack):
    model = randomise(Levels()).double()
    maps = [torch.randn(1, c, size, size, dtype=torch.float64) for c, size in ((4, 8), (6, 4))]
    result = repcompiler.compile(model, (pack(maps),), objective="plain")
    assert "BatchNorm2d" not in calls(result)
    other = [torch.randn(2, c, size, size + 2, dtype=torch.float64) for c, size in ((4, 6), (6, 3))]
    other[1] = other[1][..., :4]
    with torch.no_grad():
        same(model(pack(maps)), result(pack(maps)))
        same(model(pack(other)), result(pack(other)))


def test_what_a_container_lacks_stays_lacking_and_its_numbers_are_read(randomise, same, calls):
    class Optional(Levels):
        def forward(self, given):
            x, mask, (factor,) = given["x"], given["mask"], given["more"]
            x = self.outer[0](F.relu(self.inner[0](x))) * factor
            return x if mask is None else x * mask

    model = randomise(Optional()).double()
    given = {"x": torch.randn(2, 4, 5, 7, dtype=torch.float64), "mask": None, "more": (2.5,)}
    result = repcompiler.compile(model, (given,), objective="plain")
    computed = [name for name in calls(result).split() if name not in ("getitem", "len", "eq", "_assert")]
    assert computed == ["Conv2d", "relu", "Conv2d", "mul"]
    with torch.no_grad():
        same(model(given), result(given))
        given["more"] = (-1.0,)
        same(model(given), result(given))


def test_all_positional_arguments_are_counted(randomise, same, calls):
    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(pair(k=k) for k in (1, 3))

        def forward(self, *maps):
            assert len(maps) == len(self.branches)
            return sum(branch(x) for branch, x in zip(self.branches, maps, strict=True))

    model = randomise(Sums()).double()
    maps = tuple(torch.randn(1, 4, 5, 6, dtype=torch.float64) for _ in range(2))
    result = repcompiler.compile(model, maps, objective="plain")
    assert "BatchNorm2d" not in calls(result)
    same(model(*maps), result(*maps))


class Total(nn.Module):
    """Over however many maps there are."""

    def __init__(self):
        super().__init__()
        self.pair = pair()

    def forward(self, maps):
        return sum(self.pair(x) for x in (maps.values() if isinstance(maps, dict) else maps))


class TotalOfArguments(Total):
    def forward(self, *maps):
        return super().forward(maps)


class TotalOfNamed(Total):
    def forward(self, **maps):
        return super().forward(maps)


@pytest.mark.parametrize(
    ("kind", "call"),
    [
        (Total, lambda model, maps: model(maps)),
        (Total, lambda model, maps: model(tuple(maps))),
        (Total, lambda model, maps: model(dict(enumerate(maps)))),
        (TotalOfArguments, lambda model, maps: model(*maps)),
        (TotalOfNamed, lambda model, maps: model(**dict(zip("abc", maps, strict=False)))),
    ],
)
def test_more_or_fewer_maps_than_in_the_example_are_refused_rather_than_left_out(randomise, same, kind, call):
    model = randomise(kind()).double()
    maps = [torch.randn(1, 4, 5, 6, dtype=torch.float64) for _ in range(3)]
    example = call(lambda *args, **kwargs: kwargs or args, maps[:2])
    result = repcompiler.compile(model, example, objective="plain")
    with torch.no_grad():
        same(call(model, maps[1:]), call(result, maps[1:]))
    for other in (maps, maps[:1]):
        with pytest.raises(AssertionError, match=r"compiled for 2 items in '_?maps'"):
            call(result, other)


def test_a_list_that_is_written_into_is_still_written_into(randomise, same):
    class Detect(Levels):
        def forward(self, maps):
            for index, lateral in enumerate(self.inner):
                maps[index] = lateral(maps[index])
            return maps

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.detect = Detect()

        def forward(self, maps):
            return self.detect(maps)

    model = randomise(Network()).double()
    given, again = ([torch.randn(1, c, 4, 6, dtype=torch.float64) for c in (4, 6)] for _ in range(2))
    result = repcompiler.compile(model, (list(given),), objective="plain")
    with torch.no_grad():
        one, two = list(again), list(again)
        same(model(one), result(two))
        same(one, two)


class Parts(nn.Module):
    def __init__(self, split):
        super().__init__()
        self.split, self.branches, self.mix = split, nn.ModuleList(pair(2, 2) for _ in range(4)), pair(8, 8, 1)

    def forward(self, x):
        parts = list(self.split(x))
        return self.mix(torch.cat([branch(part) for branch, part in zip(self.branches, parts, strict=True)], 1))


@pytest.mark.parametrize(
    "split",
    [
        lambda x: x.chunk(4, 1),
        lambda x: torch.chunk(x, chunks=4, dim=1),
        lambda x: x.split([2, 2, 2, 2], dim=1),
        lambda x: torch.split(x, split_size_or_sections=(2, 2, 2, 2), dim=1),
        lambda x: torch.tensor_split(x, 4, dim=1),
        lambda x: x.tensor_split((2, 4, 6), 1),
        lambda x: x.tensor_split((2, -4, 6), dim=1),
        lambda x: torch.tensor_split(x, indices=[2, 4, 6], dim=1),
        lambda x: x.tensor_split(sections=4, dim=1),
    ],
)
def test_convolutions_of_all_parts_of_a_split_become_one(plain, split):
    assert plain(Parts(split), channels=8) == "Conv2d"


@pytest.mark.parametrize("order", [slice(None, None, -1), slice(1, None), slice(0, 3, 2), slice(9, None)])
def test_a_slice_of_the_parts_is_some_of_them(plain, order):
    class Some(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = pair(8, 8)

        def forward(self, x):
            x = self.pair(x)
            return self.pair(torch.cat([*x.chunk(4, 1)[order], x], 1)[:, :8])

    assert set(plain(Some(), channels=8).split()) == {"Conv2d"}


@pytest.mark.parametrize("split", [3, (3, 5), (-5, 5), (3, 3), (3, 1), (3, 20)])
def test_parts_of_unlike_sizes_are_what_torch_says(exactly, split):
    class Sizes(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = pair(8, 8)

        def forward(self, x):
            return [2 * part.sum(1) for part in self.pair(x).tensor_split(split, dim=1)]

    exactly(Sizes(), channels=8)


@pytest.mark.parametrize("split", [lambda x: x.split(2, 1), lambda x: x.chunk(4), lambda x: x.chunk(4, 2)])
def test_parts_whose_number_may_depend_on_the_size_are_left_to_python(randomise, same, calls, split):
    class Pieces(nn.Module):
        """In pieces, to save memory."""

        def __init__(self):
            super().__init__()
            self.pair = nn.Sequential(nn.AdaptiveAvgPool2d(1), *pair(2, 2, 1))

        def forward(self, x):
            return sum(self.pair(part[:, :2]) for part in split(x))

    model = randomise(Pieces()).double()
    result = repcompiler.compile(model, torch.randn(4, 8, 8, 8, dtype=torch.float64), objective="plain")
    assert calls(result) == "Pieces AdaptiveAvgPool2d Conv2d"
    x = torch.randn(4, 8, 3, 5, dtype=torch.float64)
    same(model(x), result(x))
