"""A few numbers that tell one value of a graph from another: what is left of its array on a probe, once that is freed."""

from __future__ import annotations

import warnings
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache

import numpy as np

from repcompiler.document import Document, NDArray
from repcompiler.interface import Matched
from repcompiler.ir import Value
from repcompiler.probes import TINY, alternatives, random_feeds, unfit

Fingerprint = tuple[float, ...]
"""The extents of a value; then the mean of its magnitudes, and its products with two waves."""

Fingerprints = Mapping[Value, Fingerprint]

CLOSE = 1e-4
"""Relative difference up to which values count as the same: weights that were merged are rounded to float32."""


def fingerprints(walk: Iterable[tuple[Value, NDArray]]) -> dict[Value, Fingerprint]:
    """Of each value met on a walk.  Indices, flags and constants are left out: many are alike and mean nothing."""
    return {value: _fingerprint(array) for value, array in walk if _tells(array)}


def of_pair(first: Document, second: Matched) -> tuple[Fingerprints, Fingerprints]:
    """Of the values of two models on the smallest input that both take; of as many as can be computed, where none is taken."""
    best: tuple[Fingerprints, Fingerprints] = ({}, {})
    if unfit(second.specs):
        return best
    for seed, shapes in enumerate(alternatives(second.specs, TINY)):
        feeds = random_feeds(second.specs, shapes, seed)
        found: tuple[dict[Value, Fingerprint], dict[Value, Fingerprint]] = ({}, {})
        whole = 0
        for known, document, fed in zip(found, (first, second.document), (feeds, second.feeds(feeds)), strict=True):
            with suppress(Exception), warnings.catch_warnings():  # a runtime may raise anything
                warnings.simplefilter("ignore")  # a probe may be too small for a pool, and have a mean of nothing
                for value, array in document.walk(fed):
                    known |= fingerprints([(value, array)])
                whole += 1
        best = found if len(found[0]) > len(best[0]) else best
        if whole == len(found):
            break
    return best


def _tells(array: NDArray) -> bool:
    return array.dtype.kind == "f" and array.size > 1 and bool(np.isfinite(array).all()) and bool(array.min() < array.max())


def _fingerprint(array: NDArray) -> Fingerprint:
    numbers = array.astype(np.float64, copy=False).ravel()
    wave = _wave(numbers.size)
    products = (float(np.abs(numbers).mean()), float(numbers @ wave) / wave.size, float(numbers @ wave[::-1]) / wave.size)
    return (*map(float, array.shape), *products)


@lru_cache(maxsize=16)
def _wave(size: int) -> NDArray:
    return np.asarray(np.cos(np.arange(size) * 0.7390851332))


def close(first: Fingerprint, second: Fingerprint) -> bool:
    """Whether two fingerprints are of the same numbers."""
    scale = CLOSE * max(first[-3], second[-3])
    return first[:-3] == second[:-3] and all(abs(a - b) <= scale for a, b in zip(first[-3:], second[-3:], strict=True))


def same_values(first: Fingerprints, second: Fingerprints) -> list[tuple[Value, Value]]:
    """Pairs of equal values; of several on one side (an identity has the value it reads) the last."""
    alike: dict[Sequence[float], list[tuple[float, int]]] = defaultdict(list)
    theirs = list(second.items())
    for index, (_, numbers) in enumerate(theirs):
        alike[numbers[:-3]].append((numbers[-3], index))
    for candidates in alike.values():
        candidates.sort()
    last: dict[int, Value] = {}
    for value, numbers in first.items():
        near = alike.get(numbers[:-3], [])
        low, high = numbers[-3] * (1 - 2 * CLOSE), numbers[-3] * (1 + 2 * CLOSE)
        nearby = near[bisect_left(near, (low, -1)) : bisect_right(near, (high, len(theirs)))]
        if others := [index for _, index in nearby if close(numbers, theirs[index][1])]:
            last[max(others)] = value
    return [(value, theirs[index][0]) for index, value in last.items()]


__all__ = ["Fingerprint", "Fingerprints", "close", "fingerprints", "of_pair", "same_values"]
