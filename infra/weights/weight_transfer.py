"""How weights come into vLLM: Longhaul's own weight-transfer backends, and what its own CUDA IPC backend is sent.

- `in_process`: trainer and model share a process; tensors are passed by reference.
- `checkpoint_engine`: Moonshot's package offers buckets of weights in a buffer that the worker maps (CUDA IPC).
- `ipc`, vLLM's own: workers are processes of their own and map each tensor.

Importing this registers them. vLLM imports it in workers of their own too, where it is named as worker extension.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload


@dataclass
class NothingToAgreeOn(WeightTransferInitInfo):
    """Sent once, at the start."""


@dataclass
class InProcessUpdate(WeightTransferUpdateInfo):
    """One chunk of weights under their Hugging Face names, in the engine's dtype."""

    weights: list[tuple[str, torch.Tensor]] = field(default_factory=list)


UpdateT = TypeVar("UpdateT", bound=WeightTransferUpdateInfo)


class CheckpointFormat(WeightTransferEngine[NothingToAgreeOn, UpdateT]):
    """What our backends share: weights in checkpoint format, loaded layer by layer."""

    init_info_cls = NothingToAgreeOn

    def init_transfer_engine(self, init_info: NothingToAgreeOn) -> None:
        """Nothing to open."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load one chunk. vLLM's own would wait for an accelerator, which a CPU has not."""
        self.receive_weights(self.parse_update_info(update_info))

    def start_weight_update(self) -> None:
        """Prepare the layers for weights in checkpoint format."""
        initialize_layerwise_reload(self.model)

    def load(self, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Load one chunk.

        NOTE: a layer keeps the tensors, uncopied, until it has all of its own.
        """
        model: Any = self.model
        model.load_weights(weights)

    def finish_weight_update(self) -> None:
        """Rebuild what layers derive from their weights."""
        finalize_layerwise_reload(self.model, self.model_config)
        # Models that read images have their head in the language model.
        language: Any = getattr(self.model, "language_model", self.model)
        head: Any = getattr(language, "lm_head", None)
        if head is None:
            head = getattr(self.model, "lm_head", None)
        if head is not None and self.vllm_config.model_config.hf_config.tie_word_embeddings:
            # A tied head keeps its own packed copy on CPU, which reloading leaves stale.
            head.quant_method.process_weights_after_loading(head)

    def shutdown(self) -> None:
        """Nothing to close."""


class InProcessTransfer(CheckpointFormat[InProcessUpdate]):
    """Loads the trainer's tensors as a checkpoint is loaded, without a copy through disk or a socket."""

    update_info_cls = InProcessUpdate

    def receive_weights(self, update_info: InProcessUpdate) -> None:
        """Load one chunk."""
        self.load(update_info.weights)


@dataclass
class CheckpointEngineUpdate(WeightTransferUpdateInfo):
    """Where the worker on each GPU finds its parameter server, by the GPU's UUID."""

    sockets: dict[str, str]


class CheckpointEngineTransfer(CheckpointFormat[CheckpointEngineUpdate]):
    """Loads the buckets that the parameter server on the worker's own GPU offers. Needs the package and a GPU.

    The package's own worker extension writes into layers as they are; loading layer by layer is also right for layers
    that vLLM has rearranged.
    """

    update_info_cls = CheckpointEngineUpdate

    @cached_property
    def _zmq(self) -> Any:
        import zmq

        return zmq.Context()

    def receive_weights(self, update_info: CheckpointEngineUpdate) -> None:
        """Load all buckets. Raises KeyError where no parameter server has this GPU."""
        from checkpoint_engine.worker import update_weights_from_ipc
        from vllm.platforms import current_platform

        index = self.device.index or 0
        handle = update_info.sockets[current_platform.get_device_uuid(index)]
        update_weights_from_ipc(self._zmq, handle, index, run=self._load_bucket)

    def _load_bucket(self, weights: list[tuple[str, torch.Tensor]]) -> None:
        # The buffer is written again for the bucket after next, when a layer may still be waiting for its rest.
        self.load([(name, tensor.clone()) for name, tensor in weights])


def ipc_update(weights: Iterable[tuple[str, torch.Tensor]], workers: int) -> tuple[dict[str, Any], list[torch.Tensor]]:
    """What vLLM's `ipc` backend is sent: a handle of each weight for each worker, worker i being on the i-th GPU.

    A process maps only what lies on its own GPU, so each GPU gets a copy of the weights that are not there yet.

    Returns:
        The update, and the tensors behind its handles, which must live until the workers have loaded them.
    """
    from torch.multiprocessing.reductions import reduce_tensor

    gpus = [(f"cuda:{index}", str(torch.cuda.get_device_properties(index).uuid)) for index in range(workers)]
    update: dict[str, list[Any]] = {"names": [], "dtype_names": [], "shapes": [], "ipc_handles": []}
    tensors: list[torch.Tensor] = []
    for name, tensor in weights:
        handles = {}
        for device, uuid in gpus:
            tensors.append(tensor.to(device).contiguous())
            handles[uuid] = reduce_tensor(tensors[-1])[1]
        update["names"].append(name)
        update["dtype_names"].append(str(tensor.dtype).removeprefix("torch."))
        update["shapes"].append(list(tensor.shape))
        update["ipc_handles"].append(handles)
    return update, tensors


class WorkerExtension:
    """Adds nothing to a worker: vLLM imports this file to find it, and so registers our backends."""


_BACKENDS: dict[str, type[WeightTransferEngine[Any, Any]]] = {
    "in_process": InProcessTransfer,
    "checkpoint_engine": CheckpointEngineTransfer,
}
for _name, _backend in _BACKENDS.items():
    if _name not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine(_name, _backend)
