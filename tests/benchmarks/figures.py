"""A measured figure, and how it becomes one from samples."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure with what it is compared to.

    Attributes:
        name: `<area>.<what>`, as asked for by `make bench ONLY=`.
        value: median of the rounds.
        unit: of the value and the baseline.
        baseline: median of the same work done the plain way in the same run, or None.
        ratio: value by baseline, or None.
        rounds: how many samples the value is the median of.
        spread: (largest - smallest) / median of the samples.
    """

    name: str
    value: float
    unit: str
    baseline: float | None = None
    ratio: float | None = None
    rounds: int = 1
    spread: float = 0.0


def measured(
    name: str, unit: str, samples: Sequence[float], baseline: Sequence[float] | float | None = None
) -> Figure:
    """The figure of `samples`, one a round, compared to the samples or the value of a baseline."""
    value = statistics.median(samples)
    plain = _value(baseline)
    return Figure(
        name=name,
        value=value,
        unit=unit,
        baseline=plain,
        ratio=value / plain if plain else None,
        rounds=len(samples),
        spread=(max(samples) - min(samples)) / value if value else 0.0,
    )


def _value(baseline: Sequence[float] | float | None) -> float | None:
    if baseline is None or isinstance(baseline, int | float):
        return baseline
    return statistics.median(baseline)
