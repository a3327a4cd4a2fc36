"""The static site as files: a picture, a page and its style, made of what is told. Works from a folder and without scripts."""

from __future__ import annotations

import hashlib

from services.publishing.chart import prediction_chart
from services.publishing.page import TEMPLATES, index_page
from services.publishing.told import Told

CHART, STYLE, INDEX = "prediction_chart.png", "style.css", "index.html"

Files = dict[str, bytes]


def site_files(told: Told) -> Files:
    """Content by name, the page last: it names the others."""
    chart = prediction_chart(told)
    # Named with its content's hash, so that a browser never shows the picture of an earlier page beside this one.
    address = f"{CHART}?{hashlib.sha256(chart).hexdigest()[:12]}"
    return {
        STYLE: (TEMPLATES / STYLE).read_bytes(),
        CHART: chart,
        INDEX: index_page(told, address).encode(),
    }
