"""What a series' scored forecasts taught: plain values. How it is learned and applied is for inference."""

from __future__ import annotations

from pydantic import Field

from shared.contract import Contract

FEWEST = 30  # scored forecasts before anything is recalibrated


class BandFactors(Contract):
    level: int = Field(description="percent")
    factors: list[float] = Field(description="half width of the band at each step, in units of spread; (horizon,)")


class BetaMap(Contract):
    """A probability p becomes 1 / (1 + exp(-(a ln p - b ln(1 - p) + c))); a and b are at least 0, so order is kept."""

    a: float
    b: float
    c: float
    learned_from: int = Field(description="scored forecasts")


class SeriesCalibration(Contract):
    """What was learned from the forecasts of one series by one forecaster: one model, with one way of sampling."""

    scored: int = Field(description="scored forecasts that there were")
    from_backtest: int = Field(default=0, description="those of them that a backtest made, while the live ones are few")
    bands: list[BandFactors]
    upside: BetaMap | None
    volatility_amplification: BetaMap | None
