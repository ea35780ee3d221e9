"""The operators that DeepSpeed compiles for itself: one for messages between processes on a CPU, and its AdamW."""

import fcntl
import os
from pathlib import Path

from infra.environment import CACHE


def load_operators(fused_adam: bool = False) -> None:
    """Load the operators that DeepSpeed compiles at its first start, one process of this machine at a time.

    torch guards a compilation by a file, which a process that is killed leaves behind: all later ones would wait for
    it for ever, in silence. Whoever holds our lock, which ends with its process, knows such a file to be left over.
    """
    from deepspeed.accelerator import get_accelerator
    from deepspeed.comm.torch import build_shm_op

    folder = Path(os.environ.setdefault("TORCH_EXTENSIONS_DIR", str((CACHE / "torch_extensions").resolve())))
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "longhaul.lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        for name in ("deepspeed_shm_comm", "fused_adam"):
            (folder / name / "lock").unlink(missing_ok=True)
        build_shm_op()  # where there is no GPU
        if fused_adam:
            get_accelerator().create_op_builder("FusedAdamBuilder").load()
