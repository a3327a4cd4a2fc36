"""What alerts count: what was judged and told, how each channel took it, and when that last went well.

One tally for the process, as the library has it. A channel is called by its scheme alone, which holds no secret.
"""

from __future__ import annotations

from shared.metrics import Metric, Tally

JUDGED = Metric(
    "kronos_alert_judgements_total",
    "Questions whether a rule holds, by the rule's kind and what came of it (holds, quiet).",
    ("when", "outcome"),
)
TOLD = Metric(
    "kronos_alert_messages_total",
    "Messages that this process left for the channels, by the rule's kind: that it holds (alert), or that this is over (over).",
    ("when", "kind"),
)
LOOKED_AT = Metric(
    "kronos_alert_looked_seconds",
    "Unix time of the last look for new forecasts (forecasts) and at how things stand (system), where rules ask for it.",
    ("of",),
)
DELIVERIES = Metric(
    "kronos_alert_deliveries_total",
    "Tries to deliver a message, by the scheme of the channel's address and how they ended: delivered, put_off (not taken, and "
    "tried again) or given_up (after a day).",
    ("channel", "outcome"),
)
DELIVERED_AT = Metric(
    "kronos_alert_delivered_seconds",
    "Unix time at which a channel of that scheme last took a message; absent before.",
    ("channel",),
)
ALERT_METRICS = (JUDGED, TOLD, LOOKED_AT, DELIVERIES, DELIVERED_AT)

TALLY = Tally(ALERT_METRICS)
