"""What a checkpoint's card says to programs, and that a broken one is told and never guessed at."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.inference.checkpoint_card import CARD_FILE, LONGEST_HEAD, USUAL_TEMPERATURE, USUAL_TOP_P, read_card
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


BOMB = "\n".join(
    ["a0: &a0 [x, x, x, x, x, x, x, x, x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
)
MERGES = "\n".join(
    ["a0: &a0 {x: 1}", *(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12))]
)


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (f"{BOMB}\nsampling: *a11", "it cannot be read"),
        (f"{MERGES}\nsampling: *a11", "it cannot be read"),
        ("sampling: &a {temperature: 1}\nother: *a", "it cannot be read"),
        ("sampling: {temperature: 0x" + "f" * 9_000 + "}", "sampling.temperature is a very large number"),
        ("sampling: {temperature: " + "9" * 9_000 + "}", "it cannot be read"),
        ("sampling: {temperature: " + "9" * 400 + "}", "sampling.temperature is 9999"),
        ("sampling: {temperature: 1e999}", "sampling.temperature is '1e999'"),
        ("sampling: {temperature: .inf}", "sampling.temperature is inf"),
        ("sampling: {top_p: .nan}", "sampling.top_p is nan"),
        ("sampling: {temperature: true}", "sampling.temperature is True"),
        ("sampling: {temperature: '1'}", "sampling.temperature is '1'"),
        ("sampling: {top_p: [1]}", "sampling.top_p is [1]"),
        ("sampling: text", "sampling is 'text'"),
        ("trained_until: 1735689600", "trained_until is 1735689600"),
        ("trained_until: true", "trained_until is True"),
        ("trained_until: 2025-01-01", "trained_until is datetime.date(2025, 1, 1)"),
        ("trained_until: 9999-12-31T23:59:59-23:00", "trained_until is datetime.datetime(9999"),
        ("trained_until: 0001-01-01T00:00:00+23:00", "trained_until is datetime.datetime(1, 1, 1"),
        ("trained_until: 1969-12-31T23:59:59Z", "trained_until is datetime.datetime(1969"),
        ("trained_until: 99999-01-01T00:00:00Z", "trained_until is '99999-01-01T00:00:00Z'"),
        ("trained_until: 2025-01-01T00:00:00+99:99", "it cannot be read"),
        ("sampling: {<script>alert(1)</script>: 1}", "sampling.'<script>alert(1)</script>' is 1"),
        ('sampling: {"\\e]0;owned\\a": 1}', r"sampling.'\x1b]0;owned\x07' is 1"),
        ("sampling: {temperature: '" + "x" * 5_000 + "'}", "sampling.temperature is 'xxxx"),
        ("? [a, b]\n: c", "it cannot be read"),
        ("a: 1\nb: \x00", "it cannot be read"),
        ("license: " + "x" * LONGEST_HEAD, "it cannot be read"),
    ],
)
def test_a_strangers_head_gives_one_short_sentence(tmp_path: Path, head: str, says: str) -> None:
    with pytest.raises(CheckpointError) as raised:
        read_card(card(tmp_path, f"---\n{head}\n---\n"))
    told = str(raised.value)
    assert says in told
    assert told.endswith("or remove the card.")
    assert len(told) < len(str(tmp_path)) + 400
    assert told.isprintable()


def test_no_more_is_read_than_a_head_may_be_long(tmp_path: Path) -> None:
    """Behind it a card may be as long as it likes; a head that does not end is no head cut short."""
    with (tmp_path / CARD_FILE).open("w") as written:
        written.write("---\nsampling: {temperature: 1.1}\n---\n")
        written.seek(50_000_000_000)  # takes no room, since nothing is written between
        written.write("end")
    assert read_card(tmp_path).sampling.temperature == 1.1
    with pytest.raises(CheckpointError, match="it cannot be read"):
        read_card(card(tmp_path, "---\nsampling: {temperature: 1.1}\n"))


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    (tmp_path / CARD_FILE).write_bytes(b"---\n\xff\xfe\n---\n")
    with pytest.raises(CheckpointError, match="it cannot be read"):
        read_card(tmp_path)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_card_that_is_no_file_is_not_waited_for(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / CARD_FILE)
    with pytest.raises(CheckpointError, match="it cannot be read"):
        read_card(tmp_path)


def test_dashes_inside_a_value_do_not_end_the_head(tmp_path: Path) -> None:
    found = read_card(card(tmp_path, "--- \nnote: it says ---\nsampling: {top_p: 1}\n---\n# ---\n"))
    assert found.sampling.top_p == 1.0


def test_the_bundled_card_has_both() -> None:
    found = read_card(BUNDLED_DIR / "Kronos-nano")
    assert (found.sampling.temperature, found.sampling.top_p) == (1.06, 1.0)
    assert found.trained_until_ms == datetime(2025, 7, 1, tzinfo=UTC).timestamp() * 1000
