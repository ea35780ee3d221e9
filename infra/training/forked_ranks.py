"""The trainer ranks of one machine without GPUs: torchrun's agent, whose ranks are forks of one process.

That process has imported what they run: torch, transformers and DeepSpeed, which take seconds, are imported once, and
not once for each rank. Where there are GPUs, ranks are plain processes: what asks for the number of GPUs before a fork
makes CUDA unusable in it.
"""

import multiprocessing
import os
import sys
import traceback

from setproctitle import setthreadtitle
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

RANK = "infra.training.rank"


def run_rank(arguments: list[str]) -> None:
    """What a fork does: as `python -m infra.training.rank ARGUMENT…`."""
    from infra.training.rank import main

    setthreadtitle(f"rank {os.environ['RANK']}")  # as `ps` calls it
    try:
        main(arguments)
    except Exception:
        traceback.print_exc()  # torchrun would give its last line
        raise


def main() -> None:
    """Command line: python -m infra.training.forked_ranks RANKS ARGUMENT…, those of `infra.training.rank`."""
    ranks, *arguments = sys.argv[1:]
    multiprocessing.set_forkserver_preload([RANK])
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=int(ranks),
        run_id=arguments[0],
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="127.0.0.1",
        max_restarts=0,
        start_method="forkserver",
    )
    elastic_launch(config, run_rank)(arguments)


if __name__ == "__main__":
    main()
