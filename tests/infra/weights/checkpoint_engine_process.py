"""Run by tests as a process of its own: weights through the real checkpoint-engine package, without a GPU.

python checkpoint_engine_process.py MODEL LOG, which prints as JSON:

    refused    what a hand-over to an engine says that has no receiving end, and so never comes to its socket
    after      after each of two later hand-overs, with training before each: the largest difference between the
               engine's log-probabilities and the trainer's
    before     the same before the second of them

Everything is real but what needs a GPU, for which this file puts stand-ins into the package: CUDA's memory,
page-locking and UUIDs, and the buffer that two processes map, which is here a tensor of this one process. So what is
shown is that both ends speak the package's protocol, not that they do so across processes or GPUs.
"""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from infra.configs import EngineConfig, HandoverConfig, TrainerConfig
from infra.inference.engine import Engine
from infra.progress.logs import output, quiet_to
from infra.training.trainer import Trainer
from infra.weights.handover import HandOver
from tests.infra.engine_process import mismatch, train_a_little

OFFERED: list[Tensor] = []
"""The buffer that a GPU's worker would map."""


class HostDevice:
    """Stands in for the package's DeviceManager, which knows GPUs only."""

    device_type, backend = "cpu", "gloo"
    device_module = SimpleNamespace(
        device_count=lambda: 1,
        set_device=lambda index: None,
        get_device_properties=lambda index: SimpleNamespace(uuid="0"),
        mem_get_info=lambda: (2**24, 2**24),
        memory_allocated=lambda: 0,
        memory_reserved=lambda: 0,
        synchronize=lambda: None,
        ipc_collect=lambda: None,
        empty_cache=lambda: None,
    )


def mapped(*handle: Any) -> Tensor:
    """Stands in for mapping the memory behind a CUDA IPC handle."""
    return OFFERED[-1]


def offer(buffer: Tensor) -> tuple[Any, tuple[Any, ...]]:
    """Stands in for making such a handle; the receiver puts its device at place 6."""
    OFFERED.append(buffer)
    return mapped, (None,) * 7


def stand_in() -> None:
    """Put the stand-ins into the package."""
    import checkpoint_engine.pin_memory
    import checkpoint_engine.ps
    import checkpoint_engine.worker
    from vllm.platforms import current_platform

    class Unpinned:
        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

        @staticmethod
        def empty(*shape: Any, pin_memory: bool = False, **options: Any) -> Tensor:
            return torch.empty(*shape, **options)

    checkpoint_engine.pin_memory.torch = Unpinned()
    checkpoint_engine.ps.DeviceManager = checkpoint_engine.worker.DeviceManager = HostDevice
    checkpoint_engine.ps.reduce_tensor = offer
    uuid: Any = classmethod(lambda platform, index=0: "GPU-0")
    setattr(type(current_platform), "get_device_uuid", uuid)  # noqa: B010  (mypy refuses an assignment to a method)


def receive_in_process(engine: Engine) -> None:
    """Give the engine's worker, which is in this process, the receiving end."""

    def change(wrapper: Any) -> None:
        from infra.weights.weight_transfer import CheckpointEngineTransfer

        worker = wrapper.worker
        old = worker.weight_transfer_engine
        worker.weight_transfer_engine = CheckpointEngineTransfer(old.config, old.vllm_config, old.device, old.model)

    engine.llm.collective_rpc(change)


def main() -> None:
    """Command line."""
    model, log = Path(sys.argv[1]), Path(sys.argv[2])
    # Buckets smaller than the model, so that a layer's weights come in several.
    os.environ["PS_MAX_BUCKET_SIZE_GB"] = str(2**18 / 2**30)
    with quiet_to(log):
        trainer = Trainer(model, TrainerConfig(), seed=0)
        engine = Engine(model, EngineConfig(max_sequences=64))
        stand_in()
        turns = HandOver(trainer, engine, HandoverConfig(transport="checkpoint_engine"))
        refused = ""
        try:
            turns.to_rollout()
        except RuntimeError as error:
            refused = str(error)
        receive_in_process(engine)
        before, after = list[float](), list[float]()
        for _ in range(2):
            train_a_little(trainer)
            if after:
                before.append(mismatch(engine, trainer))
            turns.to_rollout()
            after.append(mismatch(engine, trainer))
            turns.to_training()
        output.write(json.dumps({"refused": refused, "before": before, "after": after}))
        output.flush()


if __name__ == "__main__":
    main()
