"""The track record's charts as Plotly figures: plain JSON, UTC times, no colours.

Pure. Each trace names its role in `meta.role`, and static/record.js gives roles their colours, light or dark. Each figure
names the table of the page that has the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from shared.track_record import EventRecord, LevelRecord, TrackRecord

# Numbers alone, since Plotly knows the names of months in English only; the hour where a day has several ticks.
DATES = [
    {"dtickrange": [None, 86_399_999], "value": "%H:%M\n%m-%d"},
    {"dtickrange": [86_400_000, None], "value": "%m-%d\n%Y"},
]

Trace = dict[str, Any]
Say = Callable[..., str]  # the words of a key in the page's language, with its values


def record_charts(record: TrackRecord, say: Say) -> list[dict[str, Any]]:
    """For each chart: `name`, `title`, `table` (the id of the table with its numbers) and `figure`."""
    beside = record.recalibrated
    charts = [
        ("skill", say("record_chart.skill"), "periods", _skill(record, say)),
        ("coverage", say("record_chart.coverage"), "by-step", _coverage(record.bands, say)),
    ]
    if beside:
        held = _coverage(beside.bands, say)
        charts.append(("recalibrated-coverage", say("record_chart.recalibrated_coverage"), "by-step", held))
    events = [
        ("upside", say("record_chart.upside"), record.upside, beside.upside if beside else None),
        (
            "amplification",
            say("record_chart.amplification"),
            record.volatility_amplification,
            beside.volatility_amplification if beside else None,
        ),
    ]
    told = [(name, title, raw, recalibrated) for name, title, raw, recalibrated in events if raw]
    for number, (name, title, raw, recalibrated) in enumerate(told, 1):  # as the page numbers its tables
        charts.append((name, title, f"event-{number}", _reliability(raw, recalibrated, say)))
    charts.append(("pit", say("record_chart.pit"), "pit", _pit(record.pit, say)))
    return [{"name": name, "title": title, "table": table, "figure": figure} for name, title, table, figure in charts]


def _skill(record: TrackRecord, say: Say) -> dict[str, Any]:
    """Of each period at its middle; 0 is what the best baseline has."""
    periods = record.periods
    middles = [(one.from_ms + one.until_ms) // 2 for one in periods]
    trace = _line("raw", middles, [one.skill for one in periods], say("record_chart.skill_short"), "%{y:+.1%}")
    layout = {
        "xaxis": {"type": "date", "title": {"text": "UTC"}, "nticks": 5, "tickformatstops": DATES},
        "yaxis": {"tickformat": "+.0%", "rangemode": "tozero"},
        "shapes": [_across(0.0)],
    }
    return {"data": [trace], "layout": layout}


def _coverage(bands: Sequence[LevelRecord], say: Say) -> dict[str, Any]:
    """What each band held at each step; a dotted line for what it says that it holds."""
    traces = [
        _line(
            f"level {band.level}",
            list(range(1, len(band.by_step) + 1)),
            band.by_step,
            say("chart.band", level=band.level),
            "%{y:.1%}",
        )
        for band in bands
    ]
    layout = {
        "xaxis": {"title": {"text": say("record_chart.step")}},
        "yaxis": {"tickformat": ".0%", "range": [0, 1.02]},
        "shapes": [_across(band.level / 100) for band in bands],
    }
    return {"data": traces, "layout": layout}


def _reliability(raw: EventRecord, recalibrated: EventRecord | None, say: Say) -> dict[str, Any]:
    """How often it happened by what was said; on the diagonal the two agree."""
    both = [("raw", say("record_chart.raw"), raw)]
    if recalibrated:
        both.append(("recalibrated", say("record_chart.recalibrated"), recalibrated))
    traces = []
    for role, name, event in both:
        said = [one.said for one in event.reliability]
        trace = _line(role, said, [one.happened for one in event.reliability], name, "%{x:.1%}: %{y:.1%} (n = %{text})")
        traces.append({**trace, "text": [str(one.forecasts) for one in event.reliability]})
    layout = {
        "hovermode": "closest",
        "xaxis": {"title": {"text": say("record_chart.said")}, "tickformat": ".0%", "range": [-0.02, 1.02]},
        "yaxis": {"title": {"text": say("record_chart.happened")}, "tickformat": ".0%", "range": [-0.02, 1.02]},
        "shapes": [{"type": "line", "x0": 0, "x1": 1, "y0": 0, "y1": 1, "line": {"dash": "dot", "width": 1}}],
    }
    return {"data": traces, "layout": layout}


def _pit(shares: Sequence[float], say: Say) -> dict[str, Any]:
    """The share of the closes in each bin of ranks; flat where the paths are right."""
    bins = len(shares)
    bars = {
        "type": "bar",
        "name": say("record_chart.share"),
        "x": [(place + 0.5) / bins for place in range(bins)],
        "y": list(shares),
        "width": 0.92 / bins,
        "hovertemplate": "%{y:.1%}",
        "meta": {"role": "raw"},
    }
    layout = {
        "xaxis": {"title": {"text": say("record_chart.rank")}, "range": [0, 1], "tickformat": ".1f", "dtick": 0.2},
        "yaxis": {"tickformat": ".0%", "rangemode": "tozero"},
        "shapes": [_across(1 / bins)],
    }
    return {"data": [bars], "layout": layout}


def _line(role: str, x: Sequence[float], y: Sequence[float | None], name: str, hover: str) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "x": list(x),
        "y": list(y),
        "hovertemplate": hover,
        "meta": {"role": role},
    }


def _across(y: float) -> dict[str, Any]:
    """A dotted line over the whole width."""
    line = {"dash": "dot", "width": 1.5}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}
