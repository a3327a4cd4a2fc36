"""What a checkpoint's card says to programs: the YAML head of MODEL_CARD.md beside its weights.

    ---
    sampling: {temperature: 1.0, top_p: 1.0}
    trained_until: 2025-01-01T00:00:00Z
    ---

Both are optional, as is the card: published checkpoints have none. Knows nothing of weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from shared.errors import CheckpointError

CARD_FILE = "MODEL_CARD.md"
LONGEST_HEAD = 10_000  # characters
# Of the original demo, for a checkpoint whose card says nothing.
USUAL_TEMPERATURE, USUAL_TOP_P = 0.6, 0.9


class CardSampling(BaseModel):
    """The temperature and top-p that suit a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: Annotated[float, Field(gt=0, le=5)] = USUAL_TEMPERATURE
    top_p: Annotated[float, Field(gt=0, le=1)] = USUAL_TOP_P


class Card(BaseModel):
    """`trained_until` is the first moment that the checkpoint was neither trained nor chosen on."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sampling: CardSampling = CardSampling()
    trained_until: AwareDatetime | None = None

    @property
    def trained_until_ms(self) -> int | None:
        return None if self.trained_until is None else round(self.trained_until.timestamp() * 1000)


def read_card(folder: Path) -> Card:
    """Of a checkpoint's folder; where there is no card, or it has no head, an empty one. Raises CheckpointError."""
    file = folder / CARD_FILE
    if not file.exists():
        return Card()
    try:
        with file.open(encoding="utf-8") as card:
            head = card.read(LONGEST_HEAD)
        if not head.startswith("---\n"):
            return Card()
        return Card.model_validate(yaml.safe_load(head.split("---\n", 2)[1]) or {})
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        wrong = error.errors()[0] if isinstance(error, ValidationError) else None
        where = f"{'.'.join(map(str, wrong['loc'])) or 'it'} is {wrong['input']!r}" if wrong else "it cannot be read"
        raise CheckpointError(
            f"The head of {file} is wrong: {where}; write it as sampling: {{temperature: 1, "
            f"top_p: 1}} and trained_until: 2025-01-01T00:00:00Z, or remove the card."
        ) from None
