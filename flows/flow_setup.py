"""What a flow's file does before it imports Metaflow: a guard over the process, the engines' environment, and where
Metaflow keeps its files."""

import os

from flows.guard import enter_guard
from infra.environment import HOME, enter_engine_environment


def enter_flow_environment() -> None:
    """Set them; the process may restart for that."""
    enter_guard()
    enter_engine_environment()
    # Metaflow's own files beside everything else that runs leave, rather than in the folder one happens to stand in.
    home = HOME.resolve()
    os.environ.setdefault("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(home))
    os.environ.setdefault("METAFLOW_CARD_LOCALROOT", str(home / ".metaflow" / "mf.cards"))
    os.environ.setdefault("METAFLOW_USER", os.environ.get("USER") or "longhaul")
