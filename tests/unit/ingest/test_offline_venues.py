"""The venues that need no network: simulated and recorded."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ingest.cleaning import clean
from services.ingest.venues.recorded import Recorded
from services.ingest.venues.simulated import BLOCK, Simulated, simulated_values
from shared.errors import SettingsError
from shared.klines import AMOUNT, CLOSE, HIGH, LOW, OPEN, VOLUME, Interval, find_defects
from tests.builders import START_MS, kline_values

HOUR = Interval.H1


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["BTCUSDT", "XYZEUR"]),
    st.sampled_from(Interval),
    st.integers(0, 2_000_000),
    st.integers(1, 1500),
    st.integers(0, 1499),
)
def test_simulated_windows_agree_wherever_they_overlap(
    symbol: str, interval: Interval, first: int, count: int, later: int
) -> None:
    one = simulated_values(symbol, interval, first * interval.ms, count)
    other = simulated_values(symbol, interval, (first + later) * interval.ms, count)
    assert one.shape == other.shape == (count, 6)
    if later < count:
        assert np.array_equal(one[later:], other[: count - later])


@pytest.mark.parametrize("interval", list(Interval))
def test_simulated_candles_obey_the_rules_join_up_and_stay_in_a_plausible_range(interval: Interval) -> None:
    first = START_MS // interval.ms
    values = simulated_values("BTCUSDT", interval, first * interval.ms, 20 * BLOCK)
    times = interval.ms * (first + np.arange(len(values), dtype=np.int64))
    assert not find_defects(times, values, interval)
    assert np.allclose(values[1:, OPEN], values[:-1, CLOSE])
    assert 3_000 < values[:, LOW].min() < values[:, HIGH].max() < 1_000_000


def test_simulated_volatility_comes_in_clusters_and_volume_follows_it() -> None:
    values = simulated_values("BTCUSDT", HOUR, START_MS, 50 * BLOCK)
    returns = np.abs(np.diff(np.log(values[:, CLOSE])))
    assert np.corrcoef(returns[1:], returns[:-1])[0, 1] > 0.1
    assert np.corrcoef(returns, values[1:, VOLUME])[0, 1] > 0.2


def test_simulated_klines_differ_by_symbol_and_interval() -> None:
    base = simulated_values("BTCUSDT", HOUR, START_MS, 10)
    assert not np.allclose(base, simulated_values("BTCUSDC", HOUR, START_MS, 10))
    assert not np.allclose(base, simulated_values("BTCUSDT", Interval.H4, START_MS, 10))


def test_simulated_klines_end_with_the_candle_that_closed_last_and_say_what_they_are() -> None:
    fetched = Simulated(lambda: START_MS + 59 * 60_000).fetch("BTCUSDT", HOUR, 100)
    window = clean(fetched, "BTCUSDT", HOUR).window
    assert window.last_close_time_ms == START_MS
    assert (window.venue, window.origin, len(window)) == ("simulated", "simulated", 100)


def write(path: Path, header: str, *, count: int = 100, columns: int = 6, step: int = HOUR.ms) -> np.ndarray:
    values = kline_values(count)
    lines = [
        f"{START_MS + i * step},{','.join(map(repr, row[: columns - 1]))}" for i, row in enumerate(values.tolist())
    ]
    text = "\n".join([header, *lines]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return values


@pytest.mark.parametrize("name", ["klines.csv", "klines.csv.gz"])
def test_a_recording_ends_now_and_its_amount_is_volume_times_the_mean_price(tmp_path: Path, name: str) -> None:
    values = write(tmp_path / name, "open_time,open,high,low,close,volume")
    fetched = Recorded(tmp_path / name).fetch("BTCUSDT", HOUR, 80)
    assert (fetched.venue, fetched.origin) == ("recorded", "recorded")
    assert fetched.now_ms == START_MS + 100 * HOUR.ms
    assert np.array_equal(fetched.values[:, :AMOUNT], values[20:, :AMOUNT])
    assert np.allclose(fetched.values[:, AMOUNT], values[20:, VOLUME] * values[20:, :VOLUME].mean(axis=1))


@pytest.mark.parametrize("amount", ["amount", "quote_volume"])
def test_a_recordings_own_amount_is_used_where_it_has_one(tmp_path: Path, amount: str) -> None:
    values = write(tmp_path / "k.csv", f"open_time,open,high,low,close,volume,{amount}", columns=7)
    assert np.array_equal(Recorded(tmp_path / "k.csv").fetch("BTCUSDT", HOUR, 200).values, values)


def test_a_recordings_unreadable_cell_is_named_as_a_defect(tmp_path: Path) -> None:
    write(tmp_path / "k.csv", "open_time,open,high,low,close,volume")
    lines = (tmp_path / "k.csv").read_text().splitlines()
    lines[11] = f"{START_MS + 10 * HOUR.ms},oops,,1,1,1"
    (tmp_path / "k.csv").write_text("\n".join(lines))
    found = clean(Recorded(tmp_path / "k.csv").fetch("BTCUSDT", HOUR, 200), "BTCUSDT", HOUR)
    assert [defect.kind for defect in found.defects] == ["non_finite", "gap"]
    assert len(found.window) == 89


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "has no rows with open_time"),
        (b"open_time,open,high,low,close,volume\n", "has no rows"),
        (b"time,open,high,low,close,volume\n1,1,1,1,1,1\n", "has no rows with open_time: its first line must name"),
        (b"open_time,open,high,low,close,volume\nJanuary,1,1,1,1,1\n", "'January' stands as an open_time"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_recording_that_cannot_be_used_is_refused_with_its_knob(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "k.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=message) as caught:
        Recorded(path).fetch("BTCUSDT", HOUR, 100)
    assert "KRONOS_DATA__RECORDED_FILE" in str(caught.value)


def test_a_gzipped_recording_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "k.csv.gz", "open_time,open,high,low,close,volume")
    whole = (tmp_path / "k.csv.gz").read_bytes()
    (tmp_path / "k.csv.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SettingsError, match="cannot be read"):
        Recorded(tmp_path / "k.csv.gz").fetch("BTCUSDT", HOUR, 100)


def test_a_recording_of_another_interval_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "k.csv", "open_time,open,high,low,close,volume")
    with pytest.raises(SettingsError, match=r"60 minutes apart, but data\.interval is 4h"):
        Recorded(tmp_path / "k.csv").fetch("BTCUSDT", Interval.H4, 100)
