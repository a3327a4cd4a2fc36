"""What the form for a new forecast starts with, and how far its fields may go: as configured. Knows no HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from shared.forecasts import LONGEST_HORIZON
from shared.klines import Interval
from shared.settings import MODEL_NAMES, SHORTEST_HISTORY, Settings, Temperature, TopP, longest_horizon


@dataclass(frozen=True)
class AskingForm:
    horizon: int
    longest_horizon: int
    history: int
    shortest_history: int
    longest_history: int
    paths: int
    most_paths: int
    temperature: Temperature
    top_p: TopP
    model: str
    needs_token: bool
    intervals: tuple[str, ...] = tuple(Interval)
    models: tuple[str, ...] = MODEL_NAMES


def asking_form(settings: Settings) -> AskingForm:
    data, sampling, limits, model = settings.data, settings.sampling, settings.limits, settings.model
    return AskingForm(
        horizon=data.forecast_horizon,
        longest_horizon=min(LONGEST_HORIZON, longest_horizon(model.max_context, model.overflow)),
        history=data.history_window,
        shortest_history=SHORTEST_HISTORY,
        longest_history=limits.max_history,
        paths=sampling.num_samples,
        most_paths=limits.max_num_samples,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        model=model.model_name,
        needs_token=bool(settings.web.write_token.get_secret_value()),
    )
