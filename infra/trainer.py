"""The trainer: DeepSpeed around a Hugging Face causal language model.

It knows rows of tokens and positions, log-probabilities, and optimizer steps on a loss that is handed in; what is
trained for is the recipe's business (`steps/`).
"""

import math
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForCausalLM

from infra.files import folder_written_aside


class TrainerConfig(BaseModel):
    """How DeepSpeed trains."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["float32", "bfloat16"] = Field("float32", description="Type of weights and activations.")
    zero_stage: Literal[0, 1, 2, 3] = Field(0, description="ZeRO stage: what is sharded over ranks.")
    micro_batch_tokens: int = Field(8192, ge=64, description="Tokens in one forward and backward pass.")
    clip_gradient_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this norm.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's weight decay.")
    betas: tuple[float, float] = Field((0.9, 0.95), description="AdamW's moving averages.")


class LossNotFinite(RuntimeError):
    """A loss or a gradient became NaN or infinite; no optimizer step was taken from it."""


@dataclass(frozen=True)
class LossValue:
    """What a loss makes of one micro-batch."""

    loss: Tensor
    """Scalar with a gradient: the micro-batch's share of the optimizer step's loss."""
    sums: dict[str, Tensor] = field(default_factory=dict)
    """What is worth watching, without a gradient; added up over the micro-batches of the step."""


@dataclass(frozen=True)
class StepResult:
    """What one optimizer step reports."""

    loss: float
    """Sum of the micro-batches' losses."""
    gradient_norm: float
    """Before clipping."""
    sums: dict[str, Tensor]
    """The micro-batches' sums, added up."""


class Rows(Protocol):
    """A micro-batch: tokens, positions, and whatever else the loss needs."""

    @property
    def tokens(self) -> Tensor:
        """[rows, length]"""
        ...

    @property
    def positions(self) -> Tensor:
        """[rows, length]"""
        ...


RowsT = TypeVar("RowsT", bound=Rows)


def _join_one_process_group() -> None:
    """DeepSpeed needs a process group even for one rank; torchrun's variables win where they are set."""
    if "MASTER_PORT" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")


class Trainer:
    """One policy under training."""

    def __init__(self, model: Path, config: TrainerConfig, seed: int) -> None:
        import deepspeed

        torch.manual_seed(seed)
        _join_one_process_group()
        self.config = config
        self.folder = model
        module = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, config.dtype), attn_implementation="sdpa", local_files_only=True
        )
        module.config.use_cache = False
        self.engine, *_ = deepspeed.initialize(
            model=module,
            config={
                "train_micro_batch_size_per_gpu": 1,
                "gradient_accumulation_steps": 1,
                "gradient_clipping": config.clip_gradient_norm,
                "zero_optimization": {"stage": config.zero_stage},
                "bf16": {"enabled": config.dtype == "bfloat16"},
                "optimizer": {
                    "type": "AdamW",
                    "params": {
                        "lr": 0.0,
                        "betas": list(config.betas),
                        "weight_decay": config.weight_decay,
                        "torch_adam": True,
                    },
                },
                "steps_per_print": 10**9,
            },
        )

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.engine.device

    def logprobs(self, tokens: Tensor, positions: Tensor, temperature: float = 1.0) -> Tensor:
        """Log-probability of each next token.

        Args:
            tokens: [rows, length]; several examples may stand in a row.
            positions: [rows, length]; starts again at 0 with each example, which also keeps attention inside it.
            temperature: logits are divided by it, as they were when sampling.

        Returns:
            [rows, length - 1] in float32: entry t is log p(tokens[t + 1] | tokens[: t + 1] of the same example).
        """
        tokens = tokens.to(self.device)
        logits = self.engine(input_ids=tokens, position_ids=positions.to(self.device), use_cache=False).logits
        logits = logits[:, :-1].float()
        if temperature != 1.0:
            logits = logits / temperature
        flat = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
        return -flat.view(tokens.shape[0], -1)

    @torch.no_grad()
    def reference_logprobs(self, batches: Sequence[Rows], temperature: float = 1.0) -> list[Tensor]:
        """`logprobs` of each micro-batch under the weights as they are now, without a gradient, on the CPU."""
        return [self.logprobs(batch.tokens, batch.positions, temperature).cpu() for batch in batches]

    def step(
        self,
        batches: Sequence[RowsT],
        loss: Callable[[Tensor, RowsT], LossValue],
        learning_rate: float,
        temperature: float = 1.0,
    ) -> StepResult:
        """One optimizer step on the sum of the micro-batches' losses.

        Args:
            loss: from a micro-batch's log-probabilities [rows, length - 1], and the batch, to its share of the loss.

        Raises:
            LossNotFinite: before the weights are touched.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        total, sums = 0.0, dict[str, Tensor]()
        for number, batch in enumerate(batches, 1):
            last = number == len(batches)
            value = loss(self.logprobs(batch.tokens, batch.positions, temperature), batch)
            if not torch.isfinite(value.loss):
                self.engine.zero_grad()
                raise LossNotFinite(f"the loss of micro-batch {number} of {len(batches)} is {value.loss.item()}")
            self.engine.set_gradient_accumulation_boundary(last)
            self.engine.backward(value.loss)
            norm = self._gradient_norm() if last and self.config.zero_stage == 0 else None
            self.engine.step()
            total += value.loss.item()
            for name, tensor in value.sums.items():
                sums[name] = sums[name] + tensor.cpu() if name in sums else tensor.cpu()
        # Sharded gradients have their norm taken by DeepSpeed, in the step.
        return StepResult(total, norm if norm is not None else float(self.engine.get_global_grad_norm()), sums)

    def _gradient_norm(self) -> float:
        norms = [p.grad.norm() for p in self.engine.module.parameters() if p.grad is not None]
        norm = torch.stack(norms).norm().item()
        if not math.isfinite(norm):
            self.engine.zero_grad()
            raise LossNotFinite("a gradient is not finite although the loss is")
        return norm

    def reset_optimizer(self) -> None:
        """Forget the moving averages, without rebuilding the engine (§2.3.2: at the start of every iteration)."""
        optimizer = self.engine.optimizer
        getattr(optimizer, "optimizer", optimizer).state.clear()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """All weights under their Hugging Face names, tied ones once."""
        seen: set[int] = set()
        for name, parameter in self.engine.module.named_parameters():
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter.data

    def load_weights(self, model: Path) -> None:
        """Go on from the weights of another checkpoint of the same shape; the optimizer starts anew."""
        source = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, self.config.dtype), local_files_only=True
        )
        with torch.no_grad():
            own = dict(self.engine.module.named_parameters())
            for name, parameter in source.named_parameters():
                own[name].copy_(parameter)
        self.reset_optimizer()

    def save(self, folder: Path) -> Path:
        """Write a complete Hugging Face checkpoint, tokenizer included, whole or not at all."""
        with folder_written_aside(folder) as aside:
            self.engine.module.save_pretrained(aside)
            for file in self.folder.iterdir():
                # The weights and their index are the trainer's own; everything else belongs to the tokenizer.
                if file.is_file() and ".safetensors" not in file.name and not (aside / file.name).exists():
                    shutil.copyfile(file, aside / file.name)
        return folder

    def close(self) -> None:
        """Leave the process group."""
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
