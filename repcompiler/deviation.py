"""How far two models may be apart: both run in their own precision and are compared with the first one in float64.

The result may be off by no more than a small multiple of what the source itself is off by rounding:

    max |result - reference|  <=  MULTIPLE * max(max |source - reference|, FLOOR * eps * max |reference|)

over all probes of one output.  The floor is there for outputs of few numbers, whose own rounding may be zero by luck.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from repcompiler.document import Feeds, NDArray
from repcompiler.probes import epsilon

MULTIPLE = 8.0
FLOOR = 4.0
EXACT_MULTIPLE = 2.0
"""Computed in float64, two models differ by the rounding of their weights alone, which is less than that of a run."""
SANE = 2.0**13
"""Where the source is off by more eps than this, its inputs' own rounding must explain it, to a factor of `TRUST`: otherwise
the reference is not the source's, and nothing can be said."""
TRUST = 32.0
HOPELESS = 0.1
"""Where it is off by more than this part of the largest number, nothing can be said either: but that the result is wrong, where
it is as far from the source itself.
"""


@dataclass
class Deviation:
    """One output over all probes: largest absolute errors against the float64 reference."""

    name: str
    source: float = 0.0
    result: float = 0.0
    scale: float = 0.0
    exact: float | None = None
    """How far the result is off if it is computed in float64, too; None where it is not."""
    eps: float = 0.0
    reason: str = ""
    """Why it differs, where numbers alone do not say so."""
    undecided: str = ""
    """Why nothing can be said of it: the source is not what its own float64 reference is."""

    @property
    def noise(self) -> float:
        """The source's own rounding: one unit of the verdict."""
        return max(self.source, FLOOR * self.eps * self.scale)

    @property
    def allowed(self) -> float:
        """How far off the result may be."""
        return MULTIPLE * self.noise

    @property
    def exact_noise(self) -> float:
        """The unit of `exact`: a floor of one rounding is enough, for no sums are rounded in float64."""
        return max(self.source, self.eps * self.scale)

    @property
    def allowed_exact(self) -> float:
        """How far off the result may be in float64."""
        return EXACT_MULTIPLE * self.exact_noise

    @property
    def units(self) -> tuple[float, float]:
        """How far off the result is in units of noise: as it is run, and in float64."""
        return _ratio(self.result, self.noise), _ratio(self.exact or 0.0, self.exact_noise)

    @property
    def strain(self) -> float:
        """How far off it is, as a part of what is allowed."""
        return max(_ratio(self.result, self.allowed), _ratio(self.exact or 0.0, self.allowed_exact))

    @property
    def equal(self) -> bool:
        return not self.reason and self.strain <= 1


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
    def undecided(self) -> bool:
        """Whether running them says nothing."""
        return self.equal and not self.checked

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
            return f"not verified as a whole ({next(undecided, self.skipped)})"
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
    label: str = ""
    """What is special about the numbers."""

    @property
    def decides(self) -> bool:
        """Whether the source is near enough to its own reference for anything to be said."""
        pairs = [(one, other) for one, other in zip(self.expected, self.reference, strict=True) if one.dtype.kind in "fV"]
        return all(
            distance(one, other) <= min(SANE * epsilon(one.dtype), HOPELESS) * _largest(other[np.isfinite(other)])
            for one, other in pairs
        )

    def __str__(self) -> str:
        shapes = ("x".join(map(str, array.shape)) or "scalar" for array in self.feeds.values())
        return " ".join([*shapes, self.label] if self.label else shapes)


def measure(
    verification: Verification, sample: Sample, actual: Sequence[NDArray] | str, nudged: Callable[[], Sequence[NDArray]]
) -> None:
    """Take one more probe into account: the outputs of the result, or why there are none.

    `nudged`: the source's outputs for inputs that differ in their last bit.
    """
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
            if output.source > min(SANE * output.eps, HOPELESS) * output.scale and not output.reason:
                noise = distance(nudged()[index], expected[index])
                if output.source > min(TRUST * noise, HOPELESS * output.scale):
                    output.undecided = output.undecided or (
                        f"the source is off by {output.source:.1e} of {output.scale:.1e} from its own float64 reference"
                    )
                    apart = distance(actual[index], expected[index])
                    if apart > max(TRUST * noise, HOPELESS * _largest(expected[index][np.isfinite(expected[index])])):
                        output.reason = f"it is {apart:.1e} away from the source, which rounding moves by {noise:.1e}"


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
        output.eps = epsilon(expected.dtype)
        output.scale = max(output.scale, _largest(reference[finite]))
        output.source = max(output.source, distance(source, reference))
        output.result = max(output.result, distance(result, reference))


def _measure_discrete(output: Deviation, expected: NDArray, reference: NDArray, actual: NDArray) -> None:
    """Indices, labels, flags: equal, but where rounding makes the source itself undecided."""
    undecided, wrong = int(np.sum(expected != reference)), int(np.sum(expected != actual))
    if wrong > MULTIPLE * undecided:
        output.reason = f"{wrong} of {expected.size} {expected.dtype} values differ"


def _ratio(number: float, unit: float) -> float:
    return number / unit if unit else float("inf") if number else 0.0


def distance(first: NDArray, second: NDArray) -> float:
    """The largest difference between numbers at the same place."""
    if first.shape != second.shape:
        return float("inf")
    finite = np.isfinite(first) & np.isfinite(second)
    return _largest(first[finite].astype(np.float64) - second[finite].astype(np.float64))


def _largest(array: NDArray) -> float:
    return float(np.max(np.abs(array), initial=0.0))


def finite(arrays: Sequence[NDArray]) -> bool:
    """Whether all floating-point numbers are."""
    return all(array.dtype.kind not in "fV" or bool(np.isfinite(array.astype(np.float64)).all()) for array in arrays)
