"""The base of all values that services agree on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

# Of what a job says to its worker: raised with each change that a worker of before could not read. A job carries the version
# that it was written in; whoever cannot read that leaves the job to workers that can.
JOB_VERSION = 1
VERSION = "version"  # its name in a job's meta


class Contract(BaseModel):
    """What two services agree on: closed to unknown keys, so that a typing error is seen where it happens."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), ser_json_inf_nan="null")
