"""The page of a static site as HTML: what `told.py` tells, in places of a template. Every word that comes in is escaped."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.publishing.told import Told
from shared.forecasts import Forecast, Probability, band_name, why_no_amplification
from shared.klines import utc
from shared.prices import price
from shared.record_tables import counts_sentence, drift_sentences, headline

TEMPLATES = Path(__file__).parent / "templates"
MEANS = {
    "too few": "Nothing is claimed before that.",
    "edge": "It was closer to what came than each of the plain rules.",
    "no edge": "That is no more than chance may do: whoever uses the plain rule does as well.",
    "worse": "Whoever uses the plain rule does better.",
}
Rows = list[tuple[str, str]]


def index_page(told: Told, chart: str) -> str:
    """The page of what is told; `chart` is the relative address of its picture."""
    templates = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    forecast = told.forecast
    return templates.get_template("index.html").render(
        series=f"{forecast.request.symbol} {forecast.request.interval}",
        horizon=forecast.request.horizon,
        said=told.said,
        chart=chart,
        updated=_moment(forecast),
        follows=utc(forecast.last_open_time_ms),
        due=utc(told.due_ms) if told.due_ms is not None else None,
        upside=_in_words(forecast.upside),
        upside_value=_percent(forecast.upside.value),
        upside_recalibrated=_recalibrated(forecast, "upside"),
        amplification=_in_words(forecast.volatility_amplification) if forecast.volatility_amplification else None,
        amplification_value=_percent(forecast.volatility_amplification.value)
        if forecast.volatility_amplification
        else None,
        amplification_recalibrated=_recalibrated(forecast, "volatility_amplification"),
        why_no_amplification=why_no_amplification(forecast),
        end=_end_rows(forecast),
        record=_record_sentences(told),
        provenance=_provenance(forecast),
    )


def _moment(forecast: Forecast) -> str:
    return f"{forecast.created_at:%Y-%m-%d %H:%M:%S} UTC"


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _in_words(share: Probability) -> str:
    between = f"{_percent(share.lower)} to {_percent(share.upper)}"
    return f"Monte-Carlo error, 95 %: {between} ({share.paths} of {share.of} paths)"


def _recalibrated(forecast: Forecast, what: str) -> str | None:
    value = getattr(forecast.recalibrated, what) if forecast.recalibrated else None
    return None if value is None else _percent(value)


def _end_rows(forecast: Forecast) -> Rows:
    """Where the price may be at the last step, as the picture has it."""
    bands = forecast.recalibrated.bands if forecast.recalibrated else forecast.close.bands
    kind = "recalibrated" if forecast.recalibrated else "uncalibrated"
    return [
        ("Last known close", price(forecast.last_close)),
        ("Mean of the paths", price(forecast.close.mean[-1])),
        ("Median of the paths", price(forecast.close.median[-1])),
        *(
            (f"{band_name(band)}, {kind}".capitalize(), f"{price(band.lower[-1])} to {price(band.upper[-1])}")
            for band in bands
        ),
    ]


def _record_sentences(told: Told) -> list[str]:
    """The track record in sentences, the verdict first; empty where nothing is scored."""
    if told.record is None:
        return []
    origin = told.forecast.provenance.origin
    apart = [] if origin == "live" else [f"These scores are of {origin} klines, which are not live."]
    drifted = [sentence for left, sentence in drift_sentences(told.record) if left]
    return [headline(told.record), MEANS[told.record.verdict], *apart, *drifted, counts_sentence(told.record)]


def _provenance(forecast: Forecast) -> Rows:
    made, sampling = forecast.provenance, forecast.sampling
    model = made.model
    published = ", as published" if model.published else ""
    return [
        ("Forecast", forecast.id),
        ("Klines", f"{made.venue} ({made.origin}), {made.history_used} candles known, snapshot {made.snapshot_id}"),
        ("Model", f"{model.name} ({model.source}{published}), sha256 {model.sha256}"),
        ("Tokenizer", f"{model.tokenizer_name}, sha256 {model.tokenizer_sha256}"),
        (
            "Drawn with",
            f"temperature {sampling.temperature:g}, top-p {sampling.top_p:g}, top-k {sampling.top_k}, seed {made.seed}",
        ),
        ("Computed on", f"{made.device}, {made.dtype}, {made.kernels} kernels, {made.timings_s['total']:.2f} s"),
        ("Kronos Live", made.code_version),
    ]
