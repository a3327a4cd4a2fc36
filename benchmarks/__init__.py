"""How fast the engine is, measured beside the slow way."""

from __future__ import annotations

import services.inference  # noqa: F401 - ahead of torch: it sets how torch's threads wait, as in the worker
