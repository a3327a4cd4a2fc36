"""The model: what a worker would load here, and what those that run have loaded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib.util import find_spec

from services.cli.diagnosis.finding import Finding, ok, warning, wrong
from shared.errors import KronosLiveError
from shared.queue_overview import WorkerStatus
from shared.settings import ModelSettings


def examine_loaded_models(workers: Sequence[WorkerStatus]) -> Iterator[Finding]:
    """A finding for each different model that workers have loaded, by what their registrations say."""
    check = "loaded model"
    loaded = {one.model for one in workers if one.model and not one.silent}
    for model in sorted(loaded, key=lambda one: one.name):
        how = f"{model.name} ({model.source}) on {model.device} in {model.dtype}, kernels {model.kernels}"
        if model.stands_in_for:
            yield warning(
                check,
                f"A worker computes with {how}, which stands in for {model.stands_in_for}.",
                f"Put {model.stands_in_for} into model.local_dir or let the worker reach the hub, and start it again.",
            )
        else:
            yield ok(check, f"Workers compute with {how}.")


def examine_checkpoint(settings: ModelSettings) -> Finding:
    """Loads what a worker would load on the CPU, but downloads nothing."""
    check, name = "checkpoint", settings.model_name
    if find_spec("torch") is None or find_spec("services.inference") is None:
        return ok(check, f"{name} is not looked for, since workers run elsewhere: torch is not installed here.")
    from services.inference.checkpoints import load_model, model_policy, to_be_downloaded

    policy = model_policy(settings)
    try:
        if to_be_downloaded(name, policy):
            return ok(
                check, f"{name} is not in {policy.local_dir}, but the hub answers: a worker fetches it at its start."
            )
        loaded = load_model(name, policy, device="cpu", is_default=True)
    except KronosLiveError as error:
        return wrong(check, f"No worker can start here: {error}", "Do what that says; Kronos-nano is always there.")
    weights = f"sha256 {loaded.sha256[:12]}, its tokenizer {loaded.tokenizer_sha256[:12]}"
    if loaded.stands_in_for:
        return warning(
            check,
            f"{name} is not in {policy.local_dir} and {loaded.why}, so that {loaded.name} stands in ({weights}).",
            f"Put {name} and its tokenizer into {policy.local_dir}, or choose model.model_name: {loaded.name}.",
        )
    if loaded.source == "local" and not loaded.published:
        return warning(
            check,
            f"{loaded.name} in {policy.local_dir} loads, but is not the published one ({weights}).",
            "That is well where you trained it; else fetch it anew.",
        )
    return ok(check, f"{loaded.name} ({loaded.source}) loads: {weights}.")
