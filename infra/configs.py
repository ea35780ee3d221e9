"""How engine, trainer and hand-over are configured.

These types import neither torch nor vLLM: a plan reads a recipe, and must not wait for an engine.
"""

import importlib.util
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Transport = Literal["memory", "checkpoint_engine"]
"""How weights reach an engine: within the machine, or through the package that infra/weights/checkpoint_engine.py
speaks to."""

Frozen = Literal["none", "vision", "language"]
"""What of a model that reads images is not trained: nothing, its vision tower with the projection, or the rest."""


class EngineConfig(BaseModel):
    """How vLLM runs."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of weights and activations.")
    context: int = Field(512, ge=16, description="Longest prompt plus response, in tokens.")
    workers: int = Field(1, ge=1, description="Rollout workers; 1 generates in the stage's own process.")
    max_sequences: int = Field(256, ge=1, description="Sequences that a worker generates at once.")
    max_batched_tokens: int = Field(
        4096, ge=64, description="Most tokens in one forward pass; longer prompts are computed in chunks."
    )
    block_size: int = Field(32, ge=16, description="Tokens per KV-cache block; short prefixes cache with small blocks.")
    kv_cache_mb: int | None = Field(64, ge=8, description="Size of the KV cache in MiB; null lets vLLM decide (GPU).")
    tensor_parallel: int = Field(1, ge=1, description="GPUs per engine.")
    gpu_memory_share: float = Field(0.5, gt=0, le=1, description="Share of GPU memory, where there is a GPU.")

    def batched_tokens(self, whole_prompts: bool = False) -> int:
        """Most tokens that vLLM puts into one forward pass: at least one of each sequence.

        Longer prompts are computed in chunks, unless an engine needs `whole_prompts`.
        """
        return max(self.max_batched_tokens, self.context if whole_prompts else self.max_sequences)


class TrainerConfig(BaseModel):
    """How DeepSpeed trains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of weights and activations.")
    ranks: int = Field(1, ge=1, description="Trainer processes; 1 trains in the stage's own process.")
    sequence_parallel: int = Field(
        1, ge=1, description="Ranks that share one row; it divides `ranks`, and the model's attention heads."
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(0, description="ZeRO stage: what is sharded over ranks.")
    fused_adam: bool = Field(False, description="DeepSpeed's AdamW, compiled at the first start, in place of torch's.")
    micro_batch_tokens: int = Field(8192, ge=64, description="Tokens in one forward and backward pass.")
    gradient_checkpointing: bool = Field(
        False, description="Keep each layer's input alone for the backward pass, and compute the rest again."
    )
    offload_activations: bool = Field(
        False,
        description="Where there is a GPU, gradient_checkpointing keeps the layers' inputs in the host's memory.",
    )
    logit_chunk_tokens: int | None = Field(
        None, ge=16, description="Tokens whose logits exist at once; null: those of a whole micro-batch."
    )
    clip_gradient_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's moving averages.")
    freeze: Frozen = Field(
        "none",
        description="What of a model that reads images is not trained: none, vision (tower and projection) or "
        "language. A stage's own `freeze` goes before it.",
        exclude_if=lambda value: value == "none",
    )

    def uneven_heads(self, queries: int, keys: int) -> str | None:
        """Why ranks cannot share rows of a model with so many attention heads, naming the key."""
        ranks = self.sequence_parallel
        if queries % ranks == 0 and keys % ranks == 0:
            return None
        return (
            f"trainer.sequence_parallel is {ranks}, and ranks that share a row have whole heads: the model has "
            f"{queries} for queries and {keys} for keys; give a number that divides both"
        )

    @model_validator(mode="after")
    def _possible(self) -> "TrainerConfig":
        if self.offload_activations and not self.gradient_checkpointing:
            raise ValueError(
                "offload_activations: only what gradient_checkpointing keeps is offloaded; set that to true as well"
            )
        if self.ranks % self.sequence_parallel:
            raise ValueError(
                f"sequence_parallel: {self.sequence_parallel} ranks share a row, which does not divide ranks, "
                f"{self.ranks}"
            )
        return self


class HandoverConfig(BaseModel):
    """How trainer and engine hand over."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share_device: bool = Field(False, description="Trainer and engine take turns in the GPU's memory.")
    transport: Transport = Field(
        "memory", description="How weights reach the engine: in memory, or through Moonshot's checkpoint-engine."
    )

    def check(self, engine: EngineConfig, trainer: TrainerConfig) -> None:
        """Raises ValueError, with the keys' names, for sections that cannot work together on any machine."""
        if self.share_device and trainer.zero_stage == 0:
            raise ValueError(
                "handover.share_device needs trainer.zero_stage 1, 2 or 3: DeepSpeed cannot offload what an optimizer "
                "without ZeRO holds"
            )
        if self.share_device and trainer.zero_stage == 3 and not trainer.fused_adam:
            raise ValueError(
                "handover.share_device with trainer.zero_stage 3 needs trainer.fused_adam: DeepSpeed offloads the "
                "shards of no other optimizer"
            )
        if self.transport == "checkpoint_engine" and engine.workers > 1:
            raise ValueError(f"handover.transport checkpoint_engine needs engine.workers 1, which is {engine.workers}")
        if self.transport == "checkpoint_engine" and trainer.ranks != engine.tensor_parallel:
            raise ValueError(
                f"handover.transport checkpoint_engine needs one trainer rank on each of the engine's GPUs: "
                f"trainer.ranks is {trainer.ranks}, engine.tensor_parallel {engine.tensor_parallel}"
            )

    def check_machine(self, engine: EngineConfig) -> None:
        """Raises HandoverRefused, with the key's name, for what this machine cannot do."""
        import torch

        gpus = torch.cuda.device_count()
        if self.share_device and not gpus:
            raise HandoverRefused("handover.share_device: there is no GPU here to share; set it to false")
        # Several workers may be on other machines of a Ray cluster.
        if engine.workers == 1 and engine.tensor_parallel > max(1, gpus):
            raise HandoverRefused(
                f"engine.tensor_parallel is {engine.tensor_parallel}, and this machine has {gpus} GPUs: lower it"
            )
        if self.transport == "checkpoint_engine":
            if importlib.util.find_spec("checkpoint_engine") is None:
                raise HandoverRefused(
                    "handover.transport checkpoint_engine: the package is not installed; "
                    "pip install 'longhaul[checkpoint-engine]', or set it to memory"
                )
            if not gpus:
                raise HandoverRefused(
                    "handover.transport checkpoint_engine: it moves weights between GPUs, and there is none here; "
                    "set it to memory"
                )


class HandoverRefused(RuntimeError):
    """A hand-over as configured cannot work on this machine; the message names the key and the way out."""
