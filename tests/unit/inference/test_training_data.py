"""From kline files to training windows: what a window may contain and what its normalisation may see."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from services.inference.context import prepare_context
from services.inference.training.kline_files import Stretch, find_kline_files, read_stretches
from services.inference.training.windows import WindowSource, mirrored_window, normalise_window
from shared.errors import KlineError
from shared.klines import Interval, find_defects
from tests.builders import START_MS, kline_values

HOUR = Interval.H1.ms


def stretch(count: int, seed: int = 1, start_ms: int = START_MS) -> Stretch:
    return Stretch("BTCUSDT", start_ms + HOUR * np.arange(count, dtype=np.int64), kline_values(count, seed))


def write_klines(path: Path, rows: list[str], header: str = "open_time,open,high,low,close,volume") -> Path:
    with gzip.open(path, "wt") as file:
        file.write("\n".join([header, *rows]) + "\n")
    return path


def rows_at(hours: list[int]) -> list[str]:
    return [f"{START_MS + HOUR * hour},10,12,9,11,5" for hour in hours]


def test_a_missing_candle_cuts_a_file_into_two_stretches(tmp_path: Path) -> None:
    file = write_klines(tmp_path / "BTCUSDT-1h.csv.gz", rows_at([0, 1, 2, 5, 6]))
    assert [len(part) for part in read_stretches(file, Interval.H1)] == [3, 2]


def test_an_impossible_candle_is_left_out_and_so_cuts(tmp_path: Path) -> None:
    rows = rows_at([0, 1, 2, 3])
    rows[1] = f"{START_MS + HOUR},10,9,8,11,5"
    file = write_klines(tmp_path / "BTCUSDT-1h.csv.gz", rows)
    assert [len(part) for part in read_stretches(file, Interval.H1)] == [1, 2]


def test_amount_is_volume_times_the_mean_price_where_the_file_has_none(tmp_path: Path) -> None:
    without = read_stretches(write_klines(tmp_path / "BTCUSDT-1h.csv.gz", rows_at([0])), Interval.H1)[0]
    assert without.values[0].tolist() == [10, 12, 9, 11, 5, 5 * 10.5]
    header = "open_time,open,high,low,close,volume,quote_volume"
    with_amount = write_klines(tmp_path / "ETHUSDT-1h.csv.gz", [f"{START_MS},10,12,9,11,5,53"], header)
    assert read_stretches(with_amount, Interval.H1)[0].values[0, 5] == 53


@pytest.mark.parametrize(
    ("rows", "header", "says"),
    [
        ([], "open_time,open,high,low,close,volume", "holds no kline"),
        (rows_at([0]), "open_time,open,high,low,close,size", "lacks the column volume"),
        (["x,1,1,1,1,1"], "open_time,open,high,low,close,volume", "cannot be read as CSV klines"),
        (rows_at([1, 0]), "open_time,open,high,low,close,volume", "must ascend in open_time"),
    ],
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path: Path, rows: list[str], header: str, says: str) -> None:
    file = write_klines(tmp_path / "BTCUSDT-1h.csv.gz", rows, header)
    with pytest.raises(KlineError, match=says):
        read_stretches(file, Interval.H1)


def test_a_folder_without_klines_is_named(tmp_path: Path) -> None:
    with pytest.raises(KlineError, match=r"holds no file named like BTCUSDT-1h\.csv"):
        find_kline_files(tmp_path, Interval.H1)


def test_no_window_crosses_a_gap() -> None:
    before, after = stretch(70, seed=1), stretch(80, seed=2, start_ms=START_MS + 500 * HOUR)
    source = WindowSource([before, stretch(20, start_ms=START_MS + 200 * HOUR), after], length=64)
    assert len(source) == 7 + 17
    batch = source.draw(np.random.default_rng(0), 500, (32, 48))
    hours = batch.time_features[..., 1]
    assert ((hours[:, 1:] - hours[:, :-1]) % 24 == 1).all()


def test_what_follows_the_history_does_not_touch_its_normalisation() -> None:
    values = kline_values(100)
    changed = values.copy()
    changed[60:] *= 3
    np.testing.assert_array_equal(normalise_window(values, 60)[:60], normalise_window(changed, 60)[:60])
    assert not np.array_equal(normalise_window(values, 60)[60:], normalise_window(changed, 60)[60:])


def test_a_training_window_reads_as_a_forecast_will() -> None:
    part = stretch(100)
    context = prepare_context(
        part.values[:76], part.open_times_ms[:76], interval_ms=HOUR, horizon=24, max_context=512, overflow="trim"
    )
    batch = WindowSource([part], length=100).evenly(1, history=76)
    np.testing.assert_array_equal(batch.candles[0, :76].numpy(), context.normalised)
    expected = np.concatenate((context.past_time_features, context.future_time_features))
    np.testing.assert_array_equal(batch.time_features[0].numpy(), expected)


def test_the_same_generator_draws_the_same_windows() -> None:
    source = WindowSource([stretch(300)], length=64)
    first, again, other = (source.draw(np.random.default_rng([7, s]), 4, (32, 64)) for s in (3, 3, 4))
    assert first.candles.equal(again.candles)
    assert first.history.equal(again.history)
    assert not first.candles.equal(other.candles)


def test_stretches_shorter_than_a_window_are_refused() -> None:
    with pytest.raises(KlineError, match="the longest stretch has 30"):
        WindowSource([stretch(30)], length=64)


def test_a_mirrored_window_falls_where_it_rose_and_stays_a_window_of_candles() -> None:
    window = stretch(60).values
    mirrored = mirrored_window(window)
    np.testing.assert_allclose(np.diff(np.log(mirrored[:, 3])), -np.diff(np.log(window[:, 3])))
    assert find_defects(START_MS + HOUR * np.arange(60), mirrored, Interval.H1) == []
    np.testing.assert_allclose(mirrored[:, 5] / mirrored[:, :4].mean(axis=1), window[:, 5] / window[:, :4].mean(axis=1))
    np.testing.assert_array_equal(mirrored[:, 4], window[:, 4])
    np.testing.assert_allclose(mirrored_window(mirrored), window)


def test_half_of_the_windows_are_mirrored_where_that_is_asked() -> None:
    source = WindowSource([stretch(400)], length=40)
    plain, turned = (source.draw(np.random.default_rng(1), 200, (20, 30), share).candles for share in (0.0, 0.5))
    same = [bool((one == other).all()) for one, other in zip(plain, turned, strict=True)]
    assert 70 < sum(same) < 130


def test_candles_of_another_interval_are_refused_by_name_and_by_their_times(tmp_path: Path) -> None:
    quarters = [f"{START_MS + HOUR // 4 * number},10,12,9,11,5" for number in range(9)]
    with pytest.raises(KlineError, match="says in its name that its candles are of 15m, but 1h was asked for"):
        read_stretches(write_klines(tmp_path / "BTCUSDT-15m.csv.gz", quarters), Interval.H1)
    with pytest.raises(KlineError, match="does not hold candles of 1h"):
        read_stretches(write_klines(tmp_path / "BTCUSDT-1h.csv.gz", quarters), Interval.H1)


@pytest.mark.parametrize(
    "row", [f"{10**30},10,12,9,11,5", f"{START_MS},10,12,9,11,{'5' * 140_000}", f"{START_MS},0,0,0,0,0"]
)
def test_rows_that_no_venue_writes_are_told_in_a_sentence(tmp_path: Path, row: str) -> None:
    with pytest.raises(KlineError, match="BTCUSDT-1h"):
        read_stretches(write_klines(tmp_path / "BTCUSDT-1h.csv.gz", [row]), Interval.H1)
