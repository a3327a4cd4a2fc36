from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from services.inference import checkpoints
from services.inference.checkpoints import (
    PUBLISHED_MODELS,
    KnownModel,
    LoadedModel,
    ModelPolicy,
    Published,
    load_model,
    resolve_device,
)
from services.inference.weights import load_kronos, load_tokenizer, sha256_of
from shared.errors import CheckpointError, SettingsError, UnknownModelError
from tests.unit.inference.hub_server import COMMIT, HubServer, running_hub
from tests.unit.inference.tiny import TINY_KRONOS, tiny_kronos, tiny_tokenizer, write_checkpoint


@pytest.fixture
def policy(tmp_path: Path) -> ModelPolicy:
    return ModelPolicy(
        local_dir=tmp_path / "models", max_context=512, allow_hub=False, hub_timeout_s=1.0, allow_bundled=True
    )


@pytest.fixture
def local_small(policy: ModelPolicy) -> Path:
    """A tiny model under the name Kronos-small, as one who fine-tuned it would lay it down. Returns its folder."""
    write_checkpoint(policy.local_dir / "Kronos-Tokenizer-base", tiny_tokenizer())
    return write_checkpoint(policy.local_dir / "Kronos-small", tiny_kronos())


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub that offers Kronos-mini, and whose files' sha256 are the published ones."""
    offered, known = tmp_path / "offered", PUBLISHED_MODELS["Kronos-mini"]
    model = write_checkpoint(offered / known.model.name, tiny_kronos())
    tokenizer = write_checkpoint(offered / known.tokenizer.name, tiny_tokenizer())
    tiny = KnownModel(
        replace(known.model, sha256=sha256_of(model / "model.safetensors")),
        replace(known.tokenizer, sha256=sha256_of(tokenizer / "model.safetensors")),
        known.max_context,
    )
    monkeypatch.setitem(PUBLISHED_MODELS, "Kronos-mini", tiny)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with running_hub(offered) as server:
        _point_to(server.url, monkeypatch)
        yield server


@pytest.fixture
def bundled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundled folder of its own, so that these tests do not depend on what has been trained."""
    folder = tmp_path / "bundled"
    write_checkpoint(folder / "Kronos-nano", tiny_kronos())
    write_checkpoint(folder / "Kronos-Tokenizer-nano", tiny_tokenizer())
    monkeypatch.setattr(checkpoints, "BUNDLED_DIR", folder)
    return folder


def _point_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What HF_ENDPOINT does; the library reads that only once, when it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def _load(name: str, policy: ModelPolicy, *, is_default: bool = False) -> LoadedModel:
    return load_model(name, policy, device="cpu", is_default=is_default)


def test_what_was_written_in_the_published_layout_is_loaded_bit_for_bit(policy: ModelPolicy, local_small: Path) -> None:
    loaded = _load("Kronos-small", policy)
    assert (loaded.source, loaded.revision, loaded.name) == ("local", None, "Kronos-small")
    assert loaded.sha256 == sha256_of(local_small / "model.safetensors")
    for name, tensor in tiny_kronos().state_dict().items():
        assert torch.equal(loaded.kronos.state_dict()[name], tensor)
    assert not loaded.kronos.training
    assert not any(parameter.requires_grad for parameter in loaded.tokenizer.parameters())


def test_a_fine_tuned_local_model_is_used_and_known_not_to_be_the_published_one(
    policy: ModelPolicy, local_small: Path
) -> None:
    assert not _load("Kronos-small", policy).published


def test_the_context_is_the_shorter_of_what_model_and_settings_allow(policy: ModelPolicy, local_small: Path) -> None:
    assert _load("Kronos-small", replace(policy, max_context=2048)).max_context == 512
    assert _load("Kronos-small", replace(policy, max_context=256)).max_context == 256


def test_a_name_that_is_unknown_is_refused_with_those_that_are_known(policy: ModelPolicy) -> None:
    with pytest.raises(UnknownModelError, match=r"'gpt' is not known; .*Kronos-mini, .*Kronos-nano") as refused:
        _load("gpt", policy)
    assert refused.value.field == "model"


def test_a_local_model_without_its_tokenizer_is_an_error(policy: ModelPolicy) -> None:
    write_checkpoint(policy.local_dir / "Kronos-small", tiny_kronos())
    with pytest.raises(CheckpointError, match=r"tokenizer's folder .*Kronos-Tokenizer-base is missing"):
        _load("Kronos-small", policy, is_default=True)


def test_a_missing_tensor_is_named_with_its_shape(policy: ModelPolicy, local_small: Path) -> None:
    file = local_small / "model.safetensors"
    tensors = load_file(file)
    del tensors["transformer.1.ffn.w2.weight"]
    save_file(tensors, file)
    with pytest.raises(
        CheckpointError, match=r"model.safetensors lacks the tensor transformer.1.ffn.w2.weight.*\[32, 64\]"
    ):
        _load("Kronos-small", policy)


def test_a_wrong_shape_is_named_with_what_was_expected(policy: ModelPolicy, local_small: Path) -> None:
    file = local_small / "model.safetensors"
    save_file(load_file(file) | {"norm.weight": torch.ones(33)}, file)
    with pytest.raises(CheckpointError, match=r"norm.weight as float32 \[33\], but float32 \[32\] was expected"):
        _load("Kronos-small", policy)


def test_a_tensor_that_has_no_place_is_named(policy: ModelPolicy, local_small: Path) -> None:
    file = local_small / "model.safetensors"
    save_file(load_file(file) | {"transformer.2.norm1.weight": torch.ones(32)}, file)
    with pytest.raises(CheckpointError, match=r"transformer.2.norm1.weight .* no place"):
        _load("Kronos-small", policy)


def test_weights_that_are_not_finite_are_refused(policy: ModelPolicy, local_small: Path) -> None:
    file = local_small / "model.safetensors"
    save_file(load_file(file) | {"norm.weight": torch.full((32,), torch.nan)}, file)
    with pytest.raises(CheckpointError, match=r"not finite in the tensor norm.weight"):
        _load("Kronos-small", policy)


@pytest.mark.parametrize("content", [b"", b"garbage", b'\x08\x00\x00\x00\x00\x00\x00\x00{"a":1}x', b"\xff" * 64])
def test_a_damaged_file_is_named(policy: ModelPolicy, local_small: Path, content: bytes) -> None:
    (local_small / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model.safetensors is not a readable safetensors file"):
        _load("Kronos-small", policy)


def test_a_truncated_file_is_named(policy: ModelPolicy, local_small: Path) -> None:
    file = local_small / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=r"model.safetensors is not a readable safetensors file"):
        _load("Kronos-small", policy)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(policy: ModelPolicy, local_small: Path, name: str) -> None:
    (local_small / name).unlink()
    with pytest.raises(CheckpointError, match=rf"Kronos-small/{name} cannot be read: No such file"):
        _load("Kronos-small", policy)


@pytest.mark.parametrize(
    ("config", "told"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must hold one JSON object"),
        (json.dumps({**TINY_KRONOS.to_dict(), "d_model": "wide"}), "'d_model' is 'wide'"),
        ("{}", "'s1_bits' is missing"),
    ],
)
def test_a_wrong_configuration_is_named(policy: ModelPolicy, local_small: Path, config: str, told: str) -> None:
    (local_small / "config.json").write_text(config, encoding="utf-8")
    with pytest.raises(CheckpointError, match=rf"config.json .*{told}"):
        _load("Kronos-small", policy)


def test_a_model_and_a_tokenizer_of_other_bits_do_not_belong_together(policy: ModelPolicy, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = type(tiny_kronos())(replace(TINY_KRONOS, s1_bits=6))
    write_checkpoint(policy.local_dir / "Kronos-small", other)
    write_checkpoint(policy.local_dir / "Kronos-Tokenizer-base", tiny_tokenizer())
    with pytest.raises(CheckpointError, match=r"do not belong together: .* 6\+4 bits, the tokenizer writes 5\+4"):
        _load("Kronos-small", policy)


def test_tensors_that_inference_does_not_use_may_be_missing(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "tokenizer", tiny_tokenizer())
    file = folder / "model.safetensors"
    kept = {k: t for k, t in load_file(file).items() if "post_quant_embed_pre" not in k and "bsq" not in k}
    save_file(kept, file)
    candles = torch.randn(1, 5, 6)
    assert torch.equal(load_tokenizer(folder).encode(candles)[0], tiny_tokenizer().encode(candles)[0])


def test_fixed_time_embeddings_are_loaded_from_their_own_name(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "model", tiny_kronos(learn_te=False))
    assert "time_emb.hour_embed.emb.weight" in load_kronos(folder).state_dict()


def test_the_hub_gives_verified_files_at_the_pinned_revision(policy: ModelPolicy, hub: HubServer) -> None:
    loaded = _load("Kronos-mini", replace(policy, allow_hub=True))
    assert (loaded.source, loaded.revision, loaded.published) == ("hub", COMMIT, True)
    assert loaded.tokenizer_name == "Kronos-Tokenizer-2k"
    assert any(path.startswith("GET /NeoQuasar/Kronos-mini/resolve/") for path in hub.requests)


def test_files_fetched_once_need_no_hub_the_next_time(policy: ModelPolicy, hub: HubServer) -> None:
    allowed = replace(policy, allow_hub=True)
    _load("Kronos-mini", allowed)
    hub.requests.clear()
    assert _load("Kronos-mini", allowed).source == "hub"
    assert hub.requests == []


def test_the_hub_is_asked_for_the_pinned_commit(policy: ModelPolicy, hub: HubServer, bundled: Path) -> None:
    _load("Kronos-small", replace(policy, allow_hub=True), is_default=True)
    assert hub.requests == ["HEAD /NeoQuasar/Kronos-small/resolve/901c26c1332695a2a8f243eb2f37243a37bea320/config.json"]


def test_a_local_folder_comes_before_the_hub(policy: ModelPolicy, local_small: Path, hub: HubServer) -> None:
    assert _load("Kronos-small", replace(policy, allow_hub=True)).source == "local"
    assert hub.requests == []


def test_a_file_of_the_wrong_hash_is_never_used_and_never_replaced(
    policy: ModelPolicy, hub: HubServer, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = PUBLISHED_MODELS["Kronos-mini"]
    expected = "0" * 64
    monkeypatch.setitem(PUBLISHED_MODELS, "Kronos-mini", replace(known, model=replace(known.model, sha256=expected)))
    with pytest.raises(
        CheckpointError, match=rf"model.safetensors .* should be {expected}, but is {known.model.sha256}"
    ):
        _load("Kronos-mini", replace(policy, allow_hub=True), is_default=True)


@pytest.mark.parametrize("status", [401, 403, 404, 500, 503])
def test_a_hub_that_refuses_is_told_and_the_bundled_model_stands_in(
    policy: ModelPolicy, hub: HubServer, bundled: Path, status: int
) -> None:
    hub.status = status
    loaded = _load("Kronos-mini", replace(policy, allow_hub=True), is_default=True)
    assert (loaded.source, loaded.name, loaded.stands_in_for) == ("bundled", "Kronos-nano", "Kronos-mini")
    assert loaded.why == f"the hub answered {status} for NeoQuasar/Kronos-mini"


def test_a_hub_that_never_answers_costs_no_more_than_its_time(
    policy: ModelPolicy, bundled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        _point_to(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        started = perf_counter()
        loaded = _load("Kronos-small", replace(policy, allow_hub=True), is_default=True)
        assert perf_counter() - started < 15
    assert loaded.source == "bundled"
    assert loaded.why is not None
    assert loaded.why.startswith("the hub ")


def test_the_hub_is_where_hf_endpoint_says(tmp_path: Path, hub: HubServer) -> None:
    fetch = "from services.inference.hub import fetch; print(fetch('NeoQuasar/Kronos-mini', 'main', 5.0).revision)"
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    ran = subprocess.run([sys.executable, "-c", fetch], env=environment, capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == COMMIT


def test_offline_mode_is_respected(
    policy: ModelPolicy, hub: HubServer, bundled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    loaded = _load("Kronos-mini", replace(policy, allow_hub=True), is_default=True)
    assert loaded.why == "the hub is not asked, because HF_HUB_OFFLINE is set"
    assert hub.requests == []


def test_a_model_that_a_request_names_is_never_replaced(policy: ModelPolicy, bundled: Path) -> None:
    with pytest.raises(CheckpointError, match=r"Kronos-base cannot be loaded: .*model.allow_hub"):
        _load("Kronos-base", policy, is_default=False)


def test_nothing_stands_in_where_that_is_not_allowed(policy: ModelPolicy, bundled: Path) -> None:
    with pytest.raises(CheckpointError, match="Kronos-small cannot be loaded"):
        _load("Kronos-small", replace(policy, allow_bundled=False), is_default=True)


def test_the_bundled_model_is_there_by_its_own_name(policy: ModelPolicy, bundled: Path) -> None:
    loaded = _load("Kronos-nano", policy)
    assert (loaded.source, loaded.name, loaded.stands_in_for) == ("bundled", "Kronos-nano", None)
    assert not loaded.published


def test_published_hashes_are_well_formed_and_differ() -> None:
    files: set[Published] = {part for known in PUBLISHED_MODELS.values() for part in (known.model, known.tokenizer)}
    assert len({part.sha256 for part in files}) == len(files) == 5
    assert all(len(part.sha256) == 64 for part in files)


def test_auto_takes_a_device_that_is_there_and_another_is_refused_by_name() -> None:
    assert resolve_device("auto").type in ("cuda", "mps", "cpu")
    assert resolve_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "tpu", "meta"):
        with pytest.raises(SettingsError, match=rf"model.device is '{name}', which this machine does not have"):
            resolve_device(name)
