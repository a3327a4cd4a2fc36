"""A forecast's paths in every format that can be taken away: each reads back as what is stored."""

from __future__ import annotations

import csv
import io

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from services.web.path_formats import json_rows
from services.web.situation import Stores
from shared.forecasts import Forecast
from tests.builders import finished_forecast, forecast_request, kline_window
from tests.web_server import forecast_stored, ingested

COLUMNS = ["open", "high", "low", "close", "volume", "amount"]


@pytest.fixture
def forecast(stores: Stores) -> Forecast:
    return forecast_stored(stores, ingested(stores, origin="simulated"))


@pytest.fixture
def paths(stores: Stores, forecast: Forecast) -> NDArray[np.float32]:
    return stores.forecasts.load_paths(forecast.id)


def take(web: httpx.Client, forecast: Forecast, part: str, **headers: str) -> httpx.Response:
    return web.get(f"/api/v1/forecasts/{forecast.id}/{part}", headers=headers)


def test_parquet_has_a_row_for_each_path_and_step_and_says_what_it_is_of(
    web: httpx.Client, forecast: Forecast, paths: NDArray[np.float32]
) -> None:
    answer = take(web, forecast, "paths.parquet")
    assert answer.headers["Content-Type"] == "application/vnd.apache.parquet"
    table = pq.read_table(io.BytesIO(answer.content))
    assert table.column_names == ["path", "step", "open_time", *COLUMNS]
    read = np.stack([table[name].to_numpy() for name in COLUMNS], axis=1).reshape(paths.shape)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, paths)
    assert table["path"].to_pylist()[23:25] == [0, 1]
    assert table["step"].to_pylist()[22:26] == [23, 24, 1, 2]
    assert str(table.schema.field("open_time").type) == "timestamp[ms, tz=UTC]"
    assert [int(one.timestamp() * 1000) for one in table["open_time"].to_pylist()[:24]] == forecast.open_times_ms
    assert table.schema.metadata[b"labels"] == b"SIMULATED DATA"


def test_json_has_all_paths_and_a_single_path_is_one_of_them(
    web: httpx.Client, forecast: Forecast, paths: NDArray[np.float32]
) -> None:
    everything = take(web, forecast, "paths.json").json()
    assert (everything["id"], everything["labels"]) == (forecast.id, ["SIMULATED DATA"])
    assert (everything["columns"], everything["open_times_ms"]) == (COLUMNS, forecast.open_times_ms)
    np.testing.assert_array_equal(np.array(everything["paths"], dtype=np.float32), paths)
    last = take(web, forecast, "paths/29").json()
    assert (last["path"], last["values"]) == (29, everything["paths"][29])


@pytest.mark.parametrize(
    ("number", "words"), [("30", "has 30, from 0 to 29"), ("-1", "from 0"), ("x", "from 0"), ("1.5", "from 0")]
)
def test_a_path_that_is_not_there_is_not_found(web: httpx.Client, forecast: Forecast, number: str, words: str) -> None:
    refused = take(web, forecast, f"paths/{number}")
    assert refused.status_code == 404
    assert words in refused.json()["detail"]


def test_a_number_that_is_not_finite_is_null_and_never_made_up() -> None:
    window = kline_window()
    forecast, paths = finished_forecast("one", window, forecast_request(num_samples=2, horizon=1))
    paths[1, 0, 2] = np.nan
    text = "".join(json_rows(forecast, paths, []))
    assert "NaN" not in text
    assert text.count("null") == 1


def test_quantiles_come_as_long_rows(web: httpx.Client, forecast: Forecast, paths: NDArray[np.float32]) -> None:
    answer = take(web, forecast, "quantiles.csv?quantiles=0.01,0.5")
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert len(rows) == len(COLUMNS) * 2 * 24
    closes = [row for row in rows if row["column"] == "close"]
    assert [(row["quantile"], row["kind"], row["step"]) for row in (closes[0], closes[24])] == [
        ("0.01", "range", "1"),
        ("0.5", "quantile", "1"),
    ]
    medians = np.array([row["value"] for row in closes[24:]], dtype=np.float64)
    np.testing.assert_allclose(medians, np.median(paths[:, :, 3].astype(np.float64), axis=0))
    assert closes[0]["open_time"] == f"{np.datetime64(forecast.open_times_ms[0], 'ms').astype('datetime64[s]')}Z"
    usual = {row["quantile"] for row in csv.DictReader(io.StringIO(take(web, forecast, "quantiles.csv").text))}
    assert usual == {"0.025", "0.1", "0.25", "0.5", "0.75", "0.9", "0.975"}
    assert take(web, forecast, "quantiles.csv?quantiles=2").status_code == 422


@pytest.mark.parametrize("part", ["paths.parquet", "paths.json", "paths.bin", "paths/3", "quantiles.csv"])
def test_what_one_has_already_is_not_sent_again(web: httpx.Client, forecast: Forecast, part: str) -> None:
    first = take(web, forecast, part)
    assert first.status_code == 200
    again = take(web, forecast, part, **{"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert web.get(f"/api/v1/forecasts/unknown/{part}").status_code == 404
