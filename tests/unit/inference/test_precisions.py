from __future__ import annotations

import pytest
import torch

from services.inference import precisions
from services.inference.precisions import choose_precision, precisions_of
from shared.errors import SettingsError

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """A processor that has the instructions for these."""
    monkeypatch.setattr(precisions, "_cpu_multiplies_bfloat16", lambda: "bfloat16" in request.param)
    monkeypatch.setattr(precisions, "_cpu_multiplies_int8", lambda: "int8" in request.param)


@pytest.mark.parametrize(
    ("processor", "chosen"),
    [((), "float32"), (("bfloat16",), "bfloat16"), (("int8",), "float32"), (("bfloat16", "int8"), "bfloat16")],
    indirect=["processor"],
)
@pytest.mark.usefixtures("processor")
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(chosen: str) -> None:
    assert choose_precision("auto", CPU).name == chosen


def test_auto_takes_bfloat16_on_cuda_and_float32_on_mps() -> None:
    assert choose_precision("auto", CUDA).name == "bfloat16"
    assert choose_precision("auto", MPS).name == "float32"


@pytest.mark.parametrize("processor", [()], indirect=True)
@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.usefixtures("processor")
def test_a_dtype_without_instructions_is_refused_with_those_that_there_are(dtype: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"model.dtype is '{dtype}', which this processor .* it has float32: choose"
    ):
        choose_precision(dtype, CPU)


def test_float32_is_everywhere() -> None:
    for device in (CPU, CUDA, MPS):
        assert choose_precision("float32", device).name == "float32"
        assert precisions_of(device)[0] == "float32"
