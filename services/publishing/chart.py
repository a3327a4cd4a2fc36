"""The picture of a static site: history in blue, the mean of all paths in orange, their bands shaded, volume below.

Pure: the same forecast gives the same bytes. Draws without pyplot, which would keep figures and look for a screen.
"""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from services.publishing.told import Told
from shared.forecasts import Forecast, band_name
from shared.klines import CLOSE, VOLUME, KlineWindow
from shared.prices import price

BLUE, ORANGE, GREY = "#2463eb", "#e06c00", "#566375"
SHORTEST_HISTORY_SHOWN = 120  # candles
HISTORY_PER_HORIZON = 5  # and at least so many times the horizon
SIZE_IN, DPI = (12.0, 7.2), 110  # 1320 by 792 pixels
SHADES = {50: 0.32, 80: 0.20, 95: 0.11}


def prediction_chart(told: Told) -> bytes:
    """A PNG of the forecast after the candles that it knew. Without its snapshot it begins at the last known close."""
    # Words of venues and models are text, never formulas, whatever signs they hold.
    with mpl.rc_context({"text.parse_math": False, "font.size": 11, "axes.edgecolor": GREY}):
        figure = Figure(figsize=SIZE_IN, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        prices, volumes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        _draw(told, prices, volumes)
        written = io.BytesIO()
        figure.savefig(written, format="png", metadata={"Software": None})
    return written.getvalue()


def _draw(told: Told, prices: Any, volumes: Any) -> None:
    forecast, step_ms = told.forecast, told.forecast.request.interval.ms
    history = _shown(told.klines, forecast.request.horizon)
    times = _moments([forecast.last_open_time_ms, *forecast.open_times_ms])
    width = np.timedelta64(round(step_ms * 0.8), "ms")
    if history is not None:
        known = _moments(history.open_times_ms)
        prices.plot(known, history.values[:, CLOSE], color=BLUE, linewidth=1.6, label="history")
        volumes.bar(known, history.values[:, VOLUME], width=width, color=BLUE, alpha=0.65)
    bands = forecast.recalibrated.bands if forecast.recalibrated else forecast.close.bands
    kind = "recalibrated" if forecast.recalibrated else "uncalibrated"
    for band in sorted(bands, key=lambda one: -one.level):
        lower, upper = ([forecast.last_close, *side] for side in (band.lower, band.upper))
        name = f"{band_name(band)}, {kind}"
        prices.fill_between(times, lower, upper, color=ORANGE, alpha=SHADES[band.level], linewidth=0, label=name)
    mean = [forecast.last_close, *forecast.close.mean]
    prices.plot(times, mean, color=ORANGE, linewidth=2, label=f"mean of {forecast.paths.shape[0]} paths")
    volumes.bar(times[1:], np.maximum(forecast.volume.mean, 0), width=width, color=ORANGE, alpha=0.65)
    for axes in (prices, volumes):
        axes.axvline(times[0], color=GREY, linewidth=1, linestyle="--")
        axes.grid(visible=True, color=GREY, alpha=0.18)
        axes.spines[["top", "right"]].set_visible(False)
    prices.yaxis.set_major_formatter(FuncFormatter(lambda value, _: price(value)))
    prices.set_title(_title(forecast, [one.title for one in told.said]), loc="left")
    prices.legend(loc="upper left", frameon=False, fontsize=9)
    prices.set_ylabel("close")
    volumes.set_ylabel("volume")
    locator = AutoDateLocator()
    volumes.xaxis.set_major_locator(locator)
    volumes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    volumes.set_xlabel("UTC")


def _title(forecast: Forecast, labels: list[str]) -> str:
    request = forecast.request
    series = f"{request.symbol} {request.interval}, {request.horizon} candles ahead"
    return " | ".join([series, *labels])


def _shown(klines: KlineWindow | None, horizon: int) -> KlineWindow | None:
    return klines.tail(max(SHORTEST_HISTORY_SHOWN, HISTORY_PER_HORIZON * horizon)) if klines else None


def _moments(open_times_ms: Any) -> Any:
    return np.asarray(open_times_ms, dtype="datetime64[ms]")
