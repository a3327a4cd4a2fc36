"""What the options of `kronos-live train` and `fine-tune` come to: klines parted by time, where they go, and recipes."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.cli.common import stores
from services.cli.training_progress import say
from shared.errors import RequestError
from shared.klines import Interval, utc
from shared.settings import MODEL_NAMES, load_settings


def base_of(base: str) -> tuple[str, tuple[Path, Path]]:
    """A model's name -> itself and its folders; a folder that holds one and its tokenizer likewise."""
    from services.inference.checkpoints import find_folders, known_model, model_policy

    if base in MODEL_NAMES:
        return base, find_folders(base, model_policy(load_settings().model))
    held = [name for name in MODEL_NAMES if (Path(base) / name).is_dir()]
    if len(held) != 1:
        raise RequestError(
            f"--from {base} is neither a model ({', '.join(MODEL_NAMES)}) nor a folder that holds one of them and its tokenizer."
        )
    return held[0], (Path(base) / held[0], Path(base) / known_model(held[0]).tokenizer.name)


def setting_of(name: str, sampling: Any, seen_until_ms: int, options: dict[str, Any]) -> tuple[Any, Any]:
    """What is learned from and where it goes; and the klines themselves."""
    import torch

    from services.inference.checkpoints import known_model, resolve_device
    from services.inference.processors import cores_available
    from services.inference.training.kline_sources import read_sources
    from services.inference.training.time_split import share_of_time, split_by_time
    from services.inference.training.train import Setting

    interval, (shortest, longest) = Interval(options["interval"]), options["history"]
    if not shortest <= longest <= options["window"]:
        raise RequestError(
            f"--history is {shortest} to {longest}; allowed is shortest <= longest <= --window ({options['window']})."
        )
    if options["gap"] < options["horizon"]:
        raise RequestError(f"--gap is {options['gap']}; allowed is --horizon ({options['horizon']}) or more.")
    stretches = read_sources(options["sources"], interval, lambda: stores(load_settings())[0])
    last = max(int(stretch.open_times_ms[-1]) for stretch in stretches) + interval.ms
    split = split_by_time(
        stretches,
        interval,
        until_ms=end_of_day(options["until"]) if options["until"] else share_of_time(stretches, 0.9, interval),
        validated_until_ms=end_of_day(options["validate_until"]) if options["validate_until"] else last,
        gap=options["gap"],
        window=options["window"],
        history=options["known"],
        horizon=options["horizon"],
    )
    torch.set_num_threads(options["threads"] or cores_available())
    setting = Setting(
        split,
        (shortest, longest),
        options["known"],
        options["out"],
        name,
        known_model(name).tokenizer.name,
        sampling,
        seen_until_ms,
        resolve_device(options["device"]),
        options["compiled"],
    )
    say(
        f"{len({stretch.symbol for stretch in stretches})} series, {sum(map(len, stretches)):,} candles. Learned from: "
        f"{len(split.learned):,} windows until {utc(split.until_ms)}. Validated on: {len(split.validated):,} windows, from "
        f"{utc(split.validated_from_ms)} to {utc(split.validated_until_ms)}."
    )
    return setting, stretches


def recipe_of(setting: Any, options: dict[str, Any], steps: int, given: str) -> Any:
    from services.inference.training.recipe import Recipe

    precision = options["precision"]
    return Recipe(
        steps=steps,
        batch=options["batch"],
        learning_rate=options["learning_rate"],
        seed=options["seed"],
        bfloat16=precision == "bfloat16" or (precision == "auto" and setting.device.type == "cuda"),
        validate_every=options["validate_every"],
        patience=options["patience"],
        mirrored=options["mirrored"],
        muon=not given if options["muon"] is None else options["muon"],  # what it gains was measured on new weights
        given=f"klines {setting.split.digest()} {given}".strip(),
    )


def end_of_day(day: datetime) -> int:
    """The moment in UTC ms at which it is over."""
    return int(day.replace(tzinfo=UTC).timestamp() * 1000) + Interval.D1.ms
