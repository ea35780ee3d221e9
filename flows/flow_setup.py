"""What a flow's file does before it imports Metaflow: the engines' environment, and where Metaflow keeps its files."""

import os
from pathlib import Path

from infra.environment import enter_engine_environment


def enter_flow_environment() -> None:
    """Enter it; the process may start anew for that."""
    enter_engine_environment()
    # Metaflow's own files beside everything else that runs leave, rather than in the folder one happens to stand in.
    home = Path(os.environ.get("LONGHAUL_HOME", ".longhaul")).resolve()
    os.environ.setdefault("METAFLOW_DATASTORE_SYSROOT_LOCAL", str(home))
    os.environ.setdefault("METAFLOW_CARD_LOCALROOT", str(home / ".metaflow" / "mf.cards"))
    os.environ.setdefault("METAFLOW_USER", os.environ.get("USER") or "longhaul")
