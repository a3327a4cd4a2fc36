"""Numbers on the page."""

from __future__ import annotations

import pytest

from services.web import formats
from shared.forecasts import Probability


@pytest.mark.parametrize(
    ("share", "shown"), [(0.0123, "+1.23\u00a0%"), (-0.0123, "−1.23\u00a0%"), (0.0, "+0.00\u00a0%")]
)
def test_a_return_always_shows_its_sign(share: float, shown: str) -> None:
    assert formats.signed_percent(share) == shown


def test_a_share_of_no_path_at_all_does_not_look_certain() -> None:
    none_of_30 = Probability(value=0.0, lower=0.0, upper=0.1135, paths=0, of=30)
    assert formats.percent(none_of_30.value) == "0.0\u00a0%"
    assert formats.error_interval(none_of_30) == "0.0–11.3\u00a0%"


def test_an_error_in_the_middle_needs_no_decimals() -> None:
    assert (
        formats.error_interval(Probability(value=0.4667, lower=0.302, upper=0.639, paths=14, of=30)) == "30–64\u00a0%"
    )


@pytest.mark.parametrize(
    ("minutes", "shown"),
    [
        (60, "1\u00a0h"),
        (24 * 60, "24\u00a0h"),
        (48 * 60, "2\u00a0d"),
        (90, "90\u00a0min"),
        (15, "15\u00a0min"),
        (5 * 60, "5\u00a0h"),
    ],
)
def test_a_span_is_told_in_its_largest_whole_unit(minutes: int, shown: str) -> None:
    assert formats.span(minutes * 60_000) == shown
