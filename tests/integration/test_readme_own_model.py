"""What README says under "A model of your own market" does that, with fewer steps, moments and paths."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from services.cli import main
from services.inference.checkpoint_card import read_card
from shared.ledger import LedgerEntry
from tests.conftest import PROJECT
from tests.venue_server import VenueServer

# So that it takes a minute.
FEWER = {
    "klines": [],
    "fine-tune": ["--steps", "2", "--validate-every", "2"],
    "backtest": ["--windows", "2", "--paths", "4"],
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_klines_become_a_model_that_is_scored_and_served(
    redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    section = (PROJECT / "README.md").read_text().split("## A model of your own market")[1].split("\n## ")[0]
    block = re.search(r"```sh\n(.*?)```", section, re.DOTALL)
    assert block is not None
    lines = [shlex.split(line) for line in block[1].splitlines() if not line.startswith("#")]
    assert [line[1] for line in lines if line[0] == "kronos-live"] == [*FEWER, "worker"]
    monkeypatch.chdir(tmp_path)
    with VenueServer(real=False) as server:
        monkeypatch.setenv("KRONOS_VENUES__BINANCE_URLS", server.url)
        monkeypatch.setenv("KRONOS_REDIS__URL", redis_url)
        for line in lines:
            if line[0] == "export":
                for setting in line[1:]:
                    monkeypatch.setenv(*setting.split("="))
            elif line[1] in FEWER:
                result = CliRunner().invoke(main, [*line[1:], *FEWER[line[1]]])
                assert result.exit_code == 0, result.output
    entries = [
        LedgerEntry.model_validate_json(line) for line in Path("backtest-btc/ledger.jsonl").read_text().splitlines()
    ]
    card = Path("runs/btc/Kronos-nano/MODEL_CARD.md").read_text()
    assert entries
    assert all(entry.model_sha256 in card for entry in entries), "it was the new model that was scored"
    assert not any(entry.seen_in_training for entry in entries)
    assert f"{read_card(Path('runs/btc/Kronos-nano')).trained_until:%Y-%m-%d}" == "2025-10-01"
