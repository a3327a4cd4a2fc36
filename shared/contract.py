"""The base of all values that services agree on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Contract(BaseModel):
    """What two services agree on: closed to unknown keys, so that a typing error is seen where it happens."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), ser_json_inf_nan="null")
