"""`python -m services.inference.evaluation`: a checkpoint beside the baselines, on klines that it never saw."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import click
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from services.inference.checkpoints import BUNDLED, BUNDLED_DIR
from services.inference.engine import pack
from services.inference.evaluation.backtest import (
    Forecaster,
    Origin,
    Score,
    baseline_forecasters,
    find_origins,
    run_backtest,
)
from services.inference.evaluation.model_forecaster import model_forecaster
from services.inference.evaluation.token_entropy import TokenEntropy, token_entropy
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.precisions import choose_kernels, choose_precision
from services.inference.training.kline_files import Stretch, read_stretches
from services.inference.weights import load_kronos, load_tokenizer
from shared.errors import KronosLiveError
from shared.forecasts import BASELINE_NAMES
from shared.klines import Interval
from shared.settings import Dtype

HELP = """Score a checkpoint on past klines: how well it predicts its tokens, and how good its paths are.

\b
  python -m services.inference.evaluation --klines klines/BTCUSDT-1h.csv.gz --from 2025-01-01 --to 2025-06-30

For each file it prints the cross-entropy of both tokens beside the unigram entropy of the same tokens, and a table of
CRPS (1e-4 of the last close, mean over the horizon; lower is better), coverage of the 80 % and 95 % bands and the Brier
score of "up at the end", for the model and for five baselines on the same origins. Without --model-dir it scores the
bundled Kronos-nano. Sampling defaults to temperature 1 and top-p 1, the model's own opinion; sharper sampling narrows
the bands.
"""
MAX_CONTEXT = BUNDLED.max_context
MODEL_ROW = "model"


@dataclass(frozen=True)
class SeriesReport:
    """What was measured on one file. `ratio` is the model's CRPS over that of the best baseline."""

    symbol: str
    origins: int
    tokens: dict[str, TokenEntropy]
    scores: dict[str, Score]
    best_baseline: str
    ratio: float


@click.command(help=HELP)
@click.option("--klines", required=True, multiple=True, type=click.Path(path_type=Path), help="File; may be repeated.")
@click.option("--from", "first_day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="First UTC day forecast.")
@click.option("--to", "last_day", required=True, type=click.DateTime(["%Y-%m-%d"]), help="Last UTC day, included.")
@click.option("--every", default=6, type=click.IntRange(min=1), show_default=True, help="Candles between origins.")
@click.option("--paths", default=200, type=click.IntRange(min=2), show_default=True)
@click.option("--history", default=360, type=click.IntRange(min=64), show_default=True, help="Candles known.")
@click.option("--horizon", default=24, type=click.IntRange(min=1), show_default=True, help="Candles forecast.")
@click.option("--temperature", default=1.0, type=click.FloatRange(min=0, min_open=True), show_default=True)
@click.option("--top-p", default=1.0, type=click.FloatRange(min=0, max=1, min_open=True), show_default=True)
@click.option("--top-k", default=0, type=click.IntRange(min=0), show_default=True, help="0: no limit.")
@click.option("--seed", default=0, type=click.IntRange(min=0), show_default=True)
@click.option("--interval", default="1h", type=click.Choice([i.value for i in Interval]), show_default=True)
@click.option("--model-dir", type=click.Path(path_type=Path), help="Folder of the model; default: the bundled one.")
@click.option("--tokenizer-dir", type=click.Path(path_type=Path), help="Folder of its tokenizer.")
@click.option(
    "--dtype", default="float32", type=click.Choice(get_args(Dtype)), show_default=True, help="As model.dtype."
)
@click.option("--threads", default=2, type=click.IntRange(min=1), show_default=True, help="CPU threads.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout instead of tables.")
def main(
    klines: tuple[Path, ...], model_dir: Path | None, tokenizer_dir: Path | None, as_json: bool, **options: Any
) -> None:
    if options["history"] + options["horizon"] > MAX_CONTEXT:
        raise click.UsageError(
            f"--history {options['history']} and --horizon {options['horizon']} need {MAX_CONTEXT} candles or fewer "
            f"together; shorten one."
        )
    torch.set_num_threads(options["threads"])
    model = load_kronos(model_dir or BUNDLED_DIR / BUNDLED.model.name)
    tokenizer = load_tokenizer(tokenizer_dir or BUNDLED_DIR / BUNDLED.tokenizer.name)
    reports = [_evaluate(file, model, tokenizer, options) for file in klines]
    if as_json:
        settings = {name: str(value) if isinstance(value, datetime) else value for name, value in options.items()}
        click.echo(json.dumps({"settings": settings, "series": [asdict(report) for report in reports]}, indent=2))
    else:
        for report in reports:
            _print(report, Console(width=max(110, Console().width)))


def _evaluate(file: Path, model: Kronos, tokenizer: KronosTokenizer, options: dict[str, Any]) -> SeriesReport:
    stretches = read_stretches(file, Interval(options["interval"]))
    origins = _origins(file, stretches, options)
    forecasters: dict[str, Forecaster] = baseline_forecasters(options["seed"])
    kernels = choose_kernels("auto", torch.device("cpu"))
    precision = choose_precision(options["dtype"], torch.device("cpu"), kernels)
    forecasters[MODEL_ROW] = model_forecaster(
        pack(model, tokenizer, precision, MAX_CONTEXT, kernels),
        paths=options["paths"],
        temperature=options["temperature"],
        top_k=options["top_k"],
        top_p=options["top_p"],
        seed=options["seed"],
    )
    tokens = token_entropy(model, tokenizer, origins)
    console = Console(file=sys.stderr)
    scores = run_backtest(track(origins, stretches[0].symbol, console=console, transient=True), forecasters)
    best = min((name for name in scores if name != MODEL_ROW), key=lambda name: scores[name].crps)
    return SeriesReport(
        stretches[0].symbol, len(origins), tokens, scores, best, scores[MODEL_ROW].crps / scores[best].crps
    )


def _origins(file: Path, stretches: list[Stretch], options: dict[str, Any]) -> list[Origin]:
    interval = Interval(options["interval"])
    from_ms, to_ms = (int(options[day].replace(tzinfo=UTC).timestamp() * 1000) for day in ("first_day", "last_day"))
    every_ms = options["every"] * interval.ms
    origins = list(
        find_origins(stretches, from_ms, to_ms + Interval.D1.ms, every_ms, options["history"], options["horizon"])
    )
    if not origins:
        raise click.UsageError(
            f"'{file}' has no {options['history']} + {options['horizon']} candles without a gap from "
            f"{options['first_day']:%Y-%m-%d} to {options['last_day']:%Y-%m-%d}; choose other days."
        )
    return origins


def _print(report: SeriesReport, console: Console) -> None:
    console.print(f"\n[bold]{report.symbol}[/bold], {report.origins} origins")
    tokens = Table(
        "tokens", "count", "s1 cross-entropy", "s1 unigram", "s2 cross-entropy", "s2 unigram", title_style=""
    )
    for where, entropy in report.tokens.items():
        numbers = (entropy.s1_cross_entropy, entropy.s1_unigram, entropy.s2_cross_entropy, entropy.s2_unigram)
        tokens.add_row(where, f"{entropy.tokens:,}", *(f"{number:.3f}" for number in numbers))
    console.print(tokens)
    table = Table("forecast", "CRPS", "80 % band covers", "95 % band", "interval score 80", "Brier of up")
    for name, score in report.scores.items():
        table.add_row(
            BASELINE_NAMES.get(name, name),
            f"{score.crps:.1f}",
            f"{score.coverage[80]:.3f}",
            f"{score.coverage[95]:.3f}",
            f"{score.interval_score[80]:.1f}",
            f"{score.brier_up:.3f}",
        )
    console.print(table)
    best = BASELINE_NAMES[report.best_baseline]
    console.print(f"The model's CRPS is {report.ratio:.3f} times that of the best baseline ({best}).")


if __name__ == "__main__":
    try:
        main()
    except KronosLiveError as error:
        raise SystemExit(str(error)) from None
