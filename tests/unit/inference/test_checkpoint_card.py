"""What a checkpoint's card says to programs, and that a broken one is told and never guessed at."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.inference.checkpoint_card import CARD_FILE, USUAL_TEMPERATURE, USUAL_TOP_P, read_card
from services.inference.checkpoints import BUNDLED_DIR
from shared.errors import CheckpointError


def card(folder: Path, text: str) -> Path:
    (folder / CARD_FILE).write_text(text)
    return folder


def test_a_card_says_what_suits_the_model_and_until_when_it_learned(tmp_path: Path) -> None:
    head = "sampling: {temperature: 1.1, top_p: 0.95}\ntrained_until: 2025-03-01T00:00:00Z\nlicense: mit\n"
    found = read_card(card(tmp_path, f"---\n{head}---\n# A model\n"))
    assert (found.sampling.temperature, found.sampling.top_p) == (1.1, 0.95)
    assert found.trained_until_ms == datetime(2025, 3, 1, tzinfo=UTC).timestamp() * 1000


@pytest.mark.parametrize("text", [None, "", "# No head\n", "---\n---\n", "---\nlicense: mit\n---\n"])
def test_where_a_card_says_nothing_the_usual_holds(tmp_path: Path, text: str | None) -> None:
    found = read_card(tmp_path if text is None else card(tmp_path, text))
    assert (found.sampling.temperature, found.sampling.top_p) == (USUAL_TEMPERATURE, USUAL_TOP_P)
    assert found.trained_until_ms is None


@pytest.mark.parametrize(
    ("head", "says"),
    [
        ("sampling: {temperature: 0}", "sampling.temperature is 0"),
        ("sampling: {temp: 1}", "sampling.temp is 1"),
        ("trained_until: 2025-01-01T00:00:00", "trained_until is"),
        ("- a list", "it is ['a list']"),
        ("trained_until: 2025-13-45", "it cannot be read"),
        ("sampling: " + "[" * 2_000, "it cannot be read"),
        ("sampling: {", "it cannot be read"),
        ("sampling: !!python/object/apply:os.system ['true']", "it cannot be read"),
    ],
)
def test_a_head_that_makes_no_sense_is_named(tmp_path: Path, head: str, says: str) -> None:
    with pytest.raises(CheckpointError, match="The head of ") as raised:
        read_card(card(tmp_path, f"---\n{head}\n---\n"))
    assert says in str(raised.value)


def test_the_bundled_card_has_both() -> None:
    found = read_card(BUNDLED_DIR / "Kronos-nano")
    assert (found.sampling.temperature, found.sampling.top_p) == (1.0, 1.0)
    assert found.trained_until_ms == datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1000
