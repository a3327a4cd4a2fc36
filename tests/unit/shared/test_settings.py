"""Settings: defaults as delivered, the environment above the file, and one line for whatever is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import SettingsError
from shared.settings import is_told, load_settings


def test_the_defaults_are_those_of_the_original_demo() -> None:
    settings = load_settings()
    assert (settings.model.model_name, settings.model.max_context, settings.model.device) == (
        "Kronos-small",
        512,
        "cpu",
    )
    assert settings.model.local_dir == Path("../Kronos_model")
    sampling = settings.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.num_samples) == ("auto", "auto", 0, 30)
    data = settings.data
    assert (data.symbol, data.interval, data.history_window) == ("BTCUSDT", "1h", 360)
    assert (data.forecast_horizon, data.volatility_window) == (24, 24)


def test_the_environment_wins_over_the_users_file_and_that_over_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("data: {symbol: ETHUSDT, interval: 4h}\n")
    monkeypatch.setenv("KRONOS_CONFIG", str(file))
    monkeypatch.setenv("KRONOS_DATA__SYMBOL", "SOLUSDT")
    settings = load_settings()
    assert (settings.data.symbol, settings.data.interval, settings.data.history_window) == ("SOLUSDT", "4h", 360)


@pytest.mark.parametrize(
    ("profile", "model", "paths", "history"),
    [("development", "Kronos-small", 10, 180), ("production", "Kronos-base", 30, 360)],
)
def test_a_profile_has_the_settings_that_the_original_recommends(
    monkeypatch: pytest.MonkeyPatch, profile: str, model: str, paths: int, history: int
) -> None:
    monkeypatch.setenv("KRONOS_PROFILE", profile)
    settings = load_settings()
    assert (settings.model.model_name, settings.sampling.num_samples) == (model, paths)
    assert settings.data.history_window == history
    assert settings.data.symbol == "BTCUSDT"


def test_a_profile_goes_before_the_defaults_a_file_before_it_and_the_environment_before_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("{model: {model_name: Kronos-mini}, sampling: {num_samples: 20}}\n")
    monkeypatch.setenv("KRONOS_PROFILE", "development")
    monkeypatch.setenv("KRONOS_CONFIG", str(file))
    monkeypatch.setenv("KRONOS_MODEL__MODEL_NAME", "Kronos-nano")
    settings = load_settings()
    assert settings.model.model_name == "Kronos-nano"
    assert (settings.sampling.num_samples, settings.data.history_window) == (20, 180)


def test_an_unknown_profile_is_told_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_PROFILE", "../config")
    with pytest.raises(
        SettingsError, match=r"^KRONOS_PROFILE is '\.\./config', .* one of development, production, or none\.$"
    ):
        load_settings()


def test_no_profile_is_the_same_as_an_empty_one(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_settings()
    monkeypatch.setenv("KRONOS_PROFILE", "")  # as .env files leave it
    assert load_settings() == plain


def test_a_knob_is_told_by_a_file_or_the_environment_also_where_that_is_its_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_told("redis", "url")
    file = tmp_path / "mine.yaml"
    file.write_text("redis: {url: 'redis://127.0.0.1:6379/0'}\n")
    assert is_told("redis", "url", file)
    assert not is_told("redis", "ca_file", file)
    monkeypatch.setenv("KRONOS_REDIS__URL", "redis://127.0.0.1:6379/0")
    assert is_told("redis", "url")


def test_a_section_within_another_is_laid_over_knob_by_knob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("publish: {git: {branch: site, keep_updates: 5}}\n")
    monkeypatch.setenv("KRONOS_PUBLISH__GIT__BRANCH", "pages")
    publish = load_settings(file).publish
    assert (publish.enabled, publish.git.enabled, publish.git.branch, publish.git.keep_updates) == (
        False,
        False,
        "pages",
        5,
    )


@pytest.mark.parametrize(
    "address",
    ["https://me:secret@example.com/a.git", "git@example.com:me/a.git", "../site.git", "/srv/a b.git", "ssh://h/a"],
)
def test_a_repository_is_an_address_as_git_takes_it_and_never_shown(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("KRONOS_PUBLISH__GIT__REPOSITORY", address)
    git = load_settings().publish.git
    assert git.repository.get_secret_value() == address
    assert address not in repr(git)


def test_a_list_is_written_with_commas_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_DATA__VENUES", "okx, bybit")
    assert load_settings().data.venues == ("okx", "bybit")


def test_several_series_are_kept_up_each_once_and_the_default_one_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [str(one) for one in load_settings().data.all_series] == ["BTCUSDT 1h"]
    monkeypatch.setenv("KRONOS_DATA__SERIES", "ETHUSDT:1h, BTCUSDT:1h, BTCUSDT:4h, ETHUSDT:1h")
    assert [str(one) for one in load_settings().data.all_series] == ["BTCUSDT 1h", "ETHUSDT 1h", "BTCUSDT 4h"]


def test_a_recording_is_one_series_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_DATA__VENUES", "recorded")
    monkeypatch.setenv("KRONOS_DATA__RECORDED_FILE", "klines.csv")
    monkeypatch.setenv("KRONOS_DATA__SERIES", "ETHUSDT:1h")
    with pytest.raises(SettingsError, match=r"data\.series names ETHUSDT:1h, but data\.recorded_file holds one series"):
        load_settings()


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("KRONOS_DATA__FORECAST_HORIZON", "0", ("data.forecast_horizon", "'0'", "from 1 to 448")),
        ("KRONOS_DATA__FORECAST_HORIZON", "soon", ("data.forecast_horizon", "'soon'", "from 1 to 448")),
        ("KRONOS_SAMPLING__TEMPERATURE", "-1", ("sampling.temperature", "'-1'", "above 0, to 5")),
        ("KRONOS_SAMPLING__TEMPERATURE", "nan", ("sampling.temperature", "nan", "above 0, to 5")),
        ("KRONOS_MODEL__MODEL_NAME", "GPT", ("model.model_name", "'GPT'", "Kronos-base")),
        ("KRONOS_MODEL__DEVICE", "gpu", ("model.device", "'gpu'", "cuda:N")),
        ("KRONOS_DATA__INTERVAL", "7m", ("data.interval", "'7m'", "15m")),
        ("KRONOS_DATA__SERIES", "ETHUSDT", ("data.series", "'ETHUSDT'", "ETHUSDT:1h")),
        ("KRONOS_DATA__SERIES", "ETHUSDT:7m", ("data.series", "'ETHUSDT:7m'", "ETHUSDT:1h")),
        ("KRONOS_DATA__VENUES", "kraken", ("data.venues", "'kraken'", "bybit")),
        ("KRONOS_DATA__VENUES", "recorded", ("recorded", "data.recorded_file")),
        ("KRONOS_DATA__HISTORY_WINDOW", "1500", ("data.history_window", "1500", "limits.max_history")),
        ("KRONOS_DATA__SYMBL", "BTCUSDT", ("KRONOS_DATA__SYMBL", "no knob")),
        ("KRONOS_DATTA__SYMBOL", "BTCUSDT", ("KRONOS_DATTA__SYMBOL", "no knob")),
        ("KRONOS_MODEL_DEVICE", "cuda", ("KRONOS_MODEL_DEVICE", "no knob")),
        ("kronos_model__devcie", "cpu", ("kronos_model__devcie", "no knob")),
        ("KRONOS_DATA", "BTCUSDT", ("data", "a section of knobs")),
        ("KRONOS_PUBLISH", "127.0.0.1:8000", ("publish", "a section of knobs")),
        ("KRONOS_PUBLISH__GIT", "yes", ("publish.git", "a section of knobs")),
        ("KRONOS_PUBLISH__GIT__BRNCH", "site", ("KRONOS_PUBLISH__GIT__BRNCH", "no knob")),
        (
            "KRONOS_PUBLISH__GIT__KEEP_UPDATES",
            "-1",
            ("publish.git.keep_updates", "GIT__KEEP_UPDATES", "from 0 to 1000"),
        ),
        ("KRONOS_PUBLISH__GIT__BRANCH", "--force", ("publish.git.branch", "'--force'", "gh-pages")),
        ("KRONOS_PUBLISH__GIT__BRANCH", "a..b", ("publish.git.branch", "'a..b'")),
        ("KRONOS_PUBLISH__GIT__AUTHOR", "somebody", ("publish.git.author", "Name <name@example.com>")),
        ("KRONOS_PUBLISH__GIT__REPOSITORY", "--upload-pack=x", ("publish.git.repository", "not shown", "https://")),
        ("KRONOS_PUBLISH__GIT__REPOSITORY", "ext::sh -c x", ("publish.git.repository", "not shown", "https://")),
        ("KRONOS_PUBLISH__GIT__PUSH", "true", ("publish.git.push", "publish.git.repository", "is empty")),
    ],
)
def test_a_wrong_knob_is_named_in_one_line_with_its_value_and_what_is_allowed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert "\n" not in str(caught.value)
    for part in expected:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("model: {colour: red}", "model.colour is no knob"),
        ("fruit: {apple: 1}", "fruit is no knob"),
        ("model: [", "not valid YAML"),
        ("just words", "must hold sections"),
        ("1: {a: b}", "the name of a section"),
        ("publish: {git: {colour: red}}", "publish.git.colour is no knob"),
        ("publish: {git: [1]}", "publish.git .*a section of knobs"),
        ("{model: {max_context: 128}, data: {forecast_horizon: 65}}", "forecast_horizon is 65, .* allowed is 1 to 64"),
    ],
)
def test_a_wrong_file_is_told_in_one_line(tmp_path: Path, content: str, expected: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(SettingsError, match=expected) as caught:
        load_settings(file)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml cannot be read"):
        load_settings(tmp_path / "absent.yaml")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_WEB__WRITE_TOKEN", "open-sesame")
    assert "open-sesame" not in repr(load_settings())


@pytest.mark.parametrize(
    ("url", "knob", "said"),
    [
        ("redis://127.0.0.1:6379/0", "CA_FILE", r"redis\.ca_file is set, but redis\.url does not begin with rediss://"),
        ("rediss://127.0.0.1:6379/0", "CERT_FILE", r"redis\.cert_file is set without redis\.key_file"),
        ("rediss://127.0.0.1:6379/0", "KEY_FILE", r"redis\.key_file is set without redis\.cert_file"),
    ],
)
def test_files_for_tls_that_would_be_of_no_use_are_refused(
    monkeypatch: pytest.MonkeyPatch, url: str, knob: str, said: str
) -> None:
    monkeypatch.setenv("KRONOS_REDIS__URL", url)
    monkeypatch.setenv(f"KRONOS_REDIS__{knob}", "some.pem")
    with pytest.raises(SettingsError, match=said):
        load_settings()


def test_a_knob_of_several_types_is_named_as_it_is_written_and_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRONOS_SAMPLING__TEMPERATURE", "9")
    with pytest.raises(SettingsError) as caught:
        load_settings()
    assert str(caught.value).startswith("sampling.temperature (KRONOS_SAMPLING__TEMPERATURE) is '9', but allowed is")
    assert "more" not in str(caught.value)
    monkeypatch.setenv("KRONOS_QUEUE__RETRIES", "-1")
    with pytest.raises(SettingsError, match=r"\(1 more knob is wrong as well\.\)"):
        load_settings()
