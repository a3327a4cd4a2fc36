"""The page in the person's language: what templates call to say things, and the switch from one language to another.

The words are in static/words; services/web/languages.py chooses between them.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlencode

from flask import Blueprint, Response, g, request
from markupsafe import Markup

from services.web.formats import return_interval, whole_unit
from services.web.languages import COOKIE, HTML_NAMES, LANGUAGES, PARAMETER, Saying, language_of, translator, words
from services.web.monte_carlo import ReturnEstimate
from shared.forecasts import Band, Forecast, Provenance
from shared.outcome import BandCount

A_YEAR_S = 365 * 24 * 3600


def add_wording(pages: Blueprint) -> None:
    """Let all templates speak the language of the request, and remember one that was chosen in the address."""
    pages.app_context_processor(_spoken)
    pages.after_app_request(_remember_choice)
    for show in (band_words, span_words, amplification_words, return_words, said, source_words, status_words):
        pages.add_app_template_filter(show)


def say(key: str, **values: object) -> Markup:
    if "say" not in g:
        g.say = translator(language_of(request))
    return Markup(g.say(key, **values))  # noqa: S704 - the translator has escaped it


def _spoken() -> dict[str, object]:
    language = language_of(request)
    others = {
        name: (label, HTML_NAMES[name], f"{request.path}?{urlencode({**request.args, PARAMETER: name})}")
        for name, label in LANGUAGES.items()
        if name != language
    }
    return {"t": say, "language": language, "html_language": HTML_NAMES[language], "other_languages": others}


def _remember_choice(response: Response) -> Response:
    if response.mimetype == "text/html":
        response.vary.update(("Accept-Language", "Cookie"))
        chosen = request.args.get(PARAMETER)
        if chosen in LANGUAGES and request.cookies.get(COOKIE) != chosen:
            response.set_cookie(COOKIE, chosen, max_age=A_YEAR_S, samesite="Lax", httponly=True)
    return response


def said(sayings: Iterable[Saying]) -> Markup:
    return Markup(" ").join(say(saying.key, **saying.values) for saying in sayings)


def band_words(band: Band | BandCount) -> Markup:
    return say("chart.range") if band.kind == "range" else say("chart.band", level=band.level)


def span_words(milliseconds: int) -> Markup:
    """A length of time in its largest whole unit."""
    number, unit = whole_unit(milliseconds)
    return say(f"unit.{unit}", n=number)


def return_words(estimate: ReturnEstimate) -> str:
    return return_interval(estimate.lower, estimate.upper)


def amplification_words(forecast: Forecast) -> Markup:
    """What stands in place of a volatility amplification that there is not."""
    return say("figure.no_amplification_" + ("steps" if forecast.returns_compared < 2 else "closes"))


def source_words(made: Provenance) -> Markup:
    """Where a forecast's klines came from: 'Binance, live', or 'Simulated'."""
    origin = say(f"facts.origin_{made.origin}")
    return (
        origin.capitalize() if made.origin == made.venue else Markup("{}, {}").format(made.venue.capitalize(), origin)
    )


def status_words(status: int) -> Markup:
    key = f"error.{status}"
    return say(key) if key in words("en") else say("error.other", phrase=HTTPStatus(status).phrase)
