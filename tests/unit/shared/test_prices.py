"""Prices as people read them."""

from __future__ import annotations

import pytest

from shared.prices import price


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (97_123.456, "97,123.46"),
        (12.0, "12.00"),
        (1.23456, "1.235"),
        (0.23456, "0.2346"),
        (0.00001234, "0.00001234"),
        (0.0, "0.00"),
        (-12.5, "-12.50"),
        (float("nan"), "not a number"),
        (float("inf"), "not a number"),
    ],
)
def test_a_price_shows_as_many_decimals_as_its_size_asks_for(value: float, shown: str) -> None:
    assert price(value) == shown
