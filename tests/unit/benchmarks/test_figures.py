"""Figures are medians with their spread, and survive a run that measures others."""

import json

from tests.benchmarks.__main__ import remember
from tests.benchmarks.figures import Figure, measured


def test_a_figure_is_the_median_with_its_ratio_and_spread():
    """One slow round moves the spread, not the value."""
    figure = measured("a.b", "events/s", [100.0, 50.0, 110.0], baseline=[200.0, 200.0])

    assert figure == Figure("a.b", 100.0, "events/s", 200.0, 0.5, 3, 0.6)


def test_a_figure_without_baseline_has_no_ratio():
    """No ratio is shown where nothing was compared."""
    figure = measured("a.b", "ms", [4.0])

    assert (figure.baseline, figure.ratio) == (None, None)


def test_measuring_one_figure_keeps_the_others(tmp_path):
    """`make bench ONLY=…` does not forget what was measured before."""
    results = tmp_path / "build" / "bench.json"
    remember([Figure("a", 1.0, "s"), Figure("b", 2.0, "s")], results)

    remember([Figure("b", 3.0, "s")], results)

    values = {item["name"]: item["value"] for item in json.loads(results.read_text())}
    assert values == {"a": 1.0, "b": 3.0}
