"""Weights from trainer ranks to engines through Moonshot's `checkpoint-engine` (§2.6.3), an optional extra.

Each trainer rank is also a parameter server: it keeps its share of the weights in page-locked host memory, the ranks
broadcast the shares bucket by bucket over NCCL, and an engine's worker on the same GPU reads each bucket from a buffer
that it maps (CUDA IPC). The workers' end is `infra.weights.weight_transfer.CheckpointEngineTransfer`.

Written against checkpoint-engine 0.4.2. It needs GPUs, and was not seen to work on one; what tests run without are the
workers' end and the package's side of the protocol between the two (tests/infra/weights/test_checkpoint_engine.py).
"""

import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

import torch
from torch import Tensor

NAME = "policy"
"""What the weights are called in the parameter server; there is one set of them."""

Sockets = dict[str, str]
"""Where the worker on each GPU finds its parameter server, by the GPU's UUID as NVML writes it."""


def share_of(weights: Iterable[tuple[str, Tensor]], rank: int, world: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights that one of `world` ranks serves, in the engine's dtype: every world-th, so that shares are alike.

    Uses up all weights, for the ranks put together sharded ones in step.
    """
    return {
        name: tensor.detach().to(dtype).contiguous()
        for place, (name, tensor) in enumerate(weights)
        if place % world == rank
    }


def _refuse(addresses: Sequence[str], error: BaseException) -> None:
    """Answer in place of workers that never came to their sockets: their parameter servers would wait for ever."""
    import zmq

    with zmq.Context() as context:
        for address in addresses:
            with context.socket(zmq.REP) as worker:
                worker.setsockopt(zmq.RCVTIMEO, 2000)
                worker.setsockopt(zmq.LINGER, 0)
                worker.connect(address)
                with suppress(zmq.Again):
                    worker.recv()  # the buffer's handle, unless a worker has it
                    worker.send_string(repr(error))
                    worker.recv()  # the end of the update


class WeightServer:
    """This trainer rank's parameter server. All ranks make one, once their process group is there.

    Raises ModuleNotFoundError without the package.
    """

    def __init__(self) -> None:
        from checkpoint_engine.ps import ParameterServer

        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        # The package would take MASTER_PORT + 1, which may be another's.
        port: list[int] = [0]
        if self.rank == 0:
            with socket.socket() as probe:
                probe.bind(("", 0))
                port = [probe.getsockname()[1]]
        torch.distributed.broadcast_object_list(port)
        # auto_pg would end the process group after an update, and with it DeepSpeed's.
        self._server = ParameterServer(auto_pg=False, master_port=port[0])

    def send(
        self, weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype, receive: Callable[[Sockets], None]
    ) -> None:
        """Give the workers all weights; every rank calls it, and returns once all workers have loaded them.

        Args:
            weights: under their Hugging Face names, whole, the same on each rank.
            dtype: the engine's.
            receive: makes the engines load what the sockets offer, and returns when they have. Called by the first
                rank alone, on a thread of its own.

        Raises:
            RuntimeError: where a worker could not load them, or `receive` raised.
        """
        failed: list[BaseException] = []

        def request(sockets: list[tuple[str, str]]) -> None:
            if self.rank == 0:
                try:
                    receive(dict(sockets))
                except BaseException as error:
                    failed.append(error)
                    _refuse(list(dict(sockets).values()), error)

        share = share_of(weights, self.rank, self.world, dtype)
        if share:
            # The pool's page-locked memory stays allocated between updates: the weights' shapes never change.
            self._server.register_checkpoint(NAME, named_tensors=share, use_shared_memory_pool=True)
        try:
            self._server.gather_metas(NAME)
            self._server.update(NAME, request)
        except RuntimeError:
            if not failed:
                raise
        finally:
            if share:
                self._server.unregister_checkpoint(NAME)
        if failed:
            raise RuntimeError(f"an engine did not take the weights that were offered: {failed[0]!r}") from failed[0]
