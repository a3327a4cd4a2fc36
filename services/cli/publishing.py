"""The newest forecast as a static site: written once, or after each forecast of the schedule."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from services.cli.common import errors_in_one_line, now_ms, stores
from shared.errors import RequestError
from shared.klines import Interval
from shared.logs import quiet_logs
from shared.settings import load_settings


@click.command()
@click.option(
    "--out",
    default=Path("site"),
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the site; what else it holds is left alone.",
)
@click.option("--symbol", help="As Binance writes it; left out: the configured one.")
@click.option(
    "--interval", type=click.Choice([interval.value for interval in Interval]), help="Left out: the configured one."
)
@errors_in_one_line
def export(out: Path, symbol: str | None, interval: str | None) -> None:
    """Write the newest forecast of a series as a static site: index.html, style.css and prediction_chart.png.

    \b
    kronos-live export --out site/
    python3 -m http.server 8000 --directory site/

    It needs no server of ours and no script, and can be opened from its folder too. Each file is put in place whole.
    """
    quiet_logs()
    require_publishing()
    from services.publishing.folder import write_whole
    from services.publishing.site import site_files
    from services.publishing.told import tell

    settings = load_settings()
    klines, forecasts, _ = stores(settings)
    named, length = symbol or settings.data.symbol, Interval(interval or settings.data.interval)
    told = tell(klines, forecasts, named, length, now_ms(), calibrates=settings.calibration.enabled)
    write_whole(out, site_files(told))
    click.echo(f"{out / 'index.html'} shows {told.forecast.id}.")


@click.command()
@errors_in_one_line
def publish() -> None:
    """Write the static site to publish.folder after each forecast of the schedule, until it is told to stop.

    It needs publish.enabled. With publish.git.enabled each update becomes a commit, and with publish.git.push it is pushed.
    """
    settings = load_settings()
    require_publishing()
    from services.publishing.main import run

    run(settings)


def require_publishing() -> None:
    """Raises RequestError where what draws and writes the site is not installed."""
    if missing := [name for name in ("jinja2", "matplotlib") if find_spec(name) is None]:
        raise RequestError(
            f"A static site is made with {' and '.join(missing)}, which is not installed: pip install "
            f"'.[publish]' in a checkout."
        )
