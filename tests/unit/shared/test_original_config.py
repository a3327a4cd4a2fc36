"""A configuration file of the system that this one replaces, read as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import load_settings

# In the form of the original's file, with values that are not our defaults.
ORIGINAL = """
model:
  model_name: Kronos-base
  tokenizer_name: Kronos-Tokenizer-base
  model_path: /srv/kronos
  max_context: 256
  device: cuda
sampling:
  temperature: 0.7
  top_p: 0.8
  num_samples: 12
  volatility_temperature_multiplier: 1.0
  random_seed: 42
  enable_deterministic: true
data:
  symbol: ETHUSDT
  timeframe: 4h
  history_window: 200
  forecast_horizon: 8
  volatility_window: 30
  cache_enabled: true
  cache_max_age_hours: 1
  cache_dir: data
  update_mode: auto
api: {binance_base_url: "https://api.binance.com", request_timeout: 30}
output: {chart_filename: prediction_chart.png, auto_commit: true}
logging: {level: INFO}
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that KRONOS_CONFIG names."""
    path = tmp_path / "config.yaml"
    path.write_text(ORIGINAL)
    monkeypatch.setenv("KRONOS_CONFIG", str(path))
    return path


def rewrite(file: Path, old: str, new: str) -> None:
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


def test_model_sampling_and_data_are_read_as_they_are(file: Path) -> None:
    settings = load_settings()
    model, sampling, data = settings.model, settings.sampling, settings.data
    assert (model.model_name, model.local_dir, model.max_context, model.device) == (
        "Kronos-base",
        Path("/srv/kronos"),
        256,
        "cuda",
    )
    assert (sampling.temperature, sampling.top_p, sampling.num_samples) == (0.7, 0.8, 12)
    assert (data.symbol, data.interval, data.history_window) == ("ETHUSDT", "4h", 200)
    assert (data.forecast_horizon, data.volatility_window) == (8, 30)


def test_what_has_no_meaning_here_is_named_in_one_warning(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_settings()
    told = capsys.readouterr()
    assert told.out == ""
    warning = json.loads(told.err)
    assert (warning["event"], warning["level"], warning["file"]) == ("config_keys_unused", "warning", str(file))
    named = [part.split(": ")[0] for part in warning["keys"].split("; ")]
    assert named == [
        "model.tokenizer_name",
        "sampling.volatility_temperature_multiplier",
        "sampling.random_seed",
        "sampling.enable_deterministic",
        "data.cache_enabled",
        "data.cache_max_age_hours",
        "data.cache_dir",
        "data.update_mode",
        "api",
        "output",
        "logging",
    ]


def test_a_misspelled_key_is_named_as_well(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(file, "num_samples: 12", "num_sampels: 12")
    assert load_settings().sampling.num_samples == 30
    assert "sampling.num_sampels: there is no such knob here" in capsys.readouterr().err


def test_the_window_may_be_told_as_a_multiple_of_the_horizon(file: Path) -> None:
    rewrite(file, "volatility_window: 30", "volatility_window_multiplier: 1.5")
    assert load_settings().data.volatility_window == 12
    rewrite(file, "  forecast_horizon: 8\n", "")
    assert load_settings().data.volatility_window == 36


def test_sections_of_ours_may_stand_beside(file: Path) -> None:
    file.write_text(ORIGINAL + "web: {port: 8010}\npublish: {git: {branch: pages}}\n")
    settings = load_settings()
    assert (settings.web.port, settings.publish.git.branch, settings.data.symbol) == (8010, "pages", "ETHUSDT")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "timeframe: 4h",
            "timeframe: 7m",
            r"^data\.timeframe \(data\.interval here\) is '7m', but allowed is one of 1m",
        ),
        ("num_samples: 12", "num_samples: 0", r"^sampling\.num_samples .* is 0, but allowed is .* from 1 to 10000"),
        ("model_name: Kronos-base", "model_name: GPT", r"^model\.model_name .* is 'GPT'"),
        ("model_path: /srv/kronos", "model_path: [1]", r"^model\.model_path \(model\.local_dir here\) is \[1\]"),
        ("timeframe: 4h", "timeframe: 4h\n  interval: 1h", r"has both data\.timeframe and data\.interval"),
        (
            "volatility_window: 30",
            "volatility_window_multiplier: much",
            r"^data\.volatility_window_multiplier is 'much', but allowed is a number above 0, to 448",
        ),
        (
            "volatility_window: 30",
            "volatility_window_multiplier: 100",
            r"^data\.volatility_window_multiplier times data\.forecast_horizon \(data\.volatility_window here\) is 800",
        ),
    ],
)
def test_a_wrong_value_is_told_in_the_originals_spelling(file: Path, old: str, new: str, expected: str) -> None:
    rewrite(file, old, new)
    with pytest.raises(SettingsError, match=expected) as caught:
        load_settings()
    assert "\n" not in str(caught.value)


def test_the_environment_wins_and_is_told_in_its_own_spelling(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_DATA__INTERVAL", "1d")
    assert load_settings().data.interval == "1d"
    monkeypatch.setenv("KRONOS_DATA__INTERVAL", "7m")
    with pytest.raises(SettingsError, match=r"^data\.interval \(KRONOS_DATA__INTERVAL\) is '7m'"):
        load_settings()


def test_a_file_of_our_own_form_is_held_to_it(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{data: {interval: 4h}, logging: {level: INFO}}")
    with pytest.raises(SettingsError, match="logging is no knob"):
        load_settings(file)
