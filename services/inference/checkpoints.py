"""A model's name -> verified modules on a device, and a record of exactly which weights they are.

The order: a local folder; else, for published ones, the Hugging Face hub at a pinned revision, its files checked against
the published sha256 before they are used; else, for the configured default model only and if that is allowed, the bundled
checkpoint.
A model that a request names is never replaced. Whatever is found but wrong is an error, not a reason to look further.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from services.inference.checkpoint_card import Card, read_card
from services.inference.hub import HubError, HubFolder, fetch, find_cached, look_up
from services.inference.model.kronos import Kronos
from services.inference.model.tokenizer import KronosTokenizer
from services.inference.weights import WEIGHTS_FILE, check_sha256, load_kronos, load_tokenizer, sha256_of
from shared.errors import CheckpointError, SettingsError, UnknownModelError
from shared.settings import ModelSettings

HUB_OWNER = "NeoQuasar"
BUNDLED_DIR = Path(__file__).parent / "bundled"
BUNDLED_MODEL = "Kronos-nano"


@dataclass(frozen=True)
class Published:
    """A published checkpoint. Where its authors pin no commit the revision is `main`, and the sha256 alone pins it."""

    name: str
    sha256: str
    revision: str = "main"


@dataclass(frozen=True)
class KnownModel:
    """A model, the tokenizer that it was trained with, and the longest window that it can read."""

    model: Published
    tokenizer: Published
    max_context: int


_TOKENIZER_BASE = Published(
    "Kronos-Tokenizer-base",
    sha256="59d85f6af76a2c3b8240ea06cb21db4213b4eeca053f246b23e29cf832fc6bee",
    revision="0e0117387f39004a9016484a186a908917e22426",
)
_TOKENIZER_2K = Published(
    "Kronos-Tokenizer-2k", sha256="b97ec46b3b72160509e289183eaf7bdf5f0dac5bb9b49522f6d46638a99a8717"
)
PUBLISHED_MODELS = {
    known.model.name: known
    for known in (
        KnownModel(
            Published("Kronos-mini", sha256="a7d5f37e2e9fbd9891f7d7d4f72574512dd1f704fee14223e0a8cd0fbf54197c"),
            _TOKENIZER_2K,
            max_context=2048,
        ),
        KnownModel(
            Published(
                "Kronos-small",
                sha256="b082dfcbd8e8c142a725c8bbb99781802f38fec81210e13479effb32b3c3e020",
                revision="901c26c1332695a2a8f243eb2f37243a37bea320",
            ),
            _TOKENIZER_BASE,
            max_context=512,
        ),
        KnownModel(
            Published("Kronos-base", sha256="abff193acab6db1a0368e9773e75799d11403b6d054ee6d5f0a11aeabc5f4b83"),
            _TOKENIZER_BASE,
            max_context=512,
        ),
    )
}
# No sha256: whoever trains another one commits other files, and the repository itself says which they are.
BUNDLED = KnownModel(
    Published(BUNDLED_MODEL, sha256=""), Published("Kronos-Tokenizer-nano", sha256=""), max_context=512
)


@dataclass(frozen=True)
class ModelPolicy:
    """Where models may come from: the settings' [model] section, as far as loading is concerned."""

    local_dir: Path
    max_context: int
    allow_hub: bool
    hub_timeout_s: float
    allow_bundled: bool


def model_policy(settings: ModelSettings) -> ModelPolicy:
    return ModelPolicy(
        local_dir=settings.local_dir,
        max_context=settings.max_context,
        allow_hub=settings.allow_hub,
        hub_timeout_s=settings.hub_timeout,
        allow_bundled=settings.allow_bundled,
    )


@dataclass(frozen=True, kw_only=True)
class ModelDescription:
    """Exactly which weights, and where they came from."""

    name: str
    tokenizer_name: str
    source: Literal["local", "hub", "bundled"]
    revision: str | None  # the hub's commit
    sha256: str
    tokenizer_sha256: str
    published: bool  # both files are, byte for byte, the published ones
    max_context: int  # what the model can read and the settings allow
    device: torch.device
    card: Card
    stands_in_for: str | None = None  # the configured model that could not be had
    why: str | None = None  # and the reason


@dataclass(frozen=True, kw_only=True)
class LoadedModel(ModelDescription):
    """Its modules, whose tensors are those of the mapped files."""

    kronos: Kronos
    tokenizer: KronosTokenizer


@dataclass(frozen=True)
class _Found:
    """Two folders, where they were found, and in place of which model, if any, and why."""

    model: Path
    tokenizer: Path
    source: Literal["local", "hub", "bundled"]
    revision: str | None = None
    stands_in_for: str | None = None
    why: str | None = None


def load_model(name: str, policy: ModelPolicy, *, device: str, is_default: bool) -> LoadedModel:
    """Load the model `name`; `is_default` tells that the configuration chose it, not a request.

    Raises UnknownModelError, CheckpointError (missing, wrong or damaged files) or SettingsError (no such device).
    """
    where = resolve_device(device)
    found = _find(name, policy, is_default=is_default)
    return _load(BUNDLED if found.source == "bundled" else known_model(name), found, policy, where)


def known_model(name: str) -> KnownModel:
    """Raises UnknownModelError."""
    known = {**PUBLISHED_MODELS, BUNDLED_MODEL: BUNDLED}
    if name not in known:
        raise UnknownModelError(f"The model {name!r} is not known; choose one of {', '.join(known)}.", field="model")
    return known[name]


def find_folders(name: str, policy: ModelPolicy) -> tuple[Path, Path]:
    """Where the checkpoint `name` and its tokenizer lie, as `load_model` would find them; no other stands in for it."""
    found = _find(name, policy, is_default=False)
    return found.model, found.tokenizer


def weights_here(name: str, local_dir: Path) -> tuple[str, str]:
    """sha256 of the weights that the model `name` and its tokenizer have on this machine, without asking the hub: of a
    folder, of the bundled files, or as published. Raises UnknownModelError, CheckpointError.
    """
    known = known_model(name)
    found = _find_local(known, local_dir) or (_bundled() if known is BUNDLED else None)
    return _hashes(found) if found else (known.model.sha256, known.tokenizer.sha256)


def _hashes(found: _Found) -> tuple[str, str]:
    return sha256_of(found.model / WEIGHTS_FILE), sha256_of(found.tokenizer / WEIGHTS_FILE)


def to_be_downloaded(name: str, policy: ModelPolicy) -> bool:
    """Whether `load_model` would download the model, or its tokenizer, from the hub, which is asked whether it has them.

    False where they are here, or cannot be had from the hub: then `load_model` says so in little time. Raises
    UnknownModelError.
    """
    known = known_model(name)
    if known is BUNDLED or not policy.allow_hub or _find_local(known, policy.local_dir):
        return False
    repositories = [(f"{HUB_OWNER}/{part.name}", part.revision) for part in (known.model, known.tokenizer)]
    missing = [one for one in repositories if not find_cached(*one)]
    try:
        for repository, revision in missing:
            look_up(repository, revision, policy.hub_timeout_s)
    except HubError:
        return False
    return bool(missing)


def _find(name: str, policy: ModelPolicy, *, is_default: bool) -> _Found:
    known = known_model(name)
    if local := _find_local(known, policy.local_dir):
        return local
    if known is BUNDLED:
        return _bundled()
    fetched = _find_on_hub(known, policy)
    if isinstance(fetched, _Found):
        return fetched
    if is_default and policy.allow_bundled:
        return _bundled(stands_in_for=name, why=fetched)
    raise CheckpointError(_cannot_be_had(known, policy, fetched), field="model")


def resolve_device(name: str) -> torch.device:
    """cpu, cuda, cuda:N, mps, or auto: the first of cuda, mps and cpu that is there. Raises SettingsError."""
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}
    if name == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if there[kind]))
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if (device.index or 0) < there.get(device.type, 0):
        return device
    usable = ", ".join(kind for kind, count in there.items() if count)
    raise SettingsError(
        f"model.device is {name!r}, which this machine does not have; it has {usable}: choose one of these or auto.",
        field="model.device",
    )


def _find_local(known: KnownModel, local_dir: Path) -> _Found | None:
    """A folder that is there is used, even if it turns out to be broken: that is for a person to see."""
    model, tokenizer = local_dir / known.model.name, local_dir / known.tokenizer.name
    if not model.is_dir():
        return None
    if not tokenizer.is_dir():
        raise CheckpointError(
            f"{model} is there, but its tokenizer's folder {tokenizer} is missing; put it beside the model.",
            field="model",
        )
    return _Found(model, tokenizer, "local")


def _find_on_hub(known: KnownModel, policy: ModelPolicy) -> _Found | str:
    """Both checkpoints with the published sha256, or why the hub does not give them."""
    if not policy.allow_hub:
        return "the hub may not be asked (model.allow_hub)"
    try:
        model, tokenizer = (_fetch_published(part, policy.hub_timeout_s) for part in (known.model, known.tokenizer))
    except HubError as error:
        return f"the hub {error}"
    return _Found(model.path, tokenizer.path, "hub", model.revision)


def _fetch_published(published: Published, timeout_s: float) -> HubFolder:
    folder = fetch(f"{HUB_OWNER}/{published.name}", published.revision, timeout_s)
    check_sha256(folder.path / WEIGHTS_FILE, published.sha256)
    return folder


def _cannot_be_had(known: KnownModel, policy: ModelPolicy, why: str) -> str:
    return (
        f"The model {known.model.name} cannot be loaded: {policy.local_dir / known.model.name} does not exist and "
        f"{why}; put {known.model.name} and {known.tokenizer.name} into {policy.local_dir} or choose {BUNDLED_MODEL}."
    )


def _bundled(stands_in_for: str | None = None, why: str | None = None) -> _Found:
    model, tokenizer = (BUNDLED_DIR / part.name for part in (BUNDLED.model, BUNDLED.tokenizer))
    return _Found(model, tokenizer, "bundled", stands_in_for=stands_in_for, why=why)


def _load(known: KnownModel, found: _Found, policy: ModelPolicy, device: torch.device) -> LoadedModel:
    kronos, tokenizer = load_kronos(found.model), load_tokenizer(found.tokenizer)
    bits = {(part.config.s1_bits, part.config.s2_bits) for part in (kronos, tokenizer)}
    if len(bits) > 1:
        raise CheckpointError(
            f"{found.model} and {found.tokenizer} do not belong together: the model reads tokens of "
            f"{kronos.config.s1_bits}+{kronos.config.s2_bits} bits, the tokenizer writes "
            f"{tokenizer.config.s1_bits}+{tokenizer.config.s2_bits}."
        )
    sha256, tokenizer_sha256 = _hashes(found)
    return LoadedModel(
        kronos=kronos.to(device),
        tokenizer=tokenizer.to(device),
        name=known.model.name,
        tokenizer_name=known.tokenizer.name,
        source=found.source,
        revision=found.revision,
        sha256=sha256,
        tokenizer_sha256=tokenizer_sha256,
        published=(sha256, tokenizer_sha256) == (known.model.sha256, known.tokenizer.sha256),
        max_context=min(known.max_context, policy.max_context),
        device=device,
        card=read_card(found.model),
        stands_in_for=found.stands_in_for,
        why=found.why,
    )
