"""`kronos-live alerts`: messages of forecasts and of the system, to people."""

from __future__ import annotations

import click
from rich.console import Console
from rich.text import Text

from services.cli.common import as_json_option, errors_in_one_line, print_json
from shared.contract import Contract
from shared.errors import KronosLiveError
from shared.logs import quiet_logs
from shared.settings import load_settings


class RuleNow(Contract):
    """What a rule says of a series, or of the workers, at this moment."""

    rule: str
    when: str
    series: str | None
    holds: bool
    said: str


@click.group()
def alerts() -> None:
    """Tell people by webhook, Telegram, Discord, Slack or e-mail.

    Rules (alerts.rules) say of what. Each has `when`, and may have `name`, `cool_down` in seconds and, but for worker_gone,
    `series` as in ETHUSDT:1h; without one it looks at each series that ingest keeps up.

    \b
      upside_above, upside_below   level    more, or fewer, paths than this share end above the last close
      volatility_above             level    more paths than this are more volatile than the candles before
      band_touches        price, band       the band (50, 80 or 95; 80 unless named) of the close reaches this price
      coverage_drift                        the bands no longer hold what they say
      missed_update                         a forecast that was due has not come
      worker_gone                fewer_than fewer workers than this (1) of a lane gave a sign of life in the last minute
      simulated_data                        a series runs on simulated candles

    The first four are asked of each new forecast of the schedule, and tell of it once. The others are told when they have been so
    for alerts.holds_for seconds, and again when they are over. Neither speaks again of the same series before its cool-down.

    Channels (alerts.channels, or a file with one a line, alerts.channel_file) are addresses of apprise, with their secrets:

    \b
      json://host:port/path  jsons://...    a webhook: POST with title, message and type as JSON
      tgram://bot-token/chat-id             Telegram
      discord://webhook-id/webhook-token    Discord
      slack://token-a/token-b/token-c       Slack
      mailto://user:password@host?to=you@example.org    e-mail; mailtos:// with TLS

    \b
    export KRONOS_ALERTS__CHANNELS=json://127.0.0.1:9000/hook
    export KRONOS_ALERTS__RULES='[{when: upside_above, level: 0.7}, {when: worker_gone}]'
    kronos-live alerts test && KRONOS_ALERTS__ENABLED=true kronos-live alerts run
    """


@alerts.command()
@errors_in_one_line
def run() -> None:
    """Watch, and send what is new, until SIGTERM.

    Several may run at once with the same settings, on any machines: each message is sent once. What a channel does not take is
    tried again for a day, after pauses that grow. Of forecasts that came while nobody watched only the newest is told.
    """
    from services.alerts.main import run

    run(load_settings())


@alerts.command("test")
@errors_in_one_line
def test_channels() -> None:
    """Send a test message to each channel and say of each whether it was taken.

    Ends with 1 where one was not. It needs neither Redis nor alerts.enabled.
    """
    from services.alerts.main import try_channels

    quiet_logs()
    failed = 0
    for label, why in try_channels(load_settings()):
        failed += why is not None
        click.echo(f"{label}: {'taken' if why is None else f'not taken, {why}'}")
    if failed:
        raise KronosLiveError(
            f"{failed} of the channels did not take the message: see that the address is right and can be reached."
        )


@alerts.command()
@as_json_option
@errors_in_one_line
def check(as_json: bool) -> None:
    """Say which rules hold now, of the newest forecasts and of how things stand. Sends nothing.

    Neither cool-down nor alerts.holds_for is looked at.

    \b
    kronos-live alerts check --json | jq '.[] | select(.holds)'
    """
    from services.alerts.main import check

    quiet_logs()
    settings, console = load_settings(), Console(soft_wrap=True)
    found = [
        RuleNow(
            rule=asked.rule.title,
            when=asked.rule.when,
            series=str(asked.series) if asked.series else None,
            holds=judged.holds,
            said=judged.said,
        )
        for asked, judged in check(settings)
    ]
    if as_json:
        print_json(found, as_list=True)
        return
    for one in found:
        console.print(_line(one))
    if not found:
        click.echo("alerts.rules is empty.")


def _line(found: RuleNow) -> Text:
    state = ("fires", "bold red") if found.holds else ("quiet", "green")
    return Text.assemble(state, f" {found.rule}: {f'{found.series} ' if found.series else ''}{found.said}")
