"""Do two models compute the same?  One is run on examples, in its own precision and in float64; others are held against it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache, partial
from typing import Protocol

from repcompiler.deviation import Sample, Verification, distance, finite, measure
from repcompiler.document import Document, Feeds, InputSpec, NDArray, Statistics
from repcompiler.errors import ModelError
from repcompiler.probes import EVEN, ODD, TINY, alternatives, fixed, nudged, random_feeds, structured, unfit

RUN = 2**31
"""Bytes of weights and of values between operations up to which a model is run as a whole after a compilation; a larger one is
checked rewrite by rewrite, so that memory does not grow with the file.  `repc verify` runs any."""
NUDGES = 3
"""How often a source is run again before a difference is called one: its own rounding may be small by luck."""


class Runs(Protocol):
    """A model, as far as a comparison needs it."""

    def run(self, feeds: Feeds) -> Sequence[NDArray]:
        """Its outputs."""

    def run_reference(self, feeds: Feeds) -> Sequence[NDArray]:
        """Its outputs, computed in float64."""

    @property
    def is_exact(self) -> bool:
        """Whether that rounded nothing to less than float64."""


class Reference:
    """What results are compared with: the source on the examples given, and on made-up inputs: odd, non-square and tiny.

    `thorough`: also large, sparse and constant ones, and even sizes.  `specs`: what inputs may be, if not all the source says.
    `given`: whether the source's examples are any.  `skipped`: why none is to be run, if so.
    """

    def __init__(
        self,
        source: Document,
        thorough: bool = False,
        specs: Sequence[InputSpec] | None = None,
        given: bool = True,
        skipped: str = "",
    ) -> None:
        self.source = source
        self.samples: list[Sample] = []
        self.skipped = skipped
        """Why there are no samples, if so."""
        self.doubtful: list[Sample] = []
        """Those on which the source is far from its own reference: a result must not be far from the source there."""
        self.endless = False
        """Whether the source takes too long."""
        if skipped:
            return
        for feeds in source.examples() if given else ():
            self._sample(feeds, "given" if thorough else "")
        specs = source.inputs() if specs is None else specs
        if reason := unfit(specs):
            self.skipped = reason
        else:
            self._make_up(specs, thorough)
        if not any(sample.decides for sample in self.samples):
            for feeds in source.tried():
                self._sample(feeds)
        if not thorough and (decisive := [sample for sample in self.samples if sample.decides]):
            self.doubtful = [sample for sample in self.samples if not sample.decides]
            self.samples = decisive
        source.release()

    def compare(self, result: Runs) -> Verification:
        """Run a model of the same interface on the same inputs; all probes of an output are judged together."""
        verification = Verification(skipped=self.skipped)
        for sample in self.samples:
            self._measure(verification, sample, result)
            self._nudge(verification, sample, unknown=True)
            if not verification.equal:
                self._measure_exactly(verification, sample, result)
                self._nudge(verification, sample)
            if not verification.equal:
                break
        for sample in self.doubtful if verification.equal else ():
            aside = Verification()
            self._measure(aside, sample, result)
            for output, other in zip(verification.outputs, aside.outputs, strict=True):
                output.reason = output.reason or other.reason
        return verification

    def judge(self, sample: Sample, result: Runs) -> Verification:
        """Judge one probe by itself, and with both models in float64."""
        verification = Verification()
        self._measure(verification, sample, result)
        self._measure_exactly(verification, sample, result)
        self._nudge(verification, sample)
        return verification

    def _measure_exactly(self, verification: Verification, sample: Sample, result: Runs) -> None:
        with suppress(Exception):  # what has no meaning in float64 is not judged by it
            exact = result.run_reference(sample.feeds)
            for output, one, other in zip(verification.outputs, exact, sample.reference, strict=True):
                if output.eps and not output.reason and self.source.is_exact and result.is_exact:
                    output.exact = max(output.exact or 0.0, distance(one, other))

    def _nudge(self, verification: Verification, sample: Sample, unknown: bool = False) -> None:
        """Learn from inputs that differ in their last bit what rounding does to an output that seems different.

        `unknown`: only where nothing is known of that, as of a source that is its own reference in float64.
        """
        learns = [not (output.reason or (unknown and output.source)) for output in verification.outputs]
        for seed in range(NUDGES):
            if all(output.equal for output, wanted in zip(verification.outputs, learns, strict=True) if wanted):
                break
            again = self.source.run_again(sample.feeds, seed) if unknown else self.source.run(nudged(sample.feeds, seed))
            for output, wanted, one, other in zip(verification.outputs, learns, again, sample.expected, strict=True):
                if wanted and one.shape == other.shape:
                    output.source = max(output.source, distance(one, other))

    def _measure(self, verification: Verification, sample: Sample, result: Runs) -> None:
        verification.probes.append(str(sample))
        try:
            actual: Sequence[NDArray] | str = result.run(sample.feeds)
        except ModelError:
            raise
        except Exception as error:
            actual = f"the result does not run: {_first_line(error)}"
        measure(verification, sample, actual, cache(partial(self._nudged, sample.feeds)))

    def _nudged(self, feeds: Feeds) -> Sequence[NDArray]:
        """How much of the deviation the model itself makes of rounding."""
        return self.source.run(nudged(feeds))

    def _sample(self, feeds: Feeds, label: str = "", advice: str = "") -> bool:
        """Whether the source runs on this; `advice`: what to do where it does not."""
        try:
            self.samples.append(Sample(feeds, self.source.run(feeds), self.source.run_reference(feeds), label))
        except ModelError:
            raise
        except Exception as error:  # a runtime may raise anything
            self.skipped = f"the source does not run: {_first_line(error)}{advice}"
            self.endless = isinstance(error, TimeoutError)
            return False
        return True

    def _make_up(self, specs: Sequence[InputSpec], thorough: bool) -> None:
        """The first odd and the first tiny size that the source accepts; if `thorough` an even one, and other numbers."""
        for sizes in (ODD, TINY, EVEN) if thorough else (ODD, TINY):
            for seed, shapes in enumerate(alternatives(specs, sizes)):
                try:
                    feeds = random_feeds(specs, shapes, seed)
                except (ValueError, MemoryError):
                    self.skipped = "its inputs are too large"
                    continue
                if self.endless:
                    return
                if self._sample(feeds, advice="; give example inputs"):
                    if thorough and sizes is ODD:
                        self._structured(feeds)
                    break
            if fixed(specs) and not (thorough and any(not isinstance(dim, int) for spec in specs for dim in spec.shape or ())):
                return  # one fixed size, if of any number of images: nothing else to try

    def _structured(self, feeds: Feeds) -> None:
        """Sparse, constant and large numbers, as far as the source makes numbers of them."""
        for label, other in structured(feeds):
            if self._sample(other, label) and not finite(self.samples[-1].expected):
                self.samples.pop()


def too_large(size: Statistics) -> str:
    """Why a model is not run as a whole, if so."""
    needed = size.bytes + size.activations
    told = f"it takes {needed / 2**30:.1f} GiB, and up to {RUN / 2**30:g} GiB are run: repc verify runs any"
    return told if needed > RUN else ""


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
