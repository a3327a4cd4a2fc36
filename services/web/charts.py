"""A forecast and the klines before it as a Plotly figure: plain JSON, UTC times, no colours.

Pure. Each trace names its role in `meta.role`; the page gives roles their colours, light or dark, and people their
time zone.
"""

from __future__ import annotations

import math
from typing import Any

from shared.forecasts import Band, Forecast, band_name
from shared.kline_store import Followed
from shared.klines import CLOSE, HIGH, LOW, OPEN, VOLUME, KlineWindow
from shared.labels import forecast_labels
from shared.outcome import NOTHING, steps_of
from shared.statistics import Floats

SHORTEST_HISTORY_SHOWN = 120  # candles
HISTORY_PER_HORIZON = 5  # and at least so many times the horizon
OUTCOME_BAR = 0.35  # of a candle's width: a bar of what then happened stands within the one that was forecast
PRICES = {"open": OPEN, "high": HIGH, "low": LOW, "close": CLOSE}

Figure = dict[str, Any]
Trace = dict[str, Any]


def forecast_figure(forecast: Forecast, klines: KlineWindow | None, followed: Followed = NOTHING) -> Figure:
    """The figure of a forecast; `klines` is its snapshot, or None where retention has dropped that, and `followed` are the
    candles of its horizon that have closed since.
    """
    shown = klines.tail(max(SHORTEST_HISTORY_SHOWN, HISTORY_PER_HORIZON * forecast.request.horizon)) if klines else None
    history = [_history_line(shown), _history_candles(shown), _history_volume(shown)] if shown else []
    volume_bands = sorted(forecast.volume.bands, key=lambda band: -band.level)
    bands = sorted(forecast.close.bands, key=lambda band: -band.level)  # the widest lies at the bottom
    beside = sorted(forecast.recalibrated.bands, key=lambda band: -band.level) if forecast.recalibrated else []
    return {
        "data": [
            *(trace for band in bands for trace in _band_traces(forecast, band, f"band {band.level}")),
            *(trace for band in beside for trace in _band_traces(forecast, band, f"recalibrated band {band.level}")),
            *(trace for band in volume_bands for trace in _volume_band_traces(forecast, band)),
            *history,
            _line(forecast, "median", forecast.close.median),
            _line(forecast, "mean", forecast.close.mean),
            _volume_bars("forecast volume", forecast.open_times_ms, forecast.volume.mean, "mean volume of the paths"),
            *(_outcome(forecast, followed) if len(followed) else []),
        ],
        "layout": _layout(forecast),
        "history_missing": shown is None,
    }


def _history_line(klines: KlineWindow) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "close",
        "x": klines.open_times_ms.tolist(),
        "y": klines.values[:, CLOSE].tolist(),
        "hovertemplate": "%{y:,.7~g}",
        "meta": {"role": "history"},
    }


def _history_candles(klines: KlineWindow) -> Trace:
    """The same klines whole; unseen until the person wants candles in place of the line."""
    return _candles("history candles", "candles", klines.open_times_ms.tolist(), klines.values)


def _candles(role: str, name: str, times_ms: list[int], values: Floats) -> Trace:
    return {
        "type": "candlestick",
        "name": name,
        "x": times_ms,
        **{price: values[:, column].tolist() for price, column in PRICES.items()},
        "visible": False,
        "meta": {"role": role},
    }


def _outcome(forecast: Forecast, followed: Followed) -> list[Trace]:
    """What then happened, over the bands: as a line from the last known close on, as candles, and as volume."""
    name, times_ms = "what then happened", followed.open_times_ms.tolist()
    steps = steps_of(forecast, followed).tolist()
    closes = dict(zip(steps, followed.values[:, CLOSE].tolist(), strict=True))
    line = _line(forecast, "outcome", [closes.get(step, math.nan) for step in range(1, steps[-1] + 1)])
    bars = _volume_bars("outcome volume", times_ms, followed.values[:, VOLUME].tolist(), f"volume, {name}")
    return [
        {**line, "mode": "lines+markers", "name": name, "x": line["x"][: len(line["y"])]},
        _candles("outcome candles", name, times_ms, followed.values),
        {**bars, "width": OUTCOME_BAR * forecast.request.interval.ms},
    ]


def _history_volume(klines: KlineWindow) -> Trace:
    return _volume_bars("history volume", klines.open_times_ms.tolist(), klines.values[:, VOLUME].tolist(), "volume")


def _volume_bars(role: str, times_ms: list[int], volumes: list[float], name: str) -> Trace:
    return {
        "type": "bar",
        "name": name,
        "x": times_ms,
        "y": _drawable(volumes),
        "yaxis": "y2",
        "hovertemplate": "%{y:,.4~g}",
        "meta": {"role": role},
    }


def _line(forecast: Forecast, role: str, values: list[float]) -> Trace:
    """A line that leaves from the last known close."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": role,
        "x": [forecast.last_open_time_ms, *forecast.open_times_ms],
        "y": [forecast.last_close, *_drawable(values)],
        "hovertemplate": "%{y:,.7~g}",
        "meta": {"role": role},
    }


def _band_traces(forecast: Forecast, band: Band, role: str) -> list[Trace]:
    """Lower edge unseen, upper edge filled down to it; the hover on the upper edge tells both. Of raw and recalibrated bands
    the page shows either.
    """
    lower, upper = (
        {
            "type": "scatter",
            "mode": "lines",
            "x": [forecast.last_open_time_ms, *forecast.open_times_ms],
            "y": [forecast.last_close, *_drawable(edge)],
            "line": {"width": 0},
            "meta": {"role": role, "kind": band.kind},
        }
        for edge in (band.lower, band.upper)
    )
    return [
        {**lower, "hoverinfo": "skip"},
        {
            **upper,
            "name": band_name(band),
            "fill": "tonexty",
            "customdata": lower["y"],
            "hovertemplate": "%{customdata:,.7~g} – %{y:,.7~g}",
        },
    ]


def _volume_band_traces(forecast: Forecast, band: Band) -> list[Trace]:
    """A band of the volume, behind its bars."""
    edge = {
        "type": "scatter",
        "mode": "lines",
        "x": forecast.open_times_ms,
        "yaxis": "y2",
        "line": {"width": 0, "shape": "hvh"},  # as wide as the bars
        "hoverinfo": "skip",
        "meta": {"role": f"volume band {band.level}"},
    }
    return [
        {**edge, "y": _drawable(band.lower)},
        {**edge, "y": _drawable(band.upper), "name": f"volume, {band_name(band)}", "fill": "tonexty"},
    ]


def _layout(forecast: Forecast) -> Figure:
    return {
        "hovermode": "x unified",
        "dragmode": "pan",
        "bargap": 0.25,
        "barmode": "overlay",
        "xaxis": {"type": "date", "showgrid": False, "anchor": "y2", "automargin": True},
        "yaxis": {"domain": [0.26, 1], "automargin": True, "tickformat": ",~r", "nticks": 6},
        "yaxis2": {"domain": [0, 0.18], "automargin": True, "tickformat": "~s", "nticks": 3, "rangemode": "tozero"},
        "showlegend": False,  # the page has a legend that wraps on a phone
        "shapes": [
            {
                "type": "line",
                "xref": "x",
                "yref": "paper",
                "x0": forecast.last_open_time_ms,
                "x1": forecast.last_open_time_ms,
                "y0": 0,
                "y1": 1,
                "line": {"width": 1, "dash": "dot"},
            }
        ],
        "annotations": [_watermark(label, place) for place, label in enumerate(forecast_labels(forecast))],
    }


def _watermark(label: str, place: int) -> Figure:
    """Across the chart itself, so that a picture of it cannot lose what it is a picture of."""
    return {
        "text": label,
        "xref": "paper",
        "yref": "paper",
        "x": 0.5,
        "y": 0.84 - 0.16 * place,
        "showarrow": False,
        "font": {"size": 30},
        "opacity": 0.3,
        "name": "watermark",
    }


def _drawable(values: list[float]) -> list[float | None]:
    """JSON knows no NaN; Plotly leaves a gap at null."""
    return [value if math.isfinite(value) else None for value in values]
