"""What ingest counts: how venues answered it, what they say of its weight and its clock, and how its candles' turns ended.

One tally for the process, as the library has it: whoever sees something happen counts it here.
"""

from __future__ import annotations

from shared.metrics import Metric, Tally

VENUE_ANSWERS = Metric(
    "kronos_venue_answers_total",
    "Answers with usable candles that a venue gave ingest's schedule or a fetch.",
    ("venue",),
)
VENUE_FAILURES = Metric(
    "kronos_venue_failures_total",
    "Questions to a venue, by its name and address, that brought no usable candles; ingest's log has the reasons.",
    ("venue",),
)
VENUE_WEIGHT = Metric(
    "kronos_venue_weight_used",
    "What the venue says that this address has used of its limit in the running minute, where it does.",
    ("venue",),
)
VENUE_REST = Metric(
    "kronos_venue_left_alone_until_seconds",
    "Unix time until which a venue wants to be left alone; in the past where it does not.",
    ("venue",),
)
CLOCK_OFFSET = Metric(
    "kronos_clock_offset_seconds",
    "How far a venue's time was ahead of this machine's clock when it was last heard; from two seconds on it is followed.",
)
TURNS = Metric(
    "kronos_ingest_cycles_total",
    "Tries to bring a candle home, by how they ended: real, simulated or failed.",
    ("symbol", "interval", "outcome"),
)
LATENESS = Metric(
    "kronos_ingest_lateness_seconds",
    "How long the series that ingest took up last had been due; where it grows, ingest or its venues' pace is too slow.",
)
INGEST_METRICS = (VENUE_ANSWERS, VENUE_FAILURES, VENUE_WEIGHT, VENUE_REST, CLOCK_OFFSET, TURNS, LATENESS)

TALLY = Tally(INGEST_METRICS)
