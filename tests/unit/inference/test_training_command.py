"""`kronos-live train` and `fine-tune`, from files of klines to a checkpoint that the worker loads."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from click.testing import CliRunner, Result
from redis import Redis

from services.cli import main
from services.inference.checkpoint_card import read_card
from services.inference.checkpoints import ModelPolicy, load_model
from services.inference.training.kline_sources import read_sources
from services.inference.training.time_split import split_by_time
from services.inference.training.training_log import LOG_FILE
from services.inference.weights import WEIGHTS_FILE, load_kronos
from shared.errors import KlineError
from shared.kline_store import KlineStore, SeriesStatus
from shared.klines import COLUMNS, Interval, KlineWindow
from tests.builders import START_MS, kline_values, kline_window
from tests.unit.inference.test_training_data import HOUR, stretch
from tests.unit.inference.test_training_fit import MODEL, TOKENIZER

QUICK = [
    *("--window", "40", "--history", "24", "32", "--known", "64", "--horizon", "8", "--gap", "8"),
    *("--batch", "2", "--validate-every", "2", "--threads", "1"),
]
DAYS = ["--until", "2025-01-09", "--validate-until", "2025-01-15"]


@pytest.fixture
def klines(tmp_path: Path) -> Path:
    """Seventeen days of one symbol as Parquet."""
    folder = tmp_path / "klines"
    folder.mkdir()
    return write_parquet(folder / "BTCUSDT-1h.parquet", 400)


def write_parquet(file: Path, count: int) -> Path:
    values = kline_values(count)
    columns = {"open_time": START_MS + HOUR * np.arange(count), **dict(zip(COLUMNS, values.T, strict=True))}
    pyarrow.parquet.write_table(pyarrow.table(columns), file)
    return file


@pytest.fixture
def configs(tmp_path: Path) -> list[str]:
    options = []
    for name, config in (("tokenizer", TOKENIZER), ("model", MODEL)):
        file = tmp_path / f"{name}.json"
        file.write_text(json.dumps(config.to_dict()))
        options += [f"--{name}-config", str(file)]
    return options


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_trained_checkpoint_is_served_and_tuned_further(klines: Path, configs: list[str], tmp_path: Path) -> None:
    out, options = tmp_path / "trained", [*QUICK, *DAYS, "--tokenizer-steps", 4, "--model-steps", 6, "--json"]
    trained = told(run("train", klines.parent, "--out", out, *options, *configs))
    assert trained["model"]["best_validation"] <= trained["model"]["first_validation"]
    assert trained["tokens"]["ahead"]["tokens"] > 0
    policy = ModelPolicy(out, max_context=512, allow_hub=False, hub_timeout_s=1, allow_bundled=False)
    loaded = load_model("Kronos-nano", policy, device="cpu", is_default=True)
    assert (loaded.source, loaded.kronos.config) == ("local", MODEL)
    card = (out / "Kronos-nano" / "MODEL_CARD.md").read_text()
    assert loaded.sha256 in card
    head = read_card(out / "Kronos-nano")
    assert (head.sampling.temperature, head.sampling.top_p) == (1.0, 1.0)
    assert head.trained_until == datetime(2025, 1, 16, tzinfo=UTC), "what chose the weights counts as seen"
    log = [json.loads(line) for line in (out / "Kronos-nano" / LOG_FILE).read_text().splitlines()]
    assert [line["step"] for line in log if "validation" in line] == [0, 2, 4, 6]

    tuned = tmp_path / "tuned"
    command = [
        "fine-tune",
        klines,
        "--from",
        out,
        "--out",
        tuned,
        *QUICK,
        *DAYS,
        "--steps",
        20,
        "--learning-rate",
        5e-3,
    ]
    first = told(run(*command, "--json"))
    assert first["tokenizer"] is None
    assert first["model"]["best_validation"] < first["model"]["first_validation"]
    assert first["model"]["first_validation"] == pytest.approx(trained["model"]["best_validation"])
    tokenizer = Path("Kronos-Tokenizer-nano") / WEIGHTS_FILE
    assert (tuned / tokenizer).read_bytes() == (out / tokenizer).read_bytes()
    written = (tuned / "Kronos-nano" / WEIGHTS_FILE).read_bytes()
    again = run(*command)
    assert again.exit_code == 0, again.output
    assert "KRONOS_MODEL__LOCAL_DIR=" in again.stderr
    assert (tuned / "Kronos-nano" / WEIGHTS_FILE).read_bytes() == written, "a finished run is not trained once more"


def test_low_rank_additions_end_in_weights_of_the_published_layout(klines: Path, tmp_path: Path) -> None:
    """Of the bundled checkpoint, at its own size."""
    options = [*QUICK, *DAYS, "--steps", 2, "--lora-rank", 4, "--out", tmp_path / "out"]
    assert run("fine-tune", klines, *options).exit_code == 0
    load_kronos(tmp_path / "out" / "Kronos-nano")
    assert "fine-tuned from Kronos-nano" in (tmp_path / "out" / "Kronos-nano" / "MODEL_CARD.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--window", "32"], "--history is 24 to 64; allowed is shortest <= longest <= --window (32)."),
        (["--gap", "4"], "--gap is 4; allowed is --horizon (8) or more."),
        (["--until", "2025-01-17"], "to validate on: learn until an earlier day, or give later klines."),
        (["--from", "nowhere"], "--from nowhere is neither a model"),
        (["--device", "cuda:7"], "which this machine does not have"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_sentence(
    klines: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    result = run(
        "fine-tune", klines, "--out", tmp_path / "out", *QUICK, "--history", 24, 64, "--window", 64, *arguments
    )
    assert result.exit_code in {1, 2}
    assert says in result.stderr
    assert "Traceback" not in result.output


def test_other_klines_do_not_go_on_with_a_run(klines: Path, tmp_path: Path) -> None:
    command = ["fine-tune", klines, "--out", tmp_path / "out", *QUICK, *DAYS, "--steps", 2]
    assert run(*command).exit_code == 0
    write_parquet(klines, 399)
    result = run(*command, "--validate-until", "2025-01-14")
    assert result.exit_code == 1
    assert "was begun with given klines" in result.stderr


def test_nothing_scored_in_validation_lies_within_the_gap_after_what_is_learned() -> None:
    until = START_MS + 200 * HOUR
    split = split_by_time(
        [stretch(400)], Interval.H1, until_ms=until, validated_until_ms=START_MS + 390 * HOUR, gap=8, window=40, history=64,
        horizon=8,
    )  # fmt: skip
    assert (len(split.learned), len(split.validated)) == (200 - 40 + 1, 390 - 208 - 8 + 1)
    assert split.validated_from_ms == until + 8 * HOUR


def test_the_store_of_ingest_gives_all_that_its_snapshots_hold(redis: Redis) -> None:
    store, whole = KlineStore(redis, keep=10), kline_window(300)
    for last in (120, 210, 300):  # each snapshot holds the last hundred candles: from 20 on
        kept = store.save(
            replace(whole, open_times_ms=whole.open_times_ms[last - 100 : last], values=whole.values[last - 100 : last])
        )
    say(store, whole, kept)
    (found,) = read_sources(["BTCUSDT"], Interval.H1, lambda: store)
    np.testing.assert_array_equal(found.values, whole.values[20:])


def test_made_up_prices_are_nothing_to_learn_from(redis: Redis) -> None:
    store, window = KlineStore(redis, keep=10), kline_window(100, origin="simulated")
    say(store, window, store.save(window))
    with pytest.raises(KlineError, match="simulated: nothing can be learned from made-up prices"):
        read_sources(["BTCUSDT"], Interval.H1, lambda: store)


def say(store: KlineStore, window: KlineWindow, snapshot_id: str) -> None:
    """That it is the series' newest snapshot."""
    state = SeriesStatus(
        symbol=window.symbol,
        interval=window.interval,
        state="live" if window.origin == "live" else "simulated",
        venue=window.venue,
        origin=window.origin,
        snapshot_id=snapshot_id,
        last_open_time_ms=window.last_open_time_ms,
        checked_at_ms=0,
        next_fetch_at_ms=0,
        problem=None,
        ever_live=True,
    )
    assert store.change_status(window.symbol, window.interval, lambda _: state)


def test_a_source_that_is_neither_a_file_nor_a_series_is_named(redis: Redis) -> None:
    with pytest.raises(KlineError, match="'NOSUCH' is neither a file nor a folder of klines, and no series either"):
        read_sources(["NOSUCH"], Interval.H1, lambda: KlineStore(redis, keep=10))


def test_a_symbol_may_come_once_only(klines: Path, redis: Redis) -> None:
    with pytest.raises(KlineError, match="BTCUSDT comes from"):
        read_sources([str(klines), str(klines.parent)], Interval.H1, lambda: KlineStore(redis, keep=10))


def test_a_model_does_not_go_on_with_the_tokens_of_another_tokenizer(
    klines: Path, configs: list[str], tmp_path: Path
) -> None:
    """From a tokenizer that has learned next to nothing, so that a few steps are sure to change it."""
    base = tmp_path / "base"
    trained = run("train", klines, "--out", base, *QUICK, *DAYS, "--tokenizer-steps", 2, "--model-steps", 2, *configs)
    assert trained.exit_code == 0, trained.output
    command = ["fine-tune", klines, "--from", base, "--out", tmp_path / "out", *QUICK, *DAYS, "--steps", 2]
    assert run(*command).exit_code == 0
    result = run(*command, "--tokenizer-steps", 4)
    assert result.exit_code == 1
    assert "was begun with given klines" in result.stderr


def test_what_the_first_weights_had_seen_stays_seen(klines: Path, tmp_path: Path) -> None:
    """Tuned on January 2025; its base had seen the first half of that year, and the one after that all of it."""
    base = tmp_path / "base"
    assert run("fine-tune", klines, "--out", base, *QUICK, *DAYS, "--steps", 2).exit_code == 0
    assert read_card(base / "Kronos-nano").trained_until == datetime(2025, 7, 1, tzinfo=UTC)
    card = base / "Kronos-nano" / "MODEL_CARD.md"
    card.write_text(card.read_text().replace("2025-07-01T00:00:00Z", "2026-01-01T00:00:00Z"))
    assert (
        run("fine-tune", klines, "--from", base, "--out", tmp_path / "out", *QUICK, *DAYS, "--steps", 2).exit_code == 0
    )
    assert read_card(tmp_path / "out" / "Kronos-nano").trained_until == datetime(2026, 1, 1, tzinfo=UTC)
