"""The compiled kernels against the same arithmetic in torch, for every level of instructions that this processor has."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from services.inference.engine.attention import Heads, PrefixCache, TorchPrefixCache
from services.inference.engine.native_attention import NativePrefixCache
from services.inference.engine.place import Span
from services.inference.native import BuildError, KernelError, Kernels, build_kernels
from services.inference.native import build as build_module
from services.inference.native.build import LEVELS, library
from services.inference.native.kernels import FORMATS, NumberName
from services.inference.token_choice import MOST_UNIFORM, Choice, draw, next_token_distribution
from tests.unit.inference.tiny import native_kernels

LEVELS_HERE = list(LEVELS.get(platform.machine(), {"none": ()}))
EPSILON = 1e-5


@pytest.fixture(params=LEVELS_HERE)
def kernels(request: pytest.FixtureRequest) -> Kernels:
    """Of a level that this processor has; it has all that come after its own."""
    own = native_kernels().name.removeprefix("native (").removesuffix(")")
    levels = next(list(levels) for levels in LEVELS.values() if own in levels)
    if request.param not in levels[levels.index(own) :]:
        pytest.skip(f"this processor has {own}")
    return Kernels(library(request.param), request.param)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_threads(count: int, work: Callable[[], Tensor]) -> Tensor:
    torch.set_num_threads(count)
    return work()


# --- products -------------------------------------------------------------------------------------------------------

SHAPES = [(1, 16, 16), (30, 512, 1536), (61, 52, 33), (7, 5, 3)]  # rows, inputs, outputs
COARSENESS = {"float32": 1e-6, "bfloat16": 4e-3, "int8": 1.5e-2}  # of a number around one, in the root mean square


def multiplying(kernels: Kernels, name: NumberName) -> None:
    if name not in kernels.multiplies:
        pytest.skip(f"no products in {name} at this level")


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_product_is_that_of_torch(kernels: Kernels, name: NumberName, shape: tuple[int, int, int]) -> None:
    multiplying(kernels, name)
    rows, inputs, outputs = shape
    x, weight, bias = random(rows, inputs), random(outputs, inputs, seed=1), random(outputs, seed=2)
    ours = kernels.multiply(x, kernels.pack(weight, bias, name))
    theirs = functional.linear(x.double(), weight.double(), bias.double())
    assert float((ours - theirs).square().mean().sqrt()) < COARSENESS[name] * inputs**0.5


def test_bfloat16_rounds_what_it_multiplies_and_nothing_else(kernels: Kernels) -> None:
    multiplying(kernels, "bfloat16")
    x, weight = random(30, 512), random(64, 512, seed=1)
    exact = x.bfloat16().double() @ weight.bfloat16().double().t()
    torch.testing.assert_close(
        kernels.multiply(x, kernels.pack(weight, None, "bfloat16")).double(), exact, atol=1e-4, rtol=0
    )


def test_int8_gives_each_row_and_each_output_a_scale_of_its_own(kernels: Kernels) -> None:
    multiplying(kernels, "int8")
    x, weight = random(30, 512), random(64, 512, seed=1)
    packed = kernels.pack(weight, None, "int8")
    plain = kernels.multiply(x, packed)
    sizes = torch.tensor([10.0 ** (row % 7 - 3) for row in range(30)])[:, None]
    torch.testing.assert_close(kernels.multiply(x * sizes, packed), plain * sizes, rtol=1e-2, atol=0.0)
    widths = torch.tensor([10.0 ** (out % 7 - 3) for out in range(64)])
    scaled = kernels.multiply(x, kernels.pack(weight * widths[:, None], None, "int8"))
    torch.testing.assert_close(scaled, plain * widths, rtol=1e-2, atol=0.0)


def test_int8_of_nothing_is_nothing(kernels: Kernels) -> None:
    multiplying(kernels, "int8")
    packed = kernels.pack(torch.zeros(20, 12), torch.ones(20), "int8")
    assert torch.equal(kernels.multiply(torch.zeros(3, 12), packed), torch.ones(3, 20))


@pytest.mark.parametrize("name", FORMATS)
def test_norm_gate_and_residual_go_along(kernels: Kernels, name: NumberName) -> None:
    multiplying(kernels, name)
    x, residual = 3 * random(33, 48), random(33, 40, seed=3)
    gate, up = random(40, 48, seed=1) / 7, random(40, 48, seed=2) / 7
    first, second = kernels.pack(gate, None, name), kernels.pack(up, None, name)
    normalised = functional.rms_norm(x, (48,), None, EPSILON)
    close = {"atol": 20 * COARSENESS[name], "rtol": 0}
    torch.testing.assert_close(
        kernels.multiply(x, first, up=second, epsilon=EPSILON),
        functional.silu(normalised @ gate.t()) * (normalised @ up.t()),
        **close,
    )
    torch.testing.assert_close(
        kernels.multiply(x, first, epsilon=EPSILON, residual=residual), normalised @ gate.t() + residual, **close
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_row_is_the_same_whatever_is_beside_it_and_however_many_threads_there_are(
    kernels: Kernels, name: NumberName
) -> None:
    multiplying(kernels, name)
    x, packed = random(200, 96), kernels.pack(random(70, 96, seed=1), None, name)
    together = with_threads(2, lambda: kernels.multiply(x, packed, epsilon=EPSILON))
    for rows in (1, 4, 29, 30, 31, 97):
        alone = with_threads(1, lambda rows=rows: kernels.multiply(x[:rows], packed, epsilon=EPSILON))  # type: ignore[misc]
        assert torch.equal(alone, together[:rows])


def test_what_a_kernel_could_not_read_is_refused(kernels: Kernels) -> None:
    multiplying(kernels, "float32")
    packed = kernels.pack(random(8, 4), None, "float32")
    for x in (random(3, 5), random(4, 3).t(), random(3, 4).bfloat16(), random(3, 4).double()):
        with pytest.raises(ValueError, match=r"kernel was handed|do not go with"):
            kernels.multiply(x, packed)
    with pytest.raises(ValueError, match="cannot be added"):
        kernels.multiply(random(3, 4), packed, residual=random(3, 7))


# --- norm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 3), (30, 512), (400, 832)], ids=str)
def test_the_norm_is_that_of_torch(kernels: Kernels, shape: tuple[int, int]) -> None:
    x = 5 * random(*shape)
    torch.testing.assert_close(kernels.normalise(x, EPSILON), functional.rms_norm(x, shape[1:], None, EPSILON))


# --- attention ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", [0, 1, 64, 100])
@pytest.mark.parametrize(("heads", "size"), [(2, 16), (3, 52), (1, 64)])
def test_attention_behind_a_shared_prefix_is_that_of_torch(
    kernels: Kernels, prefix: int, heads: int, size: int
) -> None:
    series, paths, d_model = 2, 7, heads * size
    ours, theirs = NativePrefixCache(Heads(heads, size), kernels), TorchPrefixCache(Heads(heads, size))
    for cache in (ours, theirs):
        cache.store_prefix(random(2, series * heads, prefix, size))
        cache.reserve(paths, 24)
    first = 0
    for steps in (1, 1, 5, 17):
        rows, turns = random(series * paths * steps, 3 * d_model, seed=first), _turns(first, steps, size)
        rows[:, :d_model] *= size**-0.5
        place = Span(first, steps)
        first += steps
        torch.testing.assert_close(
            ours.extend(rows.clone(), turns, place), theirs.extend(rows.clone(), turns, place), atol=3e-6, rtol=0
        )
    queries = random(series * paths, d_model, seed=99) * size**-0.5
    torch.testing.assert_close(
        ours.attend(queries, Span(20, 4)), theirs.attend(queries, Span(23, 1)), atol=3e-6, rtol=0
    )


def test_appended_keys_are_seen_and_do_not_turn(kernels: Kernels) -> None:
    ours, theirs = NativePrefixCache(Heads(2, 16), kernels), TorchPrefixCache(Heads(2, 16))
    queries = random(5, 32, seed=7)
    for cache in (ours, theirs):
        cache.store_prefix(random(2, 2, 9, 16))
        cache.reserve(5, 3)
    before = ours.attend(queries, Span(0, 0))
    torch.testing.assert_close(before, theirs.attend(queries, Span(0, 0)), atol=3e-6, rtol=0)
    for cache in (ours, theirs):
        cache.append(random(5, 64, seed=8), Span(0, 1))
    after = ours.attend(queries, Span(0, 1))
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, theirs.attend(queries, Span(0, 1)), atol=3e-6, rtol=0)


def test_attention_of_a_path_is_the_same_whatever_is_beside_it(kernels: Kernels) -> None:
    rows, prefix = random(90, 3 * 32), random(2, 2, 70, 16, seed=1)

    def attended(paths: int) -> Tensor:
        cache = NativePrefixCache(Heads(2, 16), kernels)
        cache.store_prefix(prefix)
        cache.reserve(paths, 1)
        return cache.extend(rows[:paths].clone(), _turns(0, 1, 16), Span(0, 1))

    together = with_threads(2, lambda: attended(90))
    for paths in (1, 5, 48, 49):
        assert torch.equal(with_threads(1, lambda paths=paths: attended(paths)), together[:paths])  # type: ignore[misc]


def test_rows_that_do_not_fit_are_refused(kernels: Kernels) -> None:
    cache: PrefixCache = NativePrefixCache(Heads(2, 16), kernels)
    cache.store_prefix(random(2, 2, 9, 16))
    cache.reserve(5, 3)
    with pytest.raises(ValueError, match="room for 3 tokens"):
        cache.append(random(5, 64), Span(3, 1))
    with pytest.raises(ValueError, match="are not 2 parts"):
        cache.append(random(5, 32), Span(0, 1))
    with pytest.raises(ValueError, match="no turns"):
        cache.extend(random(5, 96), _turns(0, 2, 16), Span(0, 1))


def _turns(first: int, steps: int, size: int) -> Tensor:
    angles = torch.arange(first, first + steps)[:, None] * random(size // 2, seed=5).abs()
    return torch.polar(torch.ones_like(angles), angles)[:, None]


# --- choice ---------------------------------------------------------------------------------------------------------

CHOICES = [Choice(1.0, 0, 1.0), Choice(0.6, 0, 0.9), Choice(2.0, 5, 1.0), Choice(1.0, 1, 0.5), Choice(1.0, 99999, 0.5)]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
@pytest.mark.parametrize("vocabulary", [1, 7, 16, 1000, 1024])
def test_tokens_are_those_of_torch(kernels: Kernels, choice: Choice, vocabulary: int) -> None:
    logits = 2 * random(500, vocabulary)
    uniforms = torch.rand(500, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    chosen = torch.empty(500, dtype=torch.int64)
    assert kernels.choose(logits, choice.temperature, choice.top_k, choice.top_p, uniforms, chosen)
    expected = draw(next_token_distribution(logits, choice), uniforms)
    # Both sum in another order, so a number at the very edge between two tokens may fall to either.
    assert int((chosen != expected).sum()) <= 1


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_a_token_without_probability_is_never_drawn_even_at_the_ends(kernels: Kernels, choice: Choice) -> None:
    logits = 3 * random(200, 50)
    possible = next_token_distribution(logits, choice) > 0
    for uniform in (0.0, MOST_UNIFORM):
        chosen = torch.empty(200, dtype=torch.int64)
        uniforms = torch.full((200,), uniform, dtype=torch.float64)
        kernels.choose(logits, choice.temperature, choice.top_k, choice.top_p, uniforms, chosen)
        assert possible.gather(1, chosen[:, None]).all()


def test_tokens_as_likely_as_the_last_kept_one_are_kept(kernels: Kernels) -> None:
    logits = torch.tensor([[0.0, 1.0, 1.0, 1.0]]).expand(400, 4).contiguous()
    uniforms = torch.linspace(0, MOST_UNIFORM, 400, dtype=torch.float64)
    for top_k, top_p in ((1, 1.0), (2, 1.0), (0, 0.1), (0, 0.5)):
        chosen = torch.empty(400, dtype=torch.int64)
        kernels.choose(logits, 1.0, top_k, top_p, uniforms, chosen)
        assert chosen.unique().tolist() == [1, 2, 3]


def test_extreme_logits_are_drawn_from(kernels: Kernels) -> None:
    logits = torch.tensor([[1e30, -1e30, 0.0], [-1e30, -1e30, -1e30], [0.0, 0.0, 80.0]])
    chosen = torch.empty(3, dtype=torch.int64)
    assert kernels.choose(logits, 1e-3, 0, 0.9, torch.full((3,), 0.5, dtype=torch.float64), chosen)
    assert chosen.tolist() == [0, 1, 2]


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("vocabulary", [3, 40])
def test_logits_that_are_no_numbers_are_told(kernels: Kernels, bad: float, vocabulary: int) -> None:
    logits = random(4, vocabulary)
    logits[2, vocabulary - 1] = bad
    chosen = torch.full((4,), -1)
    assert not kernels.choose(logits, 1.0, 0, 0.9, torch.full((4,), 0.5, dtype=torch.float64), chosen)
    assert ((chosen >= 0) & (chosen < vocabulary)).all()


def test_tokens_are_written_into_a_column(kernels: Kernels) -> None:
    logits, uniforms, tokens = random(6, 10), torch.rand(6, 3, 2, dtype=torch.float64), torch.full((2, 6, 3), -1)
    kernels.choose(logits, 1.0, 0, 1.0, uniforms[:, 1, 1], tokens[1, :, 2])
    assert torch.equal(tokens[1, :, 2], draw(logits.softmax(-1), uniforms[:, 1, 1]))
    assert int((tokens == -1).sum()) == 30


# --- compiling and loading ------------------------------------------------------------------------------------------


def test_what_is_up_to_date_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    native_kernels()
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert all(path.exists() for path in build_kernels())


def test_without_a_compiler_the_reason_and_the_way_out_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_module, "BUILT", tmp_path)
    with pytest.raises(BuildError, match=r"no-such-compiler is not on the PATH\. Install"):
        build_kernels("no-such-compiler")
    with pytest.raises(BuildError, match="false -std"):
        build_kernels("false")
    assert not list(tmp_path.glob("*.so"))


def test_other_machines_are_told_for_which_there_are_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(BuildError, match="for Linux on x86_64 and aarch64"):
        build_kernels()


def test_the_command_may_go_on_without_a_compiler(tmp_path: Path) -> None:
    """As `make venv` calls it; in a copy, so that there is something to compile."""
    program = (
        "import sys; from pathlib import Path; from services.inference.native import build as module; "
        " module.BUILT = Path(sys.argv.pop(1)); "
        "from services.inference.native.__main__ import main; main()"
    )

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, str(tmp_path), "--compiler", "no-such-compiler", *options]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    demanded, wished = run(), run("--if-possible")
    assert demanded.returncode == 1
    assert demanded.stderr.startswith("Error: No C++ compiler")
    assert wished.returncode == 0
    assert "Going on without kernels" in wished.stdout


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not a library")
    with pytest.raises(KernelError, match=r"kernels in broken\.so cannot be loaded"):
        Kernels(broken, "AVX2")


def test_libraries_of_older_sources_are_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = library("AVX2")
    sources = tmp_path / "source"
    sources.mkdir()
    for source in build_module.SOURCES.iterdir():
        (sources / source.name).write_bytes(source.read_bytes())
    monkeypatch.setattr(build_module, "SOURCES", sources)
    assert library("AVX2") == before
    (sources / "choice.cpp").write_text("// changed")
    assert library("AVX2") != before
