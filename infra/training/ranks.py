"""Several trainer ranks: torchrun starts a process per rank, on this machine or on all nodes of the group that this
process leads (infra/cluster/group.py), and this one sends them calls.

`TrainerRanks` has the methods of `infra.training.trainer.Trainer`. Each call is one message to the first rank, which
passes it to the others; every rank then does the same with its own `Trainer`, and the first one answers. An exception
that the ranks come out of together, LossNotFinite for instance, is raised here as it is, and they are ready for the
next call.

Weights come back in Hugging Face's safetensors format through shared memory (§2.6.3).

The ranks end with this process, however it ends: they watch their standard input, whose other end it holds.
"""

import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoConfig

from infra.cluster.group import current_group
from infra.cluster.placement import layout
from infra.configs import TrainerConfig
from infra.environment import shared_engine_environment
from infra.training.interface import Head, LossValue, Rows, RowsT, StepResult
from infra.training.rank import KEY, Failed, ToReceive
from infra.training.sequence import check_heads
from infra.training.trainer import Trainer
from infra.weights.checkpoint_engine import Sockets

RANK, FORKED = "infra.training.rank", "infra.training.forked_ranks"
SHARED_MEMORY = Path("/dev/shm")
_CODE = Path(__file__).resolve().parents[2]


class TrainerRankDied(RuntimeError):
    """A trainer rank ended by itself, and so all have: what was in training is lost. A new TrainerRanks may start."""


class TrainerRanks:
    """One policy under training by `config.ranks` processes. Any method may raise TrainerRankDied."""

    def __init__(self, model: Path, config: TrainerConfig, seed: int, head: Head = "next_token") -> None:
        gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
        self._group = current_group()
        if gpus and self._group is None and gpus < config.ranks:
            raise ValueError(f"trainer.ranks is {config.ranks}, and this machine has {gpus} GPUs")
        if config.sequence_parallel > 1:
            check_heads(AutoConfig.from_pretrained(model, local_files_only=True, trust_remote_code=False), config)
        self.config = config
        self.folder = model
        self._place = Path(tempfile.mkdtemp(prefix=f"longhaul-ranks-{os.getpid()}-", dir=SHARED_MEMORY))
        self._printed: deque[str] = deque(maxlen=60)
        self._connection: Connection | None = None
        self._in_call = False
        key = os.urandom(32)
        arguments = (str(self._place), str(model.absolute()), config.model_dump_json(), str(seed), head)
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        if self._group is None:
            plain = ["torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node"]
            launcher = [*plain, str(config.ranks), "-m", RANK] if gpus else [FORKED, str(config.ranks)]
            self._process = subprocess.Popen(
                [sys.executable, "-m", *launcher, *arguments],
                env=_environment(config.ranks) | {KEY: key.hex()},
                # Ctrl-C is for this process, which then ends the ranks.
                start_new_session=True,
                **streams,
            )
        else:
            placed = layout(config.ranks, self._group.node.count, gpus)
            self._group.share(model)
            own = {KEY: key.hex()}
            self._process = self._group.launch(placed, RANK, arguments, env=own, **streams)
        self._reader = threading.Thread(target=self._collect_output, daemon=True)
        self._reader.start()
        try:
            self._connection = self._connect(key)
        except BaseException:
            self._end()
            raise

    def _connect(self, key: bytes) -> Connection:
        """The first rank listens once all ranks are ready."""
        while True:
            try:
                return Client(str(self._place / "socket"), family="AF_UNIX", authkey=key)
            except (FileNotFoundError, ConnectionRefusedError):
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(0.1)
                    raise self._died() from None

    def _collect_output(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._printed.append(line.decode(errors="replace"))
            # Where an engine of this process would print: to the stage's log.
            with suppress(OSError):
                os.write(2, line)

    def _died(self) -> TrainerRankDied:
        self._end()
        return TrainerRankDied(
            f"one of {self.config.ranks} trainer ranks died. Their last output:\n{''.join(self._printed)}"
        )

    def _call(self, method: str, *arguments: Any, receive: Callable[[Sockets], None] | None = None) -> Any:
        """What the first rank answers. It may request one call of `receive` before."""
        if self._connection is None:
            raise TrainerRankDied("the trainer ranks have ended")
        self._in_call = True
        try:
            self._connection.send_bytes(pickle.dumps((method, arguments)))
            while isinstance(answer := self._next_message(), ToReceive):
                assert receive
                receive(answer.sockets)
                self._connection.send_bytes(b"")
        except (EOFError, OSError):
            raise self._died() from None
        self._in_call = False
        if isinstance(answer, Failed):
            raise answer.error
        return answer

    def _next_message(self) -> Any:
        assert self._connection
        while not self._connection.poll(0.2):
            # A rank that waits for a dead one says nothing; torchrun notices, and ends them all.
            if self._process.poll() is not None:
                raise EOFError
        return pickle.loads(self._connection.recv_bytes())

    def reference_logprobs(self, batches: Sequence[Rows], temperature: float = 1.0) -> list[Tensor]:
        """See Trainer."""
        self._share_images(batches)
        return self._call("reference_logprobs", batches, temperature)

    def step(
        self,
        batches: Sequence[RowsT],
        loss: Callable[[Tensor, RowsT], LossValue],
        learning_rate: float,
        temperature: float = 1.0,
    ) -> StepResult:
        """See Trainer. The loss and the micro-batches are pickled."""
        self._share_images(batches)
        return self._call("step", batches, loss, learning_rate, temperature)

    def _share_images(self, batches: Sequence[Rows]) -> None:
        """Ranks read images where they lie here."""
        if self._group is not None:
            for folder in {image.parent for batch in batches for image in batch.images}:
                self._group.share(folder)

    def reset_optimizer(self) -> None:
        """See Trainer."""
        self._call("reset_optimizer")

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """See Trainer. The weights are on the CPU, and the caller's own."""
        file = self._call("weights")
        weights = load_file(file)
        os.unlink(file)
        yield from weights.items()

    def send_weights(self, dtype: str, receive: Callable[[Sockets], None]) -> None:
        """See Trainer."""
        self._call("send_weights", dtype, receive=receive)

    def offload(self, part: Literal["optimizer", "weights"]) -> None:
        """See Trainer."""
        self._call("offload", part)

    def onload(self) -> None:
        """See Trainer."""
        self._call("onload")

    def load_weights(self, model: Path) -> None:
        """See Trainer."""
        if self._group is not None:
            self._group.share(model)
        self._call("load_weights", model.absolute())

    def save(self, folder: Path) -> Path:
        """See Trainer."""
        self._call("save", folder.absolute())
        return folder

    def close(self) -> None:
        """End the ranks: in good order, unless they are in the middle of a call."""
        if self._connection is not None and not self._in_call:
            with suppress(OSError, subprocess.TimeoutExpired):
                self._connection.send_bytes(b"")
                self._process.wait(20)
        self._end()

    def _end(self) -> None:
        """See that nothing is left of the ranks."""
        assert self._process.stdin
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._group is not None:
            self._group.end_ranks()
        self._reader.join(5)
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        shutil.rmtree(self._place, ignore_errors=True)


AnyTrainer = Trainer | TrainerRanks
"""A model under training, in this process or in several."""


def open_trainer(model: Path, config: TrainerConfig, seed: int, head: Head = "next_token") -> AnyTrainer:
    """A trainer with as many ranks as the configuration says."""
    return (TrainerRanks if config.ranks > 1 else Trainer)(model, config, seed, head)


def _environment(ranks: int) -> dict[str, str]:
    """The ranks' environment variables."""
    environment = os.environ | shared_engine_environment(ranks)
    paths = [str(_CODE), environment.get("PYTHONPATH", "")]
    return environment | {
        # Losses and micro-batches are unpickled by the names of their modules.
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONUNBUFFERED": "1",
        # DeepSpeed's collectives warn at every call.
        "PYTHONWARNINGS": "ignore::FutureWarning",
        # Gloo would otherwise look up this machine's name, and listen where others can reach it.
        "GLOO_SOCKET_IFNAME": "lo",
    }
