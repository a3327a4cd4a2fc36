"""The configuration file of the system that this one replaces, read as it is: its `model`, `sampling` and `data` sections in
our words, and a reason for each of its keys that has no meaning here. Pure.

A file is in its form where one of those sections has a key that only it knew; such a file may hold sections of ours beside.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import SettingsError

Knob = tuple[str, str]  # section and name, in theirs or in our spelling

RENAMED: dict[Knob, Knob] = {
    ("model", "model_path"): ("model", "local_dir"),
    ("data", "timeframe"): ("data", "interval"),
}
WINDOW, MULTIPLIER = ("data", "volatility_window"), ("data", "volatility_window_multiplier")
HORIZON = ("data", "forecast_horizon")
OF_ITS_OWN_CACHE = "what has been fetched is kept in Redis, by the rules of retention"
SAME_SEED = (
    "each candle has a seed of its own, which its forecast's record names, and the same seed gives the same paths"
)
WITHOUT_MEANING: dict[Knob, str] = {
    ("model", "tokenizer_name"): "the tokenizer follows from model.model_name",
    ("sampling", "volatility_temperature_multiplier"): "upside and volatility are counted in the same paths",
    ("sampling", "random_seed"): SAME_SEED,
    ("sampling", "enable_deterministic"): SAME_SEED,
    ("data", "cache_enabled"): OF_ITS_OWN_CACHE,
    ("data", "cache_max_age_hours"): OF_ITS_OWN_CACHE,
    ("data", "cache_dir"): OF_ITS_OWN_CACHE,
    ("data", "update_mode"): "each candle is fetched when it has closed",
}
# Sections of its that were about another way to work; what comes nearest to them here.
ITS_SECTIONS: dict[str, str] = {
    "api": "see venues.binance_urls and venues.search_seconds",
    "output": "see web.port for the page, and `kronos-live once --out` for files",
    "logging": "see logs.level",
    "validation": "figures are computed once, and tests check them",
}
READ = ("model", "sampling", "data")
ITS_ALONE: Set[Knob] = {*RENAMED, MULTIPLIER, *WITHOUT_MEANING}


@dataclass(frozen=True)
class Translated:
    """Sections in our words; which of our knobs came from which of its keys, spelled `section.key`; and what was left out, with
    the reason for each.
    """

    sections: dict[str, Any]
    spelled: dict[Knob, str]
    unused: dict[str, str]


def is_original(sections: Mapping[str, Any]) -> bool:
    """Whether a file's sections are in the original's form."""
    return any(isinstance(sections.get(section), dict) and key in sections[section] for section, key in ITS_ALONE)


def translate(sections: Mapping[str, Any], ours: Set[Knob], default_horizon: Any, file: Path) -> Translated:
    """The original's sections in our words. `ours` are all our knobs; `default_horizon` (candles) is multiplied where the file
    names none. Values are left as they are: whoever reads settings checks them.

    Raises SettingsError where the file says one thing in both spellings, or a multiplier is none.
    """
    known_sections = {section.partition(".")[0] for section, _ in ours}
    translated: dict[str, Any] = {}
    spelled: dict[Knob, str] = {}
    unused: dict[str, str] = {}
    for section, keys in sections.items():
        if section not in known_sections:
            unused[section] = ITS_SECTIONS.get(section, "there is no such section here")
        elif section not in READ or not isinstance(keys, dict):
            translated[section] = keys
        else:
            translated[section] = _section(section, keys, ours, spelled, unused, file)
    _window_of_multiplier(sections, translated, spelled, unused, default_horizon)
    return Translated(translated, spelled, unused)


def _section(
    section: str,
    keys: Mapping[Any, Any],
    ours: Set[Knob],
    spelled: dict[Knob, str],
    unused: dict[str, str],
    file: Path,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in keys.items():
        knob = RENAMED.get((section, key), (section, key))
        written = f"{section}.{key}"
        if knob == MULTIPLIER:
            continue
        if knob not in ours:
            unused[written] = WITHOUT_MEANING.get(knob, "there is no such knob here")
            continue
        if knob in spelled:
            raise SettingsError(
                f"The configuration file {file} has both {spelled[knob]} and {written}, which are one knob: leave one out."
            )
        spelled[knob] = written
        found[knob[1]] = value
    return found


def _window_of_multiplier(
    sections: Mapping[str, Any],
    translated: dict[str, Any],
    spelled: dict[Knob, str],
    unused: dict[str, str],
    default_horizon: Any,
) -> None:
    """Later versions of the original told the window as a multiple of the horizon."""
    section, key = MULTIPLIER
    data, written = sections.get(section), f"{section}.{key}"
    if not isinstance(data, dict) or key not in data:
        return
    if WINDOW in spelled:
        unused[written] = f"{spelled[WINDOW]} says the window itself"
        return
    multiplier, horizon = data[key], data.get(HORIZON[1], default_horizon)
    if isinstance(multiplier, bool) or not isinstance(multiplier, int | float) or not 0 < multiplier <= 448:
        raise SettingsError(f"{written} is {multiplier!r}, but allowed is a number above 0, to 448.")
    if isinstance(horizon, int):  # what is none is told of as itself
        translated[section][WINDOW[1]] = max(2, round(multiplier * horizon))
        spelled[WINDOW] = f"{written} times {'.'.join(HORIZON)}"
