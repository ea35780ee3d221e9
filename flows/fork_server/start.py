"""Whether a run has a fork server, and starting it.

A run on one machine has one, unless LONGHAUL_FORK_SERVER is `off`; not where there is a GPU: a library that begins to
use it when it is imported would break the forks, and what imports take is little there beside the work; nor where
engine or trainer are several processes.
"""

import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flows.fork_server.client import SOCKET

if TYPE_CHECKING:  # the guard of a flow imports this before it forks
    from steps.recipe import Recipe

SETTING = "LONGHAUL_FORK_SERVER"
"""`off` for a plain process for each step. By default a run has a fork server."""
ENGINES = "LONGHAUL_FORK_SERVER_ENGINES"
"""Set for a fork server that is to import engines too."""
SERVER = str(Path(__file__).resolve().with_name("server.py"))


def fork_server_variables(temporary: str, recipe: "Recipe", to_run: Collection[str]) -> dict[str, str]:
    """Environment variables for a flow whose steps are to be forks; none where they are not to be.

    Args:
        temporary: the run's folder for temporary files, which nobody else may read.
        to_run: the stages that are not reused.
    """
    if os.environ.get(SETTING) == "off" or os.path.exists("/dev/nvidiactl"):
        return {}
    # Ray and torchrun start processes of their own, which import again.
    if not recipe.engine.workers == recipe.engine.tensor_parallel == recipe.trainer.ranks == 1:
        return {}
    return {
        SOCKET: os.path.join(temporary, "fork-server"),
        **({ENGINES: "1"} if any(stage != "data" for stage in to_run) else {}),
    }


def start_fork_server(environment: Mapping[str, str] = os.environ) -> int | None:
    """Start the fork server that an environment names, to end with this process. Returns a descriptor of its process;
    None where none is named, or it cannot be started.

    It imports while Metaflow starts and the first step makes data.
    """
    if SOCKET not in environment:
        return None
    command = [sys.executable, SERVER, str(os.getpid())]
    try:
        # PYTHONUNBUFFERED is what Metaflow sets for steps.
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, env={**environment, "PYTHONUNBUFFERED": "x"})
    except OSError as error:
        print(f"No fork server ({error}): a plain process runs each step", file=sys.stderr, flush=True)
        return None
    return os.pidfd_open(process.pid)
