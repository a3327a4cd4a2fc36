"""A Python client of the API: ask for forecasts, wait for them, have their numbers as pandas frames; and what became of them.

Needs the extra `client` (httpx, pandas and pyarrow) and a running web service; knows nothing of how forecasts are made.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import pandas as pd

from shared.errors import KronosLiveError, NotFoundError, QueueFullError, RequestError, ServiceError
from shared.forecasts import Forecast, JobStatus
from shared.klines import Interval
from shared.ledger import ShownBook
from shared.outcome import Outcome
from shared.series_record import SeriesRecord

POLL_S = 0.3
Moment = str | datetime
ERRORS: dict[int, type[KronosLiveError]] = {
    400: RequestError,
    404: NotFoundError,
    415: RequestError,
    422: RequestError,
    429: QueueFullError,
}


@dataclass(frozen=True)
class FinishedForecast:
    """A forecast with what must not be overlooked about it (`labels`: SIMULATED DATA, BUNDLED MODEL, ...)."""

    record: Forecast
    labels: tuple[str, ...]
    _client: KronosLive = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        return self.record.id

    def steps(self) -> pd.DataFrame:
        """One row for each forecast candle, by its open time in UTC: mean and median close, each band's bounds, and the
        mean volume."""
        close, volume = self.record.close, self.record.volume
        bands = {f"{side}_{band.level:g}": getattr(band, side) for band in close.bands for side in ("lower", "upper")}
        columns = {"mean": close.mean, "median": close.median, **bands, "volume": volume.mean}
        return pd.DataFrame(columns, index=self._open_times())

    def paths(self) -> pd.DataFrame:
        """Every path as it was drawn: rows by path (from 0) and open time in UTC, columns open, high, low, close, volume,
        amount. Raises NotFoundError where retention has dropped them."""
        rows = pd.read_csv(io.BytesIO(self._client.read(f"/forecasts/{self.id}/paths.csv")), parse_dates=["open_time"])
        return rows.set_index(["path", "open_time"]).drop(columns="step").astype(np.float32)

    def quantiles(self, levels: Sequence[float] = (0.05, 0.25, 0.5, 0.75, 0.95)) -> pd.DataFrame:
        """Quantiles of the close at each step, one column for each level from above 0 to below 1, by the Weibull rule
        (rank / (paths + 1)), as the bands are."""
        closes = self.paths()["close"].unstack("path").to_numpy(np.float64)
        values = np.quantile(closes, levels, axis=1, method="weibull")
        return pd.DataFrame(values.T, index=self._open_times(), columns=list(levels))

    def _open_times(self) -> pd.DatetimeIndex:
        return pd.to_datetime(self.record.open_times_ms, unit="ms", utc=True).rename("open_time")


@dataclass(frozen=True)
class FollowedForecast:
    """What followed a forecast; `labels` as those of the forecast, `missing_because` says why fewer candles are kept than
    have closed. `outcome.entry` has its scores, once they are in the ledger.
    """

    outcome: Outcome
    labels: tuple[str, ...]
    missing_because: str | None

    def candles(self) -> pd.DataFrame:
        """One row for each candle that is kept, by its open time in UTC: its step, open, high, low, close, volume, amount."""
        found = self.outcome
        times = pd.to_datetime(found.open_times_ms, unit="ms", utc=True).rename("open_time")
        frame = pd.DataFrame(found.candles, index=times, columns=found.columns, dtype=np.float64)
        frame.insert(0, "step", found.steps)
        return frame


class KronosLive:
    """A connection to one web service; also a context manager that closes it.

    Every method raises RequestError, NotFoundError or QueueFullError with the service's own sentence, and ServiceError where
    it does not answer, or not as it should.
    """

    def __init__(
        self, url: str = "http://127.0.0.1:8000", *, token: str | None = None, timeout_s: float = 30.0
    ) -> None:
        """`token` is web.write_token, which asking for forecasts needs beyond loopback; `timeout_s` is for one answer."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx.Client(base_url=f"{url.rstrip('/')}/api/v1", headers=headers, timeout=timeout_s)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def forecast(
        self,
        symbol: str | None = None,
        interval: Interval | str | None = None,
        *,
        wait_s: float = 600.0,
        on_progress: Callable[[JobStatus], None] | None = None,
        **wishes: Any,
    ) -> FinishedForecast:
        """Ask for a forecast and wait for it; what is left out is as the service is configured. `wishes` are horizon,
        history, num_samples, target_error, temperature, top_p, top_k, seed and model. `on_progress` hears how the job
        stands each time it is asked for."""
        asked_for = {"symbol": symbol, "interval": interval, **wishes}
        return self.wait(self.ask(**asked_for).id, wait_s=wait_s, on_progress=on_progress)

    def ask(self, **wishes: Any) -> JobStatus:
        """Ask for a forecast without waiting for it; `wishes` as in `forecast`, symbol and interval among them."""
        body = {name: wish for name, wish in wishes.items() if wish is not None}
        return JobStatus.model_validate(_known(JobStatus, self._json("POST", "/forecasts", json=body)))

    def cancel(self, forecast_id: str) -> JobStatus:
        """Cancel a forecast that waits or runs. Raises ServiceError where it is finished or has failed."""
        return JobStatus.model_validate(_known(JobStatus, self._json("DELETE", f"/forecasts/{forecast_id}")))

    def wait(
        self, forecast_id: str, *, wait_s: float = 600.0, on_progress: Callable[[JobStatus], None] | None = None
    ) -> FinishedForecast:
        """The forecast, once it is made. Raises ServiceError with the reason where it failed, or has not come in time."""
        deadline = time.monotonic() + wait_s
        while True:
            found = self._json("GET", f"/forecasts/{forecast_id}")
            if found["forecast"] is not None:
                return self._finished(found)
            job = JobStatus.model_validate(_known(JobStatus, found))
            if job.state not in ("queued", "running"):
                raise ServiceError(f"Forecast {forecast_id} {job.state}: {job.error or 'no reason was given'}")
            if on_progress is not None:
                on_progress(job)
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"Forecast {forecast_id} is still {job.state} after {wait_s:g} s; it stays in the queue: ask for it "
                    "again later."
                )
            time.sleep(POLL_S)

    def latest(self, symbol: str | None = None, interval: Interval | str | None = None) -> FinishedForecast:
        """The schedule's newest forecast of a series."""
        return self._finished(self._json("GET", "/forecasts/latest", params=_series(symbol, interval)))

    def get(self, forecast_id: str) -> FinishedForecast:
        """A forecast that is finished. Raises ServiceError where it is on its way still."""
        return self.wait(forecast_id, wait_s=0)

    def newest(
        self, symbol: str | None = None, interval: Interval | str | None = None, *, limit: int = 20
    ) -> list[FinishedForecast]:
        """Finished forecasts of a series, the newest first, at most 200."""
        found = self._json("GET", "/forecasts", params={**_series(symbol, interval), "limit": limit})
        return [self._finished(one) for one in found["forecasts"]]

    def outcome(self, forecast_id: str) -> FollowedForecast:
        """What has followed a finished forecast so far, and how it lies in the forecast's bands."""
        found = self._json("GET", f"/forecasts/{forecast_id}/outcome")
        outcome = Outcome.model_validate({name: found[name] for name in Outcome.model_fields if name in found})
        return FollowedForecast(outcome, tuple(found["labels"]), found["missing_because"])

    def track_record(
        self,
        symbol: str | None = None,
        interval: Interval | str | None = None,
        *,
        origin: ShownBook | None = None,
        forecaster: str | None = None,
    ) -> SeriesRecord:
        """Scores of a series' forecasts beside those of plain baselines, and whether that is an edge (`record.verdict`).

        Of the forecaster named (one of `forecasters`), else of the newest forecast's; of the ledger of one origin, else of the
        one that the series' forecasts go to now. `record` is None before anything is scored.
        """
        asked_for = {**_series(symbol, interval), **_stated(origin=origin, forecaster=forecaster)}
        return SeriesRecord.model_validate(self._json("GET", "/track-record", params=asked_for))

    def ledger(
        self,
        symbol: str | None = None,
        interval: Interval | str | None = None,
        *,
        origin: ShownBook | None = None,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: int | None = None,
    ) -> pd.DataFrame:
        """What became of each forecast of the schedule, oldest first: a row for each, by the open time (UTC) of the last candle
        that it knew, with its scores and those of the baselines beside it; CRPS in 1e-4 of the last close.

        Of those whose last candle opened from `since` on and before `until` (UTC where no zone is named), the newest `limit`.
        """
        stated = _stated(origin=origin, from_ms=_in_ms(since), until_ms=_in_ms(until), limit=limit)
        answer = self._answer("GET", "/ledger.parquet", params={**_series(symbol, interval), **stated})
        rows = pd.read_parquet(io.BytesIO(answer.content)).iloc[::-1]
        for name in ("last_open_time", "scored_at"):
            rows[name] = pd.to_datetime(rows.pop(f"{name}_ms"), unit="ms", utc=True)
        return rows.set_index("last_open_time")

    def imported(self, symbol: str | None = None, interval: Interval | str | None = None) -> pd.DataFrame:
        """What forecasters of elsewhere have published of a series, oldest first: a row for each update, by the open time (UTC)
        of the last candle that it knew, with its commit and, once it is scored, what then happened.
        """
        answer = self._answer("GET", "/imported.csv", params=_series(symbol, interval))
        rows = pd.read_csv(io.BytesIO(answer.content)).iloc[::-1]
        for name in ("last_open_time", "updated_at", "committed_at", "imported_at", "scored_at"):
            rows[name] = pd.to_datetime(rows.pop(f"{name}_ms"), unit="ms", utc=True)
        return rows.set_index("last_open_time")

    def read(self, path: str) -> bytes:
        """The body of whatever the API has at `path`."""
        return self._answer("GET", path).content

    def _finished(self, answer: dict[str, Any]) -> FinishedForecast:
        return FinishedForecast(Forecast.model_validate(answer["forecast"]), tuple(answer["labels"]), self)

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        answer = self._answer(method, path, **request)
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise ServiceError(f"{answer.request.url} gave no JSON object; is that a Kronos Live service?")
        return body

    def _answer(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            raise ServiceError(
                f"{self._http.base_url} does not answer ({error}); start it with `kronos-live web`."
            ) from None
        if answer.is_success:
            return answer
        sentence, name = _problem(answer)
        raise ERRORS.get(answer.status_code, ServiceError)(sentence, field=name)


def _problem(answer: httpx.Response) -> tuple[str, str | None]:
    """What the service says is wrong, and with which field."""
    try:
        problem = answer.json()
        wrong = problem.get("errors") or [{"field": None}]
        return str(problem["detail"]), wrong[0]["field"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{answer.request.url} answered {answer.status_code} {answer.reason_phrase}.", None


def _series(symbol: str | None, interval: Interval | str | None) -> dict[str, str]:
    named = {"symbol": symbol, "interval": interval}
    return {name: str(value) for name, value in named.items() if value is not None}


def _stated(**parameters: object) -> dict[str, str]:
    return {name: str(value) for name, value in parameters.items() if value is not None}


def _in_ms(moment: Moment | None) -> int | None:
    """UTC ms. Raises RequestError for what is no moment."""
    if moment is None:
        return None
    try:
        at = pd.Timestamp(moment)
        if pd.isna(at):
            raise ValueError
    except ValueError:
        raise RequestError(f"{moment!r} is no moment; write one as 2025-01-31 or 2025-01-31T12:00+01:00.") from None
    return int((at.tz_localize("UTC") if at.tzinfo is None else at).timestamp() * 1000)


def _known(model: type[JobStatus], answer: dict[str, Any]) -> dict[str, Any]:
    """The fields that this version of the contract has; a newer service may have more."""
    return {name: value for name, value in answer.items() if name in model.model_fields}
