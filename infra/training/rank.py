"""A trainer rank's process, started by `infra.training.ranks`: does with its `Trainer` what the driver requests.

The first rank talks to the driver, and passes its messages on to the others.
"""

import os
import pickle
import shutil
import sys
import threading
import traceback
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any, cast

from safetensors.torch import save_file
from torch import distributed

from infra.configs import TrainerConfig
from infra.training.interface import Head
from infra.training.trainer import Trainer
from infra.weights.checkpoint_engine import Sockets

KEY = "LONGHAUL_RANKS_KEY"
"""The environment variable with the key that driver and first rank know each other by, in hexadecimal digits."""

_FOREVER = timedelta(days=365)
"""Ranks wait for the next call as long as a rollout takes."""

_TOGETHER = timedelta(seconds=20)
"""How long a rank that came out of a call with an exception waits for the others to come out as well."""


class Failed:
    """In place of an answer: what the ranks raised."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class ToReceive:
    """Before an answer: the driver is to have the engines receive weights."""

    def __init__(self, sockets: Sockets) -> None:
        self.sockets = sockets


class _Rank:
    """One rank's process. The first one talks to the driver."""

    def __init__(self, place: Path, model: Path, config: TrainerConfig, seed: int, head: Head) -> None:
        self.place = place
        self.trainer = Trainer(model, config, seed, head)
        # A group of their own: the trainer's may be NCCL's, and gives up when nothing happens for half an hour.
        self.group = distributed.new_group(timeout=_FOREVER, backend="gloo")
        distributed.barrier(self.group)
        self.driver: Connection | None = None
        if self.trainer.rank == 0:
            key = bytes.fromhex(os.environ[KEY])
            with Listener(str(place / "socket"), family="AF_UNIX", authkey=key) as listener:
                self.driver = listener.accept()

    def serve(self) -> None:
        """Do what the driver requests, until it ends or is gone."""
        while message := self._next_message():
            answer, error = None, None
            try:
                answer = self._answer(*pickle.loads(message))
            except Exception as exception:  # whatever it is, the driver is to know
                error = Failed(_picklable(exception))
            # Where one rank alone has failed, the others may wait for it for ever: this ends it, and torchrun the rest.
            distributed.monitored_barrier(self.group, _TOGETHER if error else _FOREVER)
            errors: list[Failed | None] = [None] * self.trainer.world
            distributed.all_gather_object(errors, error, self.group)
            if self.driver:
                first = next((one for one in errors if one), None)
                self.driver.send_bytes(pickle.dumps(first or answer))
        self.trainer.close()

    def _next_message(self) -> bytes:
        """The driver's next message, on all ranks; nothing at the end."""
        message = [b""]
        if self.driver:
            with suppress(EOFError, OSError):
                message = [self.driver.recv_bytes()]
        distributed.broadcast_object_list(message, 0, self.group)
        return message[0]

    def _answer(self, method: str, arguments: tuple[Any, ...]) -> Any:
        if method == "weights":
            return self._weights()
        if method == "send_weights":
            (dtype,) = arguments
            return self.trainer.send_weights(dtype, self._receive)
        answer = getattr(self.trainer, method)(*arguments)
        return answer if method in ("reference_logprobs", "step") else None

    def _weights(self) -> str:
        """The name of a file with the weights, for the driver to remove."""
        whole = {name: tensor.cpu().contiguous() for name, tensor in self.trainer.weights()}
        file = self.place / "weights.safetensors"
        if self.driver:
            save_file(whole, file)
        return str(file)

    def _receive(self, sockets: Sockets) -> None:
        assert self.driver, "only the first rank has the weights received"
        self.driver.send_bytes(pickle.dumps(ToReceive(sockets)))
        self.driver.recv_bytes()


def _picklable(error: Exception) -> Exception:
    """The error with its traceback as a note; as a RuntimeError where it cannot be pickled."""
    error.add_note("In a trainer rank:\n" + "".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # an error may fail to be pickled in any way it likes
        return RuntimeError("".join(traceback.format_exception(error)))
    return error


def _end_with_the_driver(place: Path) -> None:
    """Wait for the driver's end of standard input to be closed, as it is when the driver ends."""
    while os.read(0, 1):
        pass
    shutil.rmtree(place, ignore_errors=True)
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Command line: python -m infra.training.rank PLACE MODEL CONFIG SEED HEAD, under torchrun."""
    place, model, config, seed, head = arguments
    threading.Thread(target=_end_with_the_driver, args=(Path(place),), daemon=True).start()
    _Rank(Path(place), Path(model), TrainerConfig.model_validate_json(config), int(seed), cast(Head, head)).serve()


if __name__ == "__main__":
    # What is sent has to be of this module by its name, for the driver to know it.
    from infra.training.rank import main as main_by_name

    main_by_name(sys.argv[1:])
