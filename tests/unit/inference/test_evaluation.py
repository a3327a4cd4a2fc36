"""Rolling origins that never look ahead, and the command that scores a checkpoint on them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from services.inference.engine import FLOAT32, pack
from services.inference.evaluation.__main__ import main
from services.inference.evaluation.backtest import Origin, find_origins, run_backtest
from services.inference.evaluation.model_forecaster import model_forecaster
from services.inference.evaluation.token_entropy import token_entropy
from services.inference.model.kronos import Kronos
from services.inference.scoring.distributions import Ensemble
from services.inference.training.checkpoint_folder import write_checkpoint
from shared.forecasts import BASELINE_NAMES
from shared.klines import Interval
from tests.builders import START_MS, kline_values
from tests.unit.inference.test_training_data import stretch, write_klines
from tests.unit.inference.test_training_fit import MODEL, small_tokenizer

HOUR = Interval.H1.ms


def origins(count: int = 200, **overrides: int) -> list[Origin]:
    plan = {"from_ms": START_MS, "until_ms": START_MS + count * HOUR, "every_ms": 6 * HOUR, "history": 64, "horizon": 8}
    return list(find_origins([stretch(count)], **{**plan, **overrides}))


def test_origins_lie_at_their_step_and_know_nothing_of_what_follows() -> None:
    found = origins()
    assert [(origin.ahead_times_ms[0] - START_MS) // HOUR for origin in found] == list(range(66, 193, 6))
    for origin in found:
        assert origin.known_times_ms[-1] + HOUR == origin.ahead_times_ms[0]
        assert (len(origin.known), len(origin.ahead)) == (65, 8)


def test_no_origin_spans_a_gap_or_ends_after_the_last_day() -> None:
    parts = [stretch(80), stretch(80, start_ms=START_MS + 100 * HOUR)]
    found = find_origins(parts, START_MS, START_MS + 175 * HOUR, HOUR, history=64, horizon=8)
    starts = [(origin.ahead_times_ms[0] - START_MS) // HOUR for origin in found]
    assert starts == [*range(65, 73), *range(165, 168)]


def test_the_backtest_prefers_the_forecaster_that_knows() -> None:
    def prophet(origin: Origin) -> Ensemble:
        return Ensemble(np.repeat(origin.ahead[None, :, 3], 40, axis=0))

    def wrong(origin: Origin) -> Ensemble:
        return Ensemble(prophet(origin).paths * 1.01)

    scores = run_backtest(origins(), {"prophet": prophet, "wrong": wrong})
    assert scores["prophet"].crps == 0
    assert scores["prophet"].coverage == {80: 1.0, 95: 1.0}
    assert scores["prophet"].brier_up == 0
    assert scores["wrong"].crps == pytest.approx(100, rel=0.1)
    assert scores["wrong"].coverage == {80: 0.0, 95: 0.0}
    assert len(scores["wrong"].crps_by_step) == 8


def test_a_model_forecasts_from_the_past_alone_and_repeatably() -> None:
    forecast = model_forecaster(
        pack(Kronos(MODEL).eval(), small_tokenizer(), FLOAT32, 512),
        paths=5,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        seed=1,
    )
    origin = origins()[0]
    other_outcome = Origin(origin.number, origin.known, origin.known_times_ms, origin.ahead * 2, origin.ahead_times_ms)
    closes = forecast(origin).paths
    assert closes.shape == (5, 8)
    np.testing.assert_array_equal(closes, forecast(other_outcome).paths)


def test_an_untrained_model_pays_about_the_logarithm_of_the_vocabulary() -> None:
    model = Kronos(MODEL).eval()
    for projection in (model.head.proj_s1, model.head.proj_s2):
        projection.weight.data.zero_()
        projection.bias.data.zero_()
    measured = token_entropy(model, small_tokenizer(), origins())
    assert measured["ahead"].tokens == len(origins()) * 8
    assert measured["window"].tokens == len(origins()) * (64 + 8 - 1)
    for entropy in measured.values():
        assert entropy.s1_cross_entropy == pytest.approx(math.log(8), abs=1e-5)
        assert entropy.s2_cross_entropy == pytest.approx(math.log(8), abs=1e-5)
        assert 0 < entropy.s1_unigram <= math.log(8)


def test_the_command_prints_tokens_and_scores_as_tables_and_as_json(tmp_path: Path) -> None:
    write_checkpoint(Kronos(MODEL), tmp_path / "model")
    write_checkpoint(small_tokenizer(), tmp_path / "tokenizer")
    rows = [
        ",".join([str(START_MS + hour * HOUR), *(f"{value:.6f}" for value in row[:5])])
        for hour, row in enumerate(kline_values(120))
    ]
    file = write_klines(tmp_path / "BTCUSDT-1h.csv.gz", rows)
    options = ["--klines", str(file), "--from", "2025-01-01", "--to", "2025-01-05", "--history", "64", "--horizon", "4"]
    options += ["--paths", "5", "--model-dir", str(tmp_path / "model"), "--tokenizer-dir", str(tmp_path / "tokenizer")]
    options += ["--threads", "1"]
    tables = CliRunner().invoke(main, options)
    assert tables.exit_code == 0, tables.output
    assert "BTCUSDT, 9 origins" in tables.output
    assert "times that of the best baseline" in tables.output
    report = json.loads(CliRunner().invoke(main, [*options, "--json"]).stdout)["series"][0]
    assert set(report["scores"]) == {*BASELINE_NAMES, "model"} - {"garch"}
    assert report["ratio"] == pytest.approx(
        report["scores"]["model"]["crps"] / report["scores"][report["best_baseline"]]["crps"]
    )


def test_the_command_says_when_the_days_hold_nothing_to_score(tmp_path: Path) -> None:
    write_checkpoint(Kronos(MODEL), tmp_path / "model")
    write_checkpoint(small_tokenizer(), tmp_path / "tokenizer")
    file = write_klines(tmp_path / "BTCUSDT-1h.csv.gz", [f"{START_MS},1,1,1,1,1"])
    options = ["--klines", str(file), "--from", "2025-01-01", "--to", "2025-01-05"]
    options += ["--model-dir", str(tmp_path / "model"), "--tokenizer-dir", str(tmp_path / "tokenizer")]
    result = CliRunner().invoke(main, options)
    assert result.exit_code == 2
    assert "has no 360 + 24 candles without a gap from 2025-01-01 to 2025-01-05" in " ".join(result.output.split())
