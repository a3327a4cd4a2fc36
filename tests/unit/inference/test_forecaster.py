"""One forecast from klines to record, on a tiny model with random weights."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from services.inference.checkpoints import LoadedModel, ModelPolicy, load_model
from services.inference.forecaster import Forecaster, Task
from services.inference.path_sampler import PHASES
from services.inference.precisions import precisions_of
from shared.errors import CheckpointError, RequestError
from shared.forecasts import Forecast, Sampling, forecaster_of
from shared.settings import Settings, load_settings
from tests.builders import forecast_request, kline_window
from tests.tiny_models import write_tiny_models
from tests.unit.inference.tiny import native_kernels


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("KRONOS_MODEL__LOCAL_DIR", str(write_tiny_models(tmp_path)))
    monkeypatch.setenv("KRONOS_MODEL__ALLOW_HUB", "false")
    monkeypatch.setenv("KRONOS_MODEL__DTYPE", "float32")
    return load_settings()


def silence(phase: str, done: int, total: int) -> None:
    """Nobody waits for this forecast."""


def test_a_forecast_says_all_that_is_needed_to_make_it_again(settings: Settings) -> None:
    window = kline_window(500)
    request = forecast_request(num_samples=40, horizon=12, history=300)
    made = Forecaster(settings).forecast(Task("f", request, window), silence)
    forecast, paths = made.forecast, made.paths
    assert paths.shape == forecast.paths.shape == (40, 12, 6)
    assert paths.dtype == np.float32
    made_by = forecast.provenance
    assert (made_by.venue, made_by.origin, made_by.seed, made_by.history_used) == ("binance", "live", request.seed, 300)
    assert made_by.snapshot_sha256 == window.content_hash()
    assert (made_by.model.name, made_by.model.source, made_by.model.published) == ("Kronos-small", "local", False)
    assert len(made_by.model.sha256) == len(made_by.model.tokenizer_sha256) == 64
    assert (made_by.device, made_by.dtype, made_by.threads) == ("cpu", "float32", 1)
    assert {"load", "context", *PHASES, "statistics", "baselines", "total"} == set(made_by.timings_s)
    assert forecast.open_times_ms[0] == window.last_close_time_ms
    assert np.allclose(forecast.close.median, np.median(paths[:, :, 3], axis=0))
    assert forecast.upside.of == 40
    assert forecast.upside.value == np.mean(paths[:, -1, 3] > window.last_close)


def test_the_same_request_gives_the_same_paths_whatever_ran_before(settings: Settings) -> None:
    window, request = kline_window(400), forecast_request(num_samples=8, temperature=1.0, top_p=1.0)
    first = Forecaster(settings).forecast(Task("f", request, window), silence).paths
    busy = Forecaster(settings)
    busy.warm_up()
    busy.forecast(Task("other", forecast_request(num_samples=3, seed=99), kline_window(300, seed=4)), silence)
    again = busy.forecast(Task("f", request, window), silence).paths
    assert np.array_equal(first, again)
    other_seed = busy.forecast(Task("f", request.model_copy(update={"seed": 8}), window), silence).paths
    assert not np.array_equal(first, other_seed)


def test_history_and_horizon_that_pass_the_context_are_trimmed_and_the_record_says_so(settings: Settings) -> None:
    request = forecast_request(num_samples=2, horizon=200, history=900)
    forecast = Forecaster(settings).forecast(Task("f", request, kline_window(1000)), silence).forecast
    assert forecast.provenance.history_used == 512 - 200


def test_history_that_is_shorter_than_asked_is_used_and_the_record_says_so(settings: Settings) -> None:
    forecast = (
        Forecaster(settings).forecast(Task("f", forecast_request(num_samples=2), kline_window(100)), silence).forecast
    )
    assert forecast.provenance.history_used == 100


def test_too_little_history_is_refused_with_the_number_that_is_needed(settings: Settings) -> None:
    with pytest.raises(RequestError, match=r"Only 63 candles .* at least 64"):
        Forecaster(settings).forecast(Task("f", forecast_request(), kline_window(63)), silence)


def test_a_horizon_that_leaves_no_history_is_refused_with_the_longest_that_fits(settings: Settings) -> None:
    too_long = forecast_request().model_copy(update={"horizon": 449})
    with pytest.raises(RequestError, match="at most 448"):
        Forecaster(settings).forecast(Task("f", too_long, kline_window()), silence)


def test_a_model_that_a_request_names_is_never_replaced(settings: Settings) -> None:
    named = forecast_request(model="Kronos-base")
    with pytest.raises(CheckpointError, match="Kronos-base cannot be loaded"):
        Forecaster(settings).forecast(Task("f", named, kline_window()), silence)


def test_models_are_loaded_once(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[tuple[str, bool]] = []

    def counted(name: str, policy: ModelPolicy, *, device: str, is_default: bool) -> LoadedModel:
        loaded.append((name, is_default))
        return load_model(name, policy, device=device, is_default=is_default)

    monkeypatch.setattr("services.inference.forecaster.load_model", counted)
    forecaster, window = Forecaster(settings), kline_window()
    by_default, mini = forecast_request(num_samples=1), forecast_request(num_samples=1, model="Kronos-mini")
    small = forecast_request(num_samples=1, model="Kronos-small")
    for request in (by_default, mini, by_default, mini, small, by_default, small):
        forecaster.forecast(Task("f", request, window), silence)
    assert loaded == [("Kronos-small", True), ("Kronos-mini", False)], (
        "the configured one also serves those who name it"
    )


def test_progress_counts_up_to_all_steps(settings: Settings) -> None:
    seen: list[tuple[str, int, int]] = []
    request = forecast_request(num_samples=2, horizon=5)
    Forecaster(settings).forecast(Task("f", request, kline_window()), lambda *step: seen.append(step))
    assert seen[-1] == ("drawing paths", 5, 5)


def test_broken_paths_are_counted_and_kept(settings: Settings) -> None:
    window = kline_window(400)
    nearly_no_volume = window.values.copy()
    nearly_no_volume[:, 4:] = np.random.default_rng(1).exponential(1, (400, 2)) ** 4
    request = forecast_request(num_samples=30, temperature=2.0, top_p=1.0)
    made = Forecaster(settings).forecast(Task("f", request, replace(window, values=nearly_no_volume)), silence)
    forecast, paths = made.forecast, made.paths
    negative = int((paths[:, :, 4] < 0).any(axis=1).sum())
    assert forecast.defective_paths["negative_volume"] == negative


def test_paths_are_drawn_until_the_upside_probability_is_sure_enough(settings: Settings) -> None:
    window, asked = kline_window(400), forecast_request(num_samples=20, horizon=4, target_error=0.08, temperature=2.0)
    made = Forecaster(settings).forecast(Task("f", asked, window), silence)
    upside, count = made.forecast.upside, len(made.paths)
    assert (upside.upper - upside.lower) / 2 <= 0.08
    assert made.forecast.paths.shape == made.paths.shape == (count, 4, 6)
    assert upside.of == count > 20
    plain = forecast_request(num_samples=count, horizon=4, temperature=2.0)
    at_once = Forecaster(settings).forecast(Task("f", plain, window), silence)
    assert np.array_equal(made.paths, at_once.paths)


def test_no_more_paths_are_drawn_than_allowed_however_unsure_they_are(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRONOS_LIMITS__MAX_NUM_SAMPLES", "50")
    request = forecast_request(num_samples=20, horizon=2, target_error=0.001)
    made = Forecaster(load_settings()).forecast(Task("f", request, kline_window(400)), silence)
    assert len(made.paths) == 50


def test_a_panel_is_each_of_its_forecasts_alone(settings: Settings) -> None:
    """Also where one history is shorter, which is then drawn by itself."""
    request = forecast_request(num_samples=8, horizon=6, history=300)
    tasks = [
        Task(f"f{seed}", request.model_copy(update={"seed": seed}), kline_window(count, seed=seed))
        for seed, count in enumerate((400, 350, 100))
    ]
    panel = Forecaster(settings).forecast_panel(tasks, silence)
    assert [made.forecast.id for made in panel] == ["f0", "f1", "f2"]
    assert [made.forecast.provenance.side_by_side for made in panel] == [2, 2, 1]
    for task, made in zip(tasks, panel, strict=True):
        alone = Forecaster(settings).forecast(task, silence)
        assert np.array_equal(made.paths, alone.paths)
        assert made.forecast.close == alone.forecast.close
        assert made.forecast.provenance.snapshot_sha256 == task.window.content_hash()


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_the_record_says_in_which_numbers_was_computed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    if dtype not in precisions_of(torch.device("cpu"), native_kernels()):
        pytest.skip(f"this processor has no instructions for {dtype}")
    monkeypatch.setenv("KRONOS_MODEL__DTYPE", dtype)
    request = forecast_request(num_samples=4, horizon=3)
    coarse = Forecaster(load_settings()).forecast(Task("f", request, kline_window(400)), silence)
    assert coarse.forecast.provenance.dtype == dtype


@pytest.mark.parametrize("kernels", ["native", "torch"])
def test_the_record_says_by_which_kernels(settings: Settings, monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    name = native_kernels().name if kernels == "native" else "torch"
    monkeypatch.setenv("KRONOS_MODEL__KERNELS", kernels)
    task = Task("f", forecast_request(num_samples=4, horizon=3), kline_window(400))
    assert Forecaster(load_settings()).forecast(task, silence).forecast.provenance.kernels == name


def test_ten_thousand_paths_are_drawn_in_groups(settings: Settings) -> None:
    request = forecast_request(num_samples=10_000, horizon=2, history=64)
    made = Forecaster(settings).forecast(Task("f", request, kline_window(100)), silence)
    assert made.paths.shape == (10_000, 2, 6)
    assert made.forecast.upside.of == 10_000


def test_auto_is_what_the_card_says_and_the_usual_where_it_says_nothing(settings: Settings) -> None:
    """The record says what was asked and how it was drawn; the same numbers asked for outright give the same paths."""
    window, asked = kline_window(), forecast_request(num_samples=3, horizon=4, temperature="auto", top_p="auto")
    without_card = Forecaster(settings).forecast(Task("f", asked, window), silence)
    assert without_card.forecast.request.temperature == "auto"
    assert without_card.forecast.sampling == Sampling(temperature=0.6, top_p=0.9, top_k=0)
    card = settings.model.local_dir / settings.model.model_name / "MODEL_CARD.md"
    card.write_text("---\nsampling: {temperature: 1.3, top_p: 0.8}\ntrained_until: 2025-02-01T00:00:00Z\n---\n")
    by_card = Forecaster(settings).forecast(Task("f", asked, window), silence)
    assert by_card.forecast.sampling == Sampling(temperature=1.3, top_p=0.8, top_k=0)
    assert by_card.forecast.provenance.model.trained_until_ms == 1_738_368_000_000
    outright = asked.model_copy(update={"temperature": 1.3, "top_p": 0.8})
    np.testing.assert_array_equal(
        by_card.paths, Forecaster(settings).forecast(Task("f", outright, window), silence).paths
    )
    assert forecaster_of(by_card.forecast) != forecaster_of(without_card.forecast)
    partly = asked.model_copy(update={"temperature": 2.0})
    assert Forecaster(settings).forecast(Task("f", partly, window), silence).forecast.sampling.top_p == 0.8


def test_a_record_of_before_there_was_auto_was_sampled_as_was_asked(settings: Settings) -> None:
    asked = forecast_request(num_samples=2, horizon=4, temperature=0.7, top_p=0.9)
    made = Forecaster(settings).forecast(Task("f", asked, kline_window()), silence).forecast
    stored = made.model_dump(mode="json", exclude={"sampling"})
    assert Forecast.model_validate_json(json.dumps(stored)) == made
