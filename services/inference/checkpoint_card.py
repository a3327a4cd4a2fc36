"""What a checkpoint's card says to programs: the YAML head of MODEL_CARD.md beside its weights.

    ---
    sampling: {temperature: 1.0, top_p: 1.0}
    trained_until: 2025-01-01T00:00:00Z
    ---

Both are optional, as is the card: published checkpoints have none. A card comes with weights from anywhere, so it is read as a
stranger's text: no more of it than a head may be long, plain values alone, and what is wrong is told in few and plain
characters, since the sentence goes to logs, terminals and pages. Knows nothing of weights.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from shared.errors import CheckpointError

CARD_FILE = "MODEL_CARD.md"
LONGEST_HEAD = 10_000  # characters
LONGEST_TOLD = 60  # of what is wrong
# Of the original demo, for a checkpoint whose card says nothing.
USUAL_TEMPERATURE, USUAL_TOP_P = 0.6, 0.9
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
RIGHT = (
    "write it as sampling: {temperature: 1, top_p: 1} (above 0, to 5; above 0, to 1) and trained_until: 2025-01-01T00:00:00Z "
    "(a time with its offset, 1970 to 2100), or remove the card"
)


class _PlainLoader(yaml.SafeLoader):
    """Without aliases: a few lines of them stand for more than any memory holds."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("an alias")
        return super().compose_node(parent, index)


def _written_as_a_time(value: object) -> object:
    """A number would pass for seconds since 1970."""
    if not isinstance(value, datetime | str):
        raise ValueError("no time")
    return value


class CardSampling(BaseModel):
    """The temperature and top-p that suit a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(gt=0, le=5, strict=True, allow_inf_nan=False)] = USUAL_TEMPERATURE
    top_p: Annotated[float, Field(gt=0, le=1, strict=True, allow_inf_nan=False)] = USUAL_TOP_P


class Card(BaseModel):
    """`trained_until` is the first moment that the checkpoint was neither trained nor chosen on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sampling: CardSampling = CardSampling()
    trained_until: (
        Annotated[AwareDatetime, BeforeValidator(_written_as_a_time), Field(ge=EARLIEST, le=LATEST)] | None
    ) = None

    @property
    def trained_until_ms(self) -> int | None:
        return None if self.trained_until is None else round(self.trained_until.timestamp() * 1000)


def read_card(folder: Path) -> Card:
    """Of a checkpoint's folder; where there is no card, or it has no head, an empty one. Raises CheckpointError."""
    file = folder / CARD_FILE
    if not file.exists():
        return Card()
    try:
        head = _head(file)
        return Card() if head is None else Card.model_validate(_PlainLoader(head).get_single_data() or {})
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        where = ".".join(str(part) if str(part).isidentifier() else _told(part) for part in wrong["loc"]) or "it"
        raise _wrong(file, f"{where} is {_told(wrong['input'])}") from None
    except (OSError, ValueError, OverflowError, RecursionError, AttributeError, yaml.YAMLError):
        raise _wrong(file, "it cannot be read") from None


def _head(file: Path) -> str | None:
    """What stands between the first line, which is ---, and the next such line; None where the first is none."""
    if not file.is_file():
        raise OSError("a folder, or a pipe that would be waited for")
    with file.open(encoding="utf-8") as card:
        text = card.read(LONGEST_HEAD)
    if not re.match(r"---[ \t]*\n", text):
        return None
    if (found := re.match(r"---[ \t]*\n(.*?)^---[ \t]*$", text, re.DOTALL | re.MULTILINE)) is None:
        raise ValueError("it does not end")
    return found[1]


def _told(value: object) -> str:
    """As Python writes it, in ASCII and cut off where it is long."""
    try:
        words = ascii(value)
    except ValueError:  # an integer of more digits than Python writes
        return "a very large number"
    return words if len(words) <= LONGEST_TOLD else f"{words[:LONGEST_TOLD]}..."


def _wrong(file: Path, what: str) -> CheckpointError:
    return CheckpointError(f"The head of {file} is wrong: {what}; {RIGHT}.")
