"""Do two models compute the same?  Both are run in their own precision and compared with the source in float64.

The result may be off by no more than a small multiple of what the source itself is off by rounding:

    max |result - reference|  <=  MULTIPLE * max(max |source - reference|, FLOOR * eps * max |reference|)

over all probes of one output.  The floor is there for outputs of few numbers, whose own rounding may be zero by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any

import numpy as np

from repcompiler.document import Document, Feeds, InputSpec, NDArray
from repcompiler.errors import ModelError
from repcompiler.ir import Shape

MULTIPLE = 8.0
FLOOR = 4.0
SANE = 2.0**13
"""Where the source is off by more eps than this, its inputs' own rounding must explain it, to a factor of `TRUST`: otherwise
the reference is not the source's, and nothing can be said."""
TRUST = 32.0
HOPELESS = 0.1
"""Where it is off by more than this part of the largest number, nothing can be said either."""

NUMBERS = {"bool", "float16", "float32", "float64", "bfloat16"} | {
    f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)
}
"""Types that inputs can be made up of."""

Size = tuple[int, int, int, int]
"""Extents to try for a free batch and up to three free spatial axes."""

ODD: tuple[Size, ...] = ((2, 45, 67, 13), (1, 97, 131, 17), (1, 64, 96, 16), (1, 224, 224, 32))
TINY: tuple[Size, ...] = ((1, 5, 3, 3), (1, 9, 7, 5), (1, 17, 11, 9), (1, 33, 32, 16))


@dataclass
class Deviation:
    """One output over all probes: largest absolute errors against the float64 reference."""

    name: str
    source: float = 0.0
    result: float = 0.0
    scale: float = 0.0
    eps: float = 0.0
    reason: str = ""
    """Why it differs, where numbers alone do not say so."""
    undecided: str = ""
    """Why nothing can be said of it: the source is not what its own float64 reference is."""

    @property
    def allowed(self) -> float:
        """How far off the result may be."""
        return MULTIPLE * max(self.source, FLOOR * self.eps * self.scale)

    @property
    def equal(self) -> bool:
        return not self.reason and self.result <= self.allowed


@dataclass
class Verification:
    """What was compared, and how it came out."""

    outputs: list[Deviation] = field(default_factory=list)
    probes: list[str] = field(default_factory=list)
    skipped: str = ""

    @property
    def checked(self) -> bool:
        """Whether the outputs were compared, all of them."""
        return bool(self.probes) and not any(output.undecided for output in self.outputs)

    @property
    def equal(self) -> bool:
        """Whether no difference was found."""
        return all(output.equal for output in self.outputs)

    @property
    def worst(self) -> Deviation | None:
        """The output nearest to its limit, or furthest beyond it."""
        return max(self.outputs, key=lambda out: (not out.equal, out.result / (out.allowed or 1.0)), default=None)

    def summary(self) -> str:
        """One line."""
        worst = self.worst
        if worst is None or (worst.equal and not self.checked):
            undecided = (f"output '{output.name}': {output.undecided}" for output in self.outputs if output.undecided)
            return f"not verified as a whole ({next(undecided, self.skipped)}): each rewrite was checked by itself"
        if worst.reason:
            return f"output '{worst.name}': {worst.reason}"
        relative = worst.result / (worst.scale or 1.0)
        own = worst.source / (worst.scale or 1.0)
        return f"deviation {relative:.1e} of the largest output, the source's own rounding {own:.1e} ({', '.join(self.probes)})"


@dataclass(frozen=True)
class Sample:
    """One probe: what was fed, what the source makes of it, and what it would make of it in float64."""

    feeds: Feeds
    expected: Sequence[NDArray]
    reference: Sequence[NDArray]


class Reference:
    """What results are compared with: the source on the examples given, or on made-up inputs: odd, non-square and tiny."""

    def __init__(self, source: Document) -> None:
        self.source = source
        self.samples: list[Sample] = []
        self.skipped = ""
        """Why there are no samples, if so."""
        for feeds in self._probes():
            self._sample(feeds)
        source.release()

    def compare(self, result: Document) -> Verification:
        """Run a document of the same interface on the same inputs."""
        verification = Verification(skipped=self.skipped)
        for sample in self.samples:
            shapes = ("x".join(map(str, array.shape)) or "scalar" for array in sample.feeds.values())
            verification.probes.append(" ".join(shapes))
            try:
                actual: Sequence[NDArray] | str = result.run(sample.feeds)
            except ModelError:
                raise
            except Exception as error:
                actual = f"the result does not run: {_first_line(error)}"
            _measure(verification, sample, actual, cache(partial(_nudged, self.source, sample.feeds)))
            if not verification.equal:
                break
        return verification

    def _sample(self, feeds: Feeds) -> None:
        try:
            self.samples.append(Sample(feeds, self.source.run(feeds), self.source.run_reference(feeds)))
        except ModelError:
            raise
        except Exception as error:  # a runtime may raise anything
            self.skipped = f"the source does not run: {_first_line(error)}"

    def _probes(self) -> Iterator[Feeds]:
        """Inputs: the user's own, then the first odd and the first tiny size that the source accepts."""
        yield from self.source.examples()
        specs = self.source.inputs()
        for spec in specs:
            if spec.shape is None or spec.dtype not in NUMBERS:
                self.skipped = f"input '{spec.name}' is no array of numbers of known rank: give example inputs"
                return
        for sizes in (ODD, TINY):
            seen: set[tuple[tuple[int, ...], ...]] = set()
            for seed, size in enumerate(sizes):
                symbols: dict[str, int] = {}
                shapes = tuple(_fit(spec.shape or (), size, symbols) for spec in specs)
                if shapes in seen:
                    continue
                seen.add(shapes)
                before = len(self.samples)
                rng = np.random.default_rng(seed)  # one for all inputs: no two are alike
                yield {spec.name: random_array(spec, shape, rng) for spec, shape in zip(specs, shapes, strict=True)}
                if len(self.samples) > before:
                    break
            if all(isinstance(dim, int) for spec in specs for dim in (spec.shape or ())[1:]):
                return  # one fixed size, if of any number of images: nothing else to try


def _fit(shape: Shape, size: Size, symbols: dict[str, int]) -> tuple[int, ...]:
    """The shape with each free axis given an extent, a symbol the same wherever it stands."""
    rank = len(shape)
    free = [size[0], 3, *size[1:], *(4,) * rank] if rank > 2 else [size[0], *(7,) * rank]
    named = (symbols.setdefault(dim, free[axis]) if isinstance(dim, str) else dim for axis, dim in enumerate(shape))
    return tuple(free[axis] if dim is None else dim for axis, dim in enumerate(named))


def random_array(spec: InputSpec, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray:
    """Normally distributed numbers; indices that are valid anywhere (0 and 1); random truth values."""
    dtype: np.dtype[Any] = np.dtype(spec.dtype)
    if dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def _nudged(source: Document, feeds: Feeds) -> Sequence[NDArray]:
    """The outputs for inputs that differ in their last bit: how much of the deviation the model itself makes of rounding."""
    rng = np.random.default_rng(0)
    nudged = {
        name: (array * (1 + _epsilon(array.dtype) * rng.choice((-1, 1), array.shape))).astype(array.dtype)
        for name, array in feeds.items()
        if array.dtype.kind in "fV"
    }
    return source.run({**feeds, **nudged})


def _measure(
    verification: Verification, sample: Sample, actual: Sequence[NDArray] | str, nudged: Callable[[], Sequence[NDArray]]
) -> None:
    expected, reference = sample.expected, sample.reference
    if not verification.outputs:
        verification.outputs = [Deviation(str(index)) for index in range(len(expected))]
    for index, output in enumerate(verification.outputs):
        if isinstance(actual, str):
            output.reason = actual
        elif len(actual) != len(expected):
            output.reason = f"{len(actual)} outputs instead of {len(expected)}"
        else:
            _measure_output(output, expected[index], reference[index], actual[index])
            if output.source > min(SANE * output.eps, HOPELESS) * output.scale and not output.undecided:
                noise = _distance(nudged()[index], expected[index])
                if output.source > min(TRUST * noise, HOPELESS * output.scale):
                    output.undecided = (
                        f"the source is off by {output.source:.1e} of {output.scale:.1e} from its own float64 reference"
                    )


def _measure_output(output: Deviation, expected: NDArray, reference: NDArray, actual: NDArray) -> None:
    if expected.shape != reference.shape:
        output.undecided = (
            f"its shape depends on rounding: {list(reference.shape)} in float64, {list(expected.shape)} in the source"
        )
    elif expected.shape != actual.shape or expected.dtype != actual.dtype:
        output.reason = f"{actual.dtype}{list(actual.shape)} instead of {expected.dtype}{list(expected.shape)}"
    elif expected.dtype.kind in "fV":
        _measure_numbers(output, expected, reference, actual)
    else:
        _measure_discrete(output, expected, reference, actual)


def _measure_numbers(output: Deviation, expected: NDArray, reference: NDArray, actual: NDArray) -> None:
    source, result = (array.astype(np.float64) for array in (expected, actual))
    finite = np.isfinite(source)
    if not np.array_equal(source[~finite], result[~finite], equal_nan=True) or not np.isfinite(result[finite]).all():
        output.reason = "NaN or infinity where the source has numbers"
    elif not np.isfinite(reference[finite]).all():
        output.undecided = "its float64 reference is not finite where the source is"
    else:
        output.eps = _epsilon(expected.dtype)
        output.scale = max(output.scale, _largest(reference[finite]))
        output.source = max(output.source, _distance(source, reference))
        output.result = max(output.result, _distance(result, reference))


def _measure_discrete(output: Deviation, expected: NDArray, reference: NDArray, actual: NDArray) -> None:
    """Indices, labels, flags: equal, but where rounding makes the source itself undecided."""
    undecided, wrong = int(np.sum(expected != reference)), int(np.sum(expected != actual))
    if wrong > MULTIPLE * undecided:
        output.reason = f"{wrong} of {expected.size} {expected.dtype} values differ"


def _distance(first: NDArray, second: NDArray) -> float:
    """The largest difference between numbers at the same place."""
    if first.shape != second.shape:
        return float("inf")
    finite = np.isfinite(first) & np.isfinite(second)
    return _largest(first[finite].astype(np.float64) - second[finite].astype(np.float64))


def _largest(array: NDArray) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def _epsilon(dtype: np.dtype[Any]) -> float:
    """Distance from 1 to the next number: bfloat16 keeps 8 bits."""
    return 2.0**-7 if dtype.name == "bfloat16" else float(np.finfo(dtype).eps)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
