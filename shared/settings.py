"""Settings: config/config.yaml, then a profile, then a file of the user's, then the environment, as frozen models.

Read once at an entry point by `load_settings` and handed on from there; nothing else reads the environment. A knob that
is unknown, of the wrong type or out of range raises SettingsError with one line that names it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, get_args

import yaml
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from shared.alert_channels import MOST_CHANNELS, AddressesAsWritten, refuse_what_is_no_address
from shared.alert_rules import (
    LONGEST_COOL_DOWN_S,
    MOST_RULES,
    RULES_IN_WORDS,
    AlertRule,
    RulesAsWritten,
    refuse_twins,
    rule_problem,
)
from shared.errors import SettingsError
from shared.klines import Interval
from shared.logs import warn_before_logs
from shared.original_config import Knob, is_original, translate
from shared.setting_kinds import CommaSeparated, Section, SeriesName, describe_allowed

DEFAULT_CONFIG = Path(__file__).resolve().parent.parent / "config" / "config.yaml"
PROFILES = DEFAULT_CONFIG.parent / "profiles"  # one file each, which holds what differs from the defaults
ENV_PREFIX = "KRONOS_"
ENV_DELIMITER = "__"

# Other variables of ours: the profile, the file, the tests, and what docker-compose.yml alone reads, as do those with its prefix.
NOT_KNOBS = {"KRONOS_PROFILE", "KRONOS_CONFIG", "KRONOS_REQUIRE", "KRONOS_EXTRAS"}
COMPOSE_PREFIX = "KRONOS_COMPOSE_"

SHORTEST_HISTORY = 64  # candles: no model is asked with fewer, and `overflow: trim` always leaves it as many
Overflow = Literal["trim", "slide"]
Dtype = Literal["auto", "float32", "bfloat16", "int8"]
KernelChoice = Literal["auto", "native", "torch"]

ModelName = Literal["Kronos-mini", "Kronos-small", "Kronos-base", "Kronos-nano"]
MODEL_NAMES: tuple[str, ...] = get_args(ModelName)
Symbol = Annotated[
    str, Field(pattern=r"^[A-Z0-9]{2,20}$", description="2 to 20 capital letters and digits, as in BTCUSDT")
]


class Series(NamedTuple):
    """What is ingested and forecast as one: candles of a symbol."""

    symbol: str
    interval: Interval

    def __str__(self) -> str:
        return f"{self.symbol} {self.interval}"


class ModelSettings(Section):
    model_name: ModelName
    local_dir: Path
    max_context: int = Field(ge=128, le=2048)
    device: str = Field(pattern=r"^(cpu|cuda(:\d+)?|mps|auto)$", description="cpu, cuda, cuda:N, mps or auto")
    dtype: Dtype
    kernels: KernelChoice
    overflow: Overflow
    allow_hub: bool
    hub_timeout: float = Field(ge=0.5, le=60)
    allow_bundled: bool


Auto = Literal["auto"]
# auto: what the checkpoint's own card says.
Temperature = Annotated[float, Field(gt=0, le=5)] | Auto
TopP = Annotated[float, Field(gt=0, le=1)] | Auto
TEMPERATURE_IN_WORDS = "a number above 0, to 5, or auto for what the checkpoint's card says"
TOP_P_IN_WORDS = "a number above 0, to 1, or auto for what the checkpoint's card says"


class SamplingSettings(Section):
    temperature: Temperature = Field(description=TEMPERATURE_IN_WORDS)
    top_p: TopP = Field(description=TOP_P_IN_WORDS)
    top_k: int = Field(ge=0, le=1 << 20)
    num_samples: int = Field(ge=1, le=10_000)
    target_error: float = Field(ge=0, lt=0.5)


class DataSettings(Section):
    symbol: Symbol
    interval: Interval
    series: Annotated[tuple[SeriesName, ...], CommaSeparated] = Field(
        max_length=5000, description="at most 5000 pairs of a symbol and an interval, such as ETHUSDT:1h"
    )
    history_window: int = Field(ge=SHORTEST_HISTORY, le=2000)
    forecast_horizon: int = Field(ge=1, le=448)
    volatility_window: int = Field(ge=2, le=448)
    venues: Annotated[tuple[Literal["binance", "okx", "bybit", "recorded"], ...], CommaSeparated] = Field(min_length=1)
    recorded_file: str
    allow_simulated: bool

    @model_validator(mode="after")
    def _recorded_stands_alone(self) -> DataSettings:
        if "recorded" in self.venues and (len(self.venues) > 1 or not self.recorded_file):
            raise ValueError(
                "data.venues: the venue recorded stands alone and needs data.recorded_file to name a CSV file"
            )
        if "recorded" in self.venues and self.series:
            raise ValueError(
                f"data.series names {', '.join(self.series)}, but data.recorded_file holds one series alone: leave it empty"
            )
        return self

    @property
    def all_series(self) -> tuple[Series, ...]:
        """What ingest keeps up, each once: data.symbol and data.interval first."""
        named = (name.split(":") for name in self.series)
        all_of_them = (Series(self.symbol, self.interval), *(Series(symbol, Interval(of)) for symbol, of in named))
        return tuple(dict.fromkeys(all_of_them))


class VenueSettings(Section):
    binance_urls: Annotated[tuple[str, ...], CommaSeparated] = Field(min_length=1)
    okx_url: str
    bybit_url: str
    search_seconds: float = Field(ge=1, le=60)
    settle_seconds: float = Field(ge=0, le=60)
    binance_requests_per_minute: int = Field(ge=1, le=100_000)
    okx_requests_per_minute: int = Field(ge=1, le=100_000)
    bybit_requests_per_minute: int = Field(ge=1, le=100_000)


class LimitSettings(Section):
    max_history: int = Field(ge=SHORTEST_HISTORY, le=2000)
    max_num_samples: int = Field(ge=1, le=10_000)
    max_queued: int = Field(ge=1, le=100_000)
    max_body_bytes: int = Field(ge=1024, le=1 << 20)
    writes_per_minute: int = Field(ge=0, le=100_000)
    reads_per_minute: int = Field(ge=0, le=100_000)


class RedisSettings(Section):
    url: SecretStr  # it may carry a password
    password_file: str
    ca_file: str
    cert_file: str
    key_file: str

    @property
    def encrypted(self) -> bool:
        return self.url.get_secret_value().startswith("rediss://")

    @model_validator(mode="after")
    def _files_are_for_tls(self) -> RedisSettings:
        if bool(self.cert_file) != bool(self.key_file):
            alone, other = ("cert_file", "key_file") if self.cert_file else ("key_file", "cert_file")
            raise ValueError(
                f"redis.{alone} is set without redis.{other}: a certificate goes with its key, set both or neither"
            )
        files = {"ca_file": self.ca_file, "cert_file": self.cert_file}
        if (named := [name for name, file in files.items() if file]) and not self.encrypted:
            raise ValueError(
                f"redis.{named[0]} is set, but redis.url does not begin with rediss://, so nothing would be encrypted: let it "
                f"begin so, or leave the file out"
            )
        return self


QueueName = Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,40}$", description="1 to 40 of a-z, 0-9, _ and -")]


Lane = Literal["light", "heavy"]
LANES: tuple[Lane, ...] = get_args(Lane)
BACKTESTS = "-backtests"  # how the names of their queues end


class QueueSettings(Section):
    """What waits for workers waits in two lanes by its model, each a queue of RQ, so that GPUs can be kept for large ones."""

    name: QueueName
    ingest_name: QueueName
    heavy_models: Annotated[tuple[ModelName, ...], CommaSeparated] = Field(
        description=f"none, one or more of {', '.join(MODEL_NAMES)}"
    )
    job_timeout: int = Field(ge=10, le=86_400)
    retries: int = Field(ge=0, le=10)
    failure_ttl: int = Field(ge=60, le=2_592_000)

    @property
    def lanes(self) -> tuple[Lane, ...]:
        """Those that anything is led to."""
        return LANES if self.heavy_models else ("light",)

    def lane_of(self, model: str) -> Lane:
        """The lane that forecasts of a model wait in."""
        return "heavy" if model in self.heavy_models else "light"

    def worker_command(self, lane: Lane) -> str:
        """What starts a worker that serves a lane, whichever model is configured here."""
        if not self.heavy_models:
            return "kronos-live worker"
        model = next((name for name in MODEL_NAMES if self.lane_of(name) == lane), MODEL_NAMES[0])
        return f"KRONOS_WORKER__SERVES={lane} KRONOS_MODEL__MODEL_NAME={model} kronos-live worker"

    def forecasts_in(self, lane: Lane) -> str:
        """The name of the queue that a lane's forecasts wait in."""
        return self.name if lane == "light" else f"{self.name}-heavy"

    def backtests_in(self, lane: Lane) -> str:
        """The name of the queue of a lane's backtests, which workers take from when no forecast waits."""
        return self.forecasts_in(lane) + BACKTESTS

    @model_validator(mode="after")
    def _ingest_has_a_queue_of_its_own(self) -> QueueSettings:
        taken = [name for lane in LANES for name in (self.forecasts_in(lane), self.backtests_in(lane))]
        if self.ingest_name in taken:
            raise ValueError(
                f"queue.ingest_name is {self.ingest_name}, but allowed is none of {', '.join(taken)}, which forecasts and "
                f"backtests wait in: workers must not take what ingest is to fetch"
            )
        return self


def _each_once(lanes: tuple[Lane, ...]) -> tuple[Lane, ...]:
    return tuple(dict.fromkeys(lanes))


class WorkerSettings(Section):
    serves: Annotated[tuple[Lane, ...], CommaSeparated, AfterValidator(_each_once)] = Field(
        min_length=1,
        max_length=len(LANES),
        description="light, heavy, or both with a comma, the one to go first in front",
    )
    threads: int = Field(ge=0, le=256)
    forecasts_at_once: int = Field(ge=0, le=256)


class CalibrationSettings(Section):
    enabled: bool


class RetentionSettings(Section):
    snapshots_per_series: int = Field(ge=2, le=1_000_000)
    forecasts_per_series: int = Field(ge=1, le=1_000_000)


class WebSettings(Section):
    host: str = Field(min_length=1)
    port: int = Field(ge=0, le=65_535)
    threads: int = Field(ge=1, le=256)
    max_streams: int = Field(ge=0, le=10_000)
    request_seconds: int = Field(ge=1, le=600)
    write_token: SecretStr
    proxies: int = Field(ge=0, le=8)
    public: bool | Auto = Field(
        description="true, false, or auto for whether web.published, or else web.host, is beyond this machine"
    )
    published: str = Field(
        pattern=r"^(([\w.-]+|\[[0-9a-fA-F:.]+\]):)?\d{1,5}$|^$",
        description="nothing, a port, or host:port, as in 127.0.0.1:8000",
    )


BRANCH = r"^[A-Za-z0-9]([A-Za-z0-9._/-]{0,98}[A-Za-z0-9_])?$"
# What git takes for an address, without those forms of it that are options, or that start programs.
REPOSITORY = re.compile(r"(https?|ssh|git|file)://[^\s]+|[\w.+-]+@[\w.-]+:[^\s]+|[\w./~][^:\n]*")


class GitSettings(Section):
    """Where updates of the static site go, each as a commit."""

    enabled: bool
    repository: SecretStr  # it may carry a password
    branch: str = Field(pattern=BRANCH, description="the name of a branch, such as gh-pages")
    push: bool
    author: str = Field(
        pattern=r"^[^<>\n\x00]{1,80} <[^<>\s\x00]{1,120}>$",
        description="a name and an address, as Name <name@example.com>",
    )
    keep_updates: int = Field(ge=0, le=1000)
    allow_own_repository: bool

    @model_validator(mode="after")
    def _addresses_can_be_used(self) -> GitSettings:
        address = self.repository.get_secret_value()
        if address and not REPOSITORY.fullmatch(address):
            raise ValueError(
                "publish.git.repository is set to a value that is not shown, but allowed is an address that begins with "
                "https://, ssh:// or file://, one such as git@example.com:name/site.git, or a path"
            )
        if any(part in self.branch for part in ("..", "//", "/.")) or self.branch.endswith(".lock"):
            raise ValueError(f"publish.git.branch is {self.branch!r}, but git allows no branch of that name")
        if self.push and not address:
            raise ValueError(
                "publish.git.push is true, but publish.git.repository is empty: name where to push, or set publish.git.push to "
                "false"
            )
        return self


class PublishSettings(Section):
    enabled: bool
    folder: Path
    git: GitSettings


class MetricsSettings(Section):
    enabled: bool
    host: str = Field(min_length=1)
    ingest_port: int = Field(ge=0, le=65_535)
    worker_port: int = Field(ge=0, le=65_535)
    publish_port: int = Field(ge=0, le=65_535)
    alerts_port: int = Field(ge=0, le=65_535)


class AlertSettings(Section):
    enabled: bool
    rules: Annotated[tuple[AlertRule, ...], RulesAsWritten] = Field(max_length=MOST_RULES, description=RULES_IN_WORDS)
    holds_for: int = Field(ge=0, le=86_400)
    cool_down: int = Field(ge=0, le=LONGEST_COOL_DOWN_S)
    channels: Annotated[tuple[SecretStr, ...], AddressesAsWritten] = Field(
        max_length=MOST_CHANNELS, description=f"a list of at most {MOST_CHANNELS} addresses of apprise"
    )
    channel_file: str
    page_url: str = Field(
        pattern=r"^(https?://[^\s/][^\s]*)?$", description="an address that begins with http:// or https://, or nothing"
    )

    _no_twins = field_validator("rules", mode="after")(refuse_twins)
    _addresses = field_validator("channels", mode="after")(refuse_what_is_no_address)


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"]
    format: Literal["console", "json", "auto"]


class Settings(BaseSettings):
    """All sections. The defaults live in config/config.yaml and nowhere else."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        enable_decoding=False,  # lists are comma-separated, not JSON
        extra="forbid",
        frozen=True,
        protected_namespaces=(),
    )

    model: ModelSettings
    sampling: SamplingSettings
    data: DataSettings
    venues: VenueSettings
    limits: LimitSettings
    redis: RedisSettings
    queue: QueueSettings
    worker: WorkerSettings
    calibration: CalibrationSettings
    retention: RetentionSettings
    web: WebSettings
    publish: PublishSettings
    metrics: MetricsSettings
    alerts: AlertSettings
    logs: LogSettings

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return env_settings, init_settings  # the files arrive as init values, so the environment wins

    @model_validator(mode="after")
    def _longest_history_fits_a_snapshot(self) -> Settings:
        longest = max(self.data.history_window, self.data.volatility_window + 1)
        if longest > self.limits.max_history:
            raise ValueError(
                f"data.history_window is {self.data.history_window} and data.volatility_window "
                f"{self.data.volatility_window}, but limits.max_history keeps only {self.limits.max_history} candles: "
                f"raise limits.max_history to at least {longest}"
            )
        return self

    @model_validator(mode="after")
    def _horizon_fits_the_context(self) -> Settings:
        longest = longest_horizon(self.model.max_context, self.model.overflow)
        if self.data.forecast_horizon > longest:
            raise ValueError(
                f"data.forecast_horizon is {self.data.forecast_horizon}, but with model.max_context "
                f"{self.model.max_context} and model.overflow {self.model.overflow} allowed is 1 to {longest}"
            )
        return self


def longest_horizon(max_context: int, overflow: Overflow) -> int:
    """In candles. `trim` keeps SHORTEST_HISTORY of the context; with `slide` the decoder sees all of it and no more."""
    return max_context - SHORTEST_HISTORY if overflow == "trim" else max_context


def load_settings(config_file: Path | None = None) -> Settings:
    """Read the defaults, then the profile that KRONOS_PROFILE names, then `config_file` (else the file that KRONOS_CONFIG names),
    then the environment. The user's file may have the original demo's form; what it says that has no meaning here is told in
    a warning.

    Raises SettingsError with one line that names knob, value and what is allowed.
    """
    values = _read_yaml(DEFAULT_CONFIG)
    if profile := _chosen_profile():
        values = _laid_over(values, _read_yaml(profile))
    spelled: dict[Knob, str] = {}
    unused: dict[str, str] = {}
    if chosen := _users_file(config_file):
        theirs = _read_yaml(chosen)
        if is_original(theirs):
            ours = {(section, name) for section, name, _ in knobs()}
            translated = translate(theirs, ours, values["data"]["forecast_horizon"], chosen)
            theirs, spelled, unused = translated.sections, translated.spelled, translated.unused
        values = _laid_over(values, theirs)
    _refuse_unknown_environment(os.environ)
    told_by_environment = {name.upper() for name in os.environ}
    try:
        settings = Settings(**values)
    except ValidationError as error:
        from_file = {knob: name for knob, name in spelled.items() if environment_name(*knob) not in told_by_environment}
        raise SettingsError(_first_problem(error, from_file)) from None
    if unused:
        keys = "; ".join(f"{key}: {why}" for key, why in unused.items())
        warn_before_logs(settings.logs, "config_keys_unused", file=str(chosen), keys=keys)
    return settings


def is_told(section: str, knob: str, config_file: Path | None = None) -> bool:
    """Whether somebody has set a knob, to its default or not: in the environment, or in the file that `load_settings` reads."""
    if environment_name(section, knob) in {name.upper() for name in os.environ}:
        return True
    chosen = _users_file(config_file)
    told = (_read_yaml(chosen) if chosen else {}).get(section)
    return isinstance(told, dict) and knob in told


def profiles() -> list[str]:
    """The names that KRONOS_PROFILE takes."""
    return sorted(file.stem for file in PROFILES.glob("*.yaml"))


def _chosen_profile() -> Path | None:
    name = os.environ.get("KRONOS_PROFILE")
    if not name:
        return None
    if name not in profiles():
        raise SettingsError(f"KRONOS_PROFILE is {name!r}, but allowed is one of {', '.join(profiles())}, or none.")
    return PROFILES / f"{name}.yaml"


def _users_file(config_file: Path | None) -> Path | None:
    return config_file or (Path(named) if (named := os.environ.get("KRONOS_CONFIG")) else None)


def knobs() -> Iterator[tuple[str, str, FieldInfo]]:
    """Every knob as (section, name, field), in the order of the models: what documentation is checked against.

    A section within another one is named with a dot: ("publish.git", "branch", ...).
    """
    for section, field in Settings.model_fields.items():
        yield from _knobs_of(section, field)


def _knobs_of(section: str, field: FieldInfo) -> Iterator[tuple[str, str, FieldInfo]]:
    assert isinstance(field.annotation, type)  # noqa: S101 - every section is a class, which mypy cannot see
    for name, knob in field.annotation.model_fields.items():
        if isinstance(knob.annotation, type) and issubclass(knob.annotation, Section):
            yield from _knobs_of(f"{section}.{name}", knob)
        else:
            yield section, name, knob


def environment_name(section: str, knob: str) -> str:
    return f"{ENV_PREFIX}{section.replace('.', ENV_DELIMITER)}{ENV_DELIMITER}{knob}".upper()


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """What `above` says, and what `below` says where it says nothing: within sections too."""
    both = {**below, **above}
    for name in below.keys() & above.keys():
        if isinstance(below[name], dict) and isinstance(above[name], dict):
            both[name] = _laid_over(below[name], above[name])
    return both


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The configuration file {path} cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where else ""
        raise SettingsError(
            f"The configuration file {path} is not valid YAML{line}; correct it and start again."
        ) from None
    if not isinstance(content, dict | None):
        raise SettingsError(f"The configuration file {path} must hold sections such as 'model:', not {content!r}.")
    if wrong := [key for key in content or {} if not isinstance(key, str)]:
        raise SettingsError(f"The configuration file {path} has {wrong[0]!r} where the name of a section should be.")
    return content or {}


def _refuse_unknown_environment(environment: Mapping[str, str]) -> None:
    """A misspelled name would otherwise be ignored in silence (pydantic-settings looks only for names it knows)."""
    known = {environment_name(section, name) for section, name, _ in knobs()} | NOT_KNOBS
    sections = {section for section, _, _ in knobs()} | Settings.model_fields.keys()
    known |= {
        environment_name(*name.rsplit(".", 1)) if "." in name else f"{ENV_PREFIX}{name}".upper() for name in sections
    }
    # ... of which sections are refused later.
    for name in environment:
        ours = name.upper().startswith(ENV_PREFIX) and not name.upper().startswith(COMPOSE_PREFIX)
        if ours and name.upper() not in known:
            raise SettingsError(f"The environment sets {name}, which is no knob: config/config.yaml lists all of them.")


def _first_problem(error: ValidationError, spelled: Mapping[Knob, str]) -> str:
    """In one sentence; `spelled` are knobs that the user's file names in its own way."""
    problem = error.errors()[0]
    of_rule = rule_problem(problem)
    path = [str(part) for part in problem["loc"]]
    section, name, field = _knob_at(path)
    knob = _spelled_out(path)
    others = {_spelled_out([str(part) for part in other["loc"]]) for other in error.errors()} - {knob}
    more = f" ({len(others)} more {'knob is' if len(others) == 1 else 'knobs are'} wrong as well.)" if others else ""
    if of_rule:
        return f"{of_rule}.{more}"
    if problem["type"] == "extra_forbidden":
        return f"{knob} is no knob: config/config.yaml lists all of them.{more}"
    if problem["type"] == "value_error":
        return f"{problem['ctx']['error']}.{more}"
    variable = f" ({environment_name(section, name)})" if name else ""
    if (theirs := spelled.get((section, name), knob)) != knob:
        knob, variable = theirs, f" ({knob} here)"
    secret = field is not None and SecretStr in (field.annotation, *get_args(field.annotation))
    value = "set to a value that is not shown" if secret else repr(problem["input"])
    allowed = describe_allowed(field) if field else "a section of knobs"
    return f"{knob}{variable} is {value}, but allowed is {allowed}.{more}"


def _spelled_out(path: list[str]) -> str:
    """The knob that a path leads to or into, as it is written: what pydantic adds for each choice of a type is no part of it."""
    section, name, field = _knob_at(path)
    return f"{section}.{name}" if field else ".".join(path) or "the configuration"


def _knob_at(path: list[str]) -> tuple[str, str, FieldInfo | None]:
    """Section, name and field of the knob that a path through the settings leads to; no field where that is a section."""
    for section, name, field in knobs():
        whole = [*section.split("."), name]
        if path[: len(whole)] == whole:
            return section, name, field
    return ".".join(path[:-1]), path[-1] if len(path) > 1 else "", None
