"""A vLLM weight-transfer backend for a trainer that shares the engine's process: tensors are passed by reference."""

from dataclasses import dataclass, field
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload


@dataclass
class InProcessInit(WeightTransferInitInfo):
    """Nothing has to be agreed on."""


@dataclass
class InProcessUpdate(WeightTransferUpdateInfo):
    """One chunk of weights under their Hugging Face names, in the engine's dtype."""

    weights: list[tuple[str, torch.Tensor]] = field(default_factory=list)


class InProcessTransfer(WeightTransferEngine[InProcessInit, InProcessUpdate]):
    """Loads the trainer's tensors as a checkpoint is loaded, without a copy through disk or a socket."""

    init_info_cls = InProcessInit
    update_info_cls = InProcessUpdate

    def init_transfer_engine(self, init_info: InProcessInit) -> None:
        """Nothing to open."""

    def start_weight_update(self) -> None:
        """Prepare the layers for weights in checkpoint format."""
        initialize_layerwise_reload(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Load one chunk."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: InProcessUpdate) -> None:
        """Load one chunk."""
        model: Any = self.model
        model.load_weights(iter(update_info.weights))

    def finish_weight_update(self) -> None:
        """Rebuild what layers derive from their weights."""
        finalize_layerwise_reload(self.model, self.model_config)
        head: Any = getattr(self.model, "lm_head", None)
        if head is not None and self.vllm_config.model_config.hf_config.tie_word_embeddings:
            # A tied head keeps its own packed copy on CPU, which reloading leaves stale.
            head.quant_method.process_weights_after_loading(head)

    def shutdown(self) -> None:
        """Nothing to close."""
