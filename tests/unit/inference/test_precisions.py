from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import structlog
import torch

from services.inference import precisions
from services.inference.native import KernelError
from services.inference.precisions import choose_kernels, choose_precision, precisions_of
from shared.errors import SettingsError
from tests.unit.inference.tiny import native_kernels

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


def kernels(*multiplies: str) -> Any:
    return SimpleNamespace(multiplies=frozenset(multiplies))


@pytest.fixture(params=[False, True])
def bfloat16(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> bool:
    """Whether the processor has instructions for it."""
    has: bool = request.param
    monkeypatch.setattr(precisions, "_cpu_multiplies_bfloat16", lambda: has)
    return has


@pytest.fixture
def no_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> None:
        raise KernelError("There are none. Compile them.")

    monkeypatch.setattr(precisions, "load_kernels", load)


@pytest.mark.parametrize("compiled", [None, kernels("float32", "bfloat16", "int8")], ids=["torch", "native"])
def test_auto_takes_bfloat16_where_the_processor_multiplies_it_and_never_int8(bfloat16: bool, compiled: Any) -> None:
    assert choose_precision("auto", CPU, compiled).name == ("bfloat16" if bfloat16 else "float32")


def test_auto_takes_bfloat16_on_cuda_and_float32_on_mps() -> None:
    assert choose_precision("auto", CUDA, None).name == "bfloat16"
    assert choose_precision("auto", MPS, None).name == "float32"


def test_a_dtype_without_instructions_is_refused_with_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precisions, "_cpu_multiplies_bfloat16", lambda: False)
    for dtype, compiled in (("bfloat16", None), ("int8", kernels("float32"))):
        with pytest.raises(
            SettingsError, match=rf"model.dtype is '{dtype}', which this processor .*for; it has float32: choose"
        ):
            choose_precision(dtype, CPU, compiled)  # type: ignore[arg-type]


def test_int8_is_there_with_kernels_that_multiply_it_and_a_refusal_names_them() -> None:
    assert choose_precision("int8", CPU, kernels("float32", "int8")).name == "int8"
    with pytest.raises(SettingsError, match=r"int8 needs compiled kernels too: model\.kernels"):
        choose_precision("int8", CPU, None)


def test_float32_is_everywhere() -> None:
    for device in (CPU, CUDA, MPS):
        assert choose_precision("float32", device, None).name == "float32"
        assert precisions_of(device, None)[0] == "float32"


def test_auto_takes_the_compiled_kernels_on_a_processor_alone() -> None:
    assert choose_kernels("auto", CPU) is native_kernels()
    assert choose_kernels("native", CPU) is native_kernels()
    assert choose_kernels("auto", CUDA) is None
    assert choose_kernels("torch", CPU) is None


@pytest.mark.usefixtures("no_kernels")
def test_without_kernels_auto_goes_on_with_a_warning_and_native_is_refused() -> None:
    with structlog.testing.capture_logs() as logs:
        assert choose_kernels("auto", CPU) is None
    assert [(line["event"], line["log_level"]) for line in logs] == [("kernels_missing", "warning")]
    assert "Compile them" in logs[0]["reason"]
    with pytest.raises(SettingsError, match=r"model\.kernels is 'native'\. There are none\. Compile them\."):
        choose_kernels("native", CPU)


def test_native_kernels_are_refused_on_other_devices() -> None:
    with pytest.raises(SettingsError, match=r"kernels for a processor, but model\.device is 'cuda'"):
        choose_kernels("native", CUDA)
