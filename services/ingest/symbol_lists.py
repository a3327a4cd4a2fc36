"""Keeps what the venues trade known: asked at the start and once a day, so that a mistyped symbol is refused at once.

A courtesy: where a venue does not tell, a fetch finds out. Knows no protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

from services.ingest.market import Market
from shared.errors import StoreUnavailableError
from shared.logs import get_logger
from shared.venue_symbols import VenueSymbols

EVERY_S = 86_400
AGAIN_AFTER_S = 600  # where a venue did not tell

log = get_logger(__name__)


class SymbolLists:
    """`wait` waits a number of seconds."""

    def __init__(self, market: Market, symbols: VenueSymbols, wait: Callable[[float], None]) -> None:
        self._market = market
        self._symbols = symbols
        self._wait = wait

    def run_forever(self) -> NoReturn:
        while True:
            self._wait(EVERY_S if self.refresh() else AGAIN_AFTER_S)

    def refresh(self) -> bool:
        """Ask every venue for its list and store it; whether all of them told."""
        listed = self._market.list_symbols()
        try:
            for venue, symbols in listed.items():
                if symbols is not None:
                    self._symbols.save(venue, symbols)
                    log.info("symbols_listed", venue=venue, symbols=len(symbols))
        except StoreUnavailableError as away:
            log.warning("symbols_not_stored", reason=away.message)
            return False
        return None not in listed.values()
