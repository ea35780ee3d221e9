"""Which sandbox programs run in, and how it is opened."""

import os
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.sandbox.bubblewrap import Bubblewrap
from infra.sandbox.crun import Crun
from infra.sandbox.interface import Sandbox, SandboxUnavailable
from infra.sandbox.local import LocalSandbox


class SandboxConfig(BaseModel):
    """Where programs run."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: Literal["auto", "bubblewrap", "crun"] = Field(
        "auto", description="What makes the boxes; auto: bubblewrap, or crun where that does not work."
    )
    slots: int = Field(0, ge=0, le=1000, description="Programs at one time; 0: one for each core.")


BACKENDS = {"bubblewrap": Bubblewrap, "crun": Crun}


def open_sandbox(config: SandboxConfig = SandboxConfig()) -> Sandbox:  # noqa: B008 - it is frozen
    """The sandbox that is asked for. Raises SandboxUnavailable saying what is missing, and what to install."""
    names = tuple(BACKENDS) if config.backend == "auto" else (config.backend,)
    slots = config.slots or len(os.sched_getaffinity(0))
    reasons = []
    for name in names:
        try:
            return LocalSandbox(BACKENDS[name](), slots)
        except SandboxUnavailable as error:
            reasons.append(f"{name}: {error}")
    raise SandboxUnavailable("programs cannot be run safely here. " + "; ".join(reasons))
