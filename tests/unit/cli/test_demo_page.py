"""Pages of the original demo, and what is refused of others' pages: each with one reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cli.demo_history.page import LARGEST_PAGE, Figures, PageError, read_page
from tests.demo_history import FIRST_MS, page

TIME = "2025-03-01 12:00:26"


def test_the_figures_of_a_page_are_those_of_its_elements_and_not_of_scripts_or_comments() -> None:
    assert read_page(page(TIME, "46.7%", "6.7%")) == Figures(
        FIRST_MS + 26_000, pytest.approx(0.467), pytest.approx(0.067)
    )


@pytest.mark.parametrize(("written", "share"), [("0.0%", 0.0), ("100.0%", 1.0), ("50 %", 0.5), (" 7%\n", 0.07)])
def test_shares_of_every_size_are_read(written: str, share: float) -> None:
    assert read_page(page(TIME, written)).upside == pytest.approx(share)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "has no element with the id update-time, but one is needed"),
        (b"\xff\xfe<\x00p\x00", "is not UTF-8"),
        (page(TIME).replace(b"46.7", b"46\xe9"), "is not UTF-8"),
        (b" " * (LARGEST_PAGE + 1), "is 65,537 bytes long, but at most 65,536 are read"),
        (page("--"), "gives '--' as update-time, but a time like 2025-01-31 12:00:26 is needed"),
        (page("2025-02-30 12:00:00"), "gives '2025-02-30 12:00:00' as update-time, but a time"),
        (
            page("0001-01-01 00:00:00"),
            "was updated 0001-01-01 00:00:00 by what it says, but nothing before 2020 is believed",
        ),
        (page("٢٠٢٥-03-01 12:00:26"), "as update-time, but a time"),
        (page(TIME, "100.1%"), "gives '100.1%' as upside-prob, but a share from 0% to 100% is needed"),
        (page(TIME, "-1.0%"), "gives '-1.0%' as upside-prob"),
        (page(TIME, "nan%"), "gives 'nan%' as upside-prob"),
        (page(TIME, "1e1%"), "gives '1e1%' as upside-prob"),
        (page(TIME, "46.7%", "0.067"), "gives '0.067' as vol-amp-prob"),
        (page(TIME, "\x1b[31m46.7%"), r"gives '\x1b[31m46.7%' as upside-prob"),
        (page(TIME, "9" * 5000 + "%"), f"gives '{'9' * 40}...' as upside-prob"),
        (page(TIME, "<b>46.7%</b>"), "gives '' as upside-prob"),
        (page(TIME) + page(TIME), "has 2 elements with the id update-time, but one is needed"),
        (page(TIME).replace(b'<p class="metric-value" id="upside-prob">', b'<script id="upside-prob">'), "upside-prob"),
    ],
)
def test_what_is_not_as_the_demo_writes_it_is_refused_with_a_reason(content: bytes, reason: str) -> None:
    with pytest.raises(PageError) as refused:
        read_page(content)
    assert reason in str(refused.value)
    assert str(refused.value).isprintable()


@given(st.binary(max_size=400), st.integers(0, 800))
def test_no_bytes_within_a_page_raise_anything_else(noise: bytes, place: int) -> None:
    whole = page(TIME)
    try:
        figures = read_page(whole[:place] + noise + whole[place:])
    except PageError:
        return
    assert 0 <= figures.upside <= 1
    assert 0 <= figures.volatility_amplification <= 1
