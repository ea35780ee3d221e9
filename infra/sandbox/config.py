"""Which sandbox programs run in, and how it is opened."""

import os
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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
    service: str | None = Field(
        None,
        description="URL of a service to use in place of boxes here; its token: $LONGHAUL_SANDBOX_TOKEN.",
    )
    slots: int = Field(0, ge=0, le=1000, description="Programs at one time; 0: one for each core.")


BACKENDS: dict[str, type[Bubblewrap] | type[Crun]] = {"bubblewrap": Bubblewrap, "crun": Crun}

SANDBOX_VARIABLE = "LONGHAUL_SANDBOX"


def configured_sandbox() -> SandboxConfig:
    """What $LONGHAUL_SANDBOX says: auto, a backend, or a service's URL. Raises SandboxUnavailable for anything else.

    Not a key of the recipe: where programs run is the machine's affair, and changes nothing that a stage makes.
    """
    value = os.environ.get(SANDBOX_VARIABLE, "auto")
    try:
        if value.startswith(("http://", "https://")):
            return SandboxConfig(service=value)
        return SandboxConfig.model_validate({"backend": value})
    except ValidationError as error:
        names = ", ".join(BACKENDS)
        raise SandboxUnavailable(
            f"{SANDBOX_VARIABLE} is {value!r}; expected auto, {names}, or the URL of a service"
        ) from error


_opened: dict[str, None] = {}


def opened_sandboxes() -> list[str]:
    """What this process had programs run in since `forget_opened`: backends with what limits them, and services."""
    return list(_opened)


def forget_opened() -> None:
    """Begin a new list of opened sandboxes, for another stage."""
    _opened.clear()


def open_sandbox(config: SandboxConfig | None = None) -> Sandbox:
    """The sandbox that `config` names, or the one configured for this machine.

    Raises SandboxUnavailable saying what is missing, and what to install.
    """
    config = config or configured_sandbox()
    if config.service:
        from infra.sandbox.client import SandboxClient
        from infra.sandbox.token import read_token

        client = SandboxClient(config.service, read_token(None))
        _opened[f"the service {_without_password(config.service)}"] = None
        return client
    names = tuple(BACKENDS) if config.backend == "auto" else (config.backend,)
    slots = config.slots or len(os.sched_getaffinity(0))
    reasons: list[str] = []
    for name in names:
        try:
            sandbox = LocalSandbox(BACKENDS[name](), slots)
        except SandboxUnavailable as error:
            reasons.append(f"{name}: {error}")
        else:
            limits = "" if sandbox.has_groups else " without control groups"
            _opened[f"{name}{limits}" + "".join(f" (not {reason})" for reason in reasons)] = None
            return sandbox
    raise SandboxUnavailable("programs cannot be run safely here. " + "; ".join(reasons))


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
