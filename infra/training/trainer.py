"""The trainer: DeepSpeed around a Hugging Face causal language model, or around one whose head gives a value.

It knows rows of tokens and positions, log-probabilities or values, and optimizer steps on a loss that is handed in;
what is trained for is the recipe's business (`steps/`).

`Trainer` is one rank. Under torchrun's variables there are several: every rank then calls the same methods with the
same arguments in the same order, the micro-batches are spread over the ranks, and every rank returns the same.
`infra/training/ranks.py` does that for a process that is not a rank itself.
"""

import json
import math
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional
from transformers import AutoModelForSequenceClassification
from transformers.modeling_layers import GradientCheckpointingLayer

from infra.configs import TrainerConfig
from infra.errors import LonghaulError
from infra.files import folder_written_aside
from infra.training.attention import PACKED
from infra.training.chunked_head import with_chunked_head, without
from infra.training.images import images_of
from infra.training.interface import PADDING, Head, LossNotFinite, LossValue, Rows, RowsT, StepResult
from infra.training.operators import load_operators
from infra.training.out_of_memory import named_when_out_of_memory
from infra.training.sequence import RowPart, SequenceGroup, check_heads
from infra.vision.architectures import image_tokens
from infra.vision.models import attention, model_class
from infra.weights.checkpoint_engine import Sockets, WeightServer

_GENERATION = "generation_config.json"


def _join_one_process_group() -> None:
    """DeepSpeed needs a process group even for one rank; torchrun's variables win where they are set."""
    if "MASTER_PORT" not in os.environ:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")


def _checkpoint_layers(module: Any, offload: bool) -> None:
    """Have each layer compute again in the backward pass what it did not store; its input stays here, or on the host.

    A layer does so in training mode only, and its parts stay out of it: whatever dropout they have stays off.
    """
    module.gradient_checkpointing_enable({"use_reentrant": False}, offload=offload)
    for layer in module.modules():
        if isinstance(layer, GradientCheckpointingLayer):
            layer.training = True


class Trainer:
    """One model under training, or one rank of it.

    A value head that the checkpoint does not have yet begins with random weights, from the seed.
    """

    def __init__(self, model: Path, config: TrainerConfig, seed: int, head: Head = "next_token") -> None:
        import deepspeed

        torch.manual_seed(seed)
        load_operators(config.fused_adam)
        _join_one_process_group()
        self.config = config
        self.folder = model
        self.head = head
        module = self._load(model)
        module.config.use_cache = False
        check_heads(module.config, config)
        self._left_out = image_tokens(model) if head == "next_token" else ()
        chunk = config.logit_chunk_tokens if head == "next_token" else None
        self._chunked = None if chunk is None else with_chunked_head(module, chunk, self._left_out)
        self._images = images_of(module, model, config, values=head == "value")
        if config.gradient_checkpointing:
            _checkpoint_layers(module, config.offload_activations and torch.cuda.is_available())
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
                        "torch_adam": not config.fused_adam,
                    },
                },
                "steps_per_print": 10**9,
            },
        )
        self.rank, self.world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        # A value is of a whole row: ranks then have rows of their own.
        self._sequence = SequenceGroup(config.sequence_parallel if head == "next_token" else 1)
        # Some of DeepSpeed's optimizers begin with a step on zeros, which the bias correction would count.
        self.reset_optimizer()

    def _load(self, model: Path) -> Any:
        options: dict[str, Any] = {"num_labels": 1} if self.head == "value" else {}
        config = json.loads((model / "config.json").read_bytes())
        kind = AutoModelForSequenceClassification if self.head == "value" else model_class(config)
        module = kind.from_pretrained(
            model,
            dtype=getattr(torch, self.config.dtype),
            attn_implementation=attention(config, PACKED),
            local_files_only=True,
            trust_remote_code=False,
            **options,
        )
        if self.head == "value":
            # By it the model finds a row's last token; some checkpoints have none, or one that ends prompts.
            module.config.get_text_config().pad_token_id = PADDING
        return module

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.engine.device

    def logprobs(self, rows: Rows, temperature: float = 1.0) -> Float[Tensor, "rows predictions"]:
        """Log-probability of each next token.

        Args:
            rows: several examples may stand in a row; attention stays inside each.
            temperature: logits are divided by it, as they were when sampling.

        Returns:
            In float32: entry t is log p(tokens[t + 1] | tokens[: t + 1] of the same example). Tokens that stand for
            images cannot be sampled: their probability is 0, and what stands for them here has no meaning.
        """
        part = self._part(rows)
        targets = self._sampled(part.targets)
        if self._chunked is not None:
            self._chunked.targets, self._chunked.temperature = targets, temperature
            logprobs = self._forward(part, rows.images)
        else:
            logits = without(self._forward(part, rows.images).float(), self._left_out)
            if temperature != 1.0:
                logits = logits / temperature
            losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
            logprobs = -losses.view(targets.shape)
        return self._sequence.join(logprobs, rows.tokens.shape[1] - 1)

    def values(self, rows: Rows) -> Float[Tensor, "rows"]:
        """What the value head gives for each row, at its last token that is not PADDING.

        Args:
            rows: one example in a row, PADDING after it.

        Returns:
            One value for each row, in float32.
        """
        return self._forward(self._part(rows), ())[:, 0].float()

    def _part(self, rows: Rows) -> RowPart:
        tokens, positions = rows.tokens.to(self.device), rows.positions.to(self.device)
        return self._sequence.part(tokens, positions, rows.example_lengths, PADDING)

    def _sampled(self, targets: Int[Tensor, "rows part"]) -> Int[Tensor, "rows part"]:
        """Targets of which each has a probability: an infinite loss would make others' gradients NaN."""
        if not self._left_out:
            return targets
        unsampled = torch.isin(targets, torch.tensor(self._left_out, device=targets.device))
        return targets.masked_fill(unsampled, PADDING)

    def _forward(self, part: RowPart, images: Sequence[Path]) -> Tensor:
        inputs: dict[str, Any] = {"position_ids": part.positions}
        if self._images is not None:
            read = [self._images.reader.read(image) for image in images]
            # Of a frozen language model a row without images would have no gradients at all.
            blank = self.world > 1 or self.config.zero_stage > 0 or self.config.freeze == "language"
            inputs = self._images.inputs(part.tokens, part.positions, part.example_lengths, read, blank)
        elif images:
            raise LonghaulError(
                f"{self.folder}: the rows have images ({images[0].name}), and the model reads text alone: import one "
                "that reads images, or leave these rows out"
            )
        logits: Tensor = self.engine(
            input_ids=part.tokens,
            **inputs,
            example_lengths=part.example_lengths,
            exchanged=self._sequence.exchanged,
            use_cache=False,
        ).logits
        return logits

    def _outputs(self, rows: Rows, temperature: float) -> Float[Tensor, "..."]:
        return self.values(rows) if self.head == "value" else self.logprobs(rows, temperature)

    @torch.no_grad()
    def reference_logprobs(self, batches: Sequence[Rows], temperature: float = 1.0) -> list[Float[Tensor, "_ _"]]:
        """`logprobs` of each micro-batch under the weights as they are now, without a gradient, on the CPU."""
        mine = []
        for place, batch in self._shares(batches):
            with named_when_out_of_memory(batch.example_lengths, self.config, place % len(batches) + 1, len(batches)):
                mine.append(self.logprobs(batch, temperature).cpu())
        if self.world == 1:
            return mine
        joined: list[list[Tensor]] = [[] for _ in range(self.world)]
        torch.distributed.all_gather_object(joined, mine)
        groups = joined[:: self._sequence.size]
        return [groups[place % len(groups)][place // len(groups)] for place in range(len(batches))]

    def _shares(self, batches: Sequence[RowsT]) -> Iterator[tuple[int, RowsT]]:
        """This rank's micro-batches with their places: in turns with other ranks, but for those that share its rows. A
        place past the end stands for nothing: an earlier micro-batch is repeated for it, since sharded ranks can only
        compute together."""
        for first in range(0, len(batches), self._sequence.count):
            place = first + self._sequence.number
            yield place, batches[place % len(batches)]

    def step(
        self,
        batches: Sequence[RowsT],
        loss: Callable[[Tensor, RowsT], LossValue],
        learning_rate: float,
        temperature: float = 1.0,
    ) -> StepResult:
        """One optimizer step on the sum of the micro-batches' losses.

        Args:
            batches: at least one; as many as ranks do not share rows, or some of them compute for nothing.
            loss: from a micro-batch's log-probabilities [rows, length - 1], or its values [rows] from a value head,
                and the batch, to its share of the loss.

        Raises:
            LossNotFinite: on all ranks, before the weights are touched.
            OutOfMemory: on the rank whose micro-batch does not fit.
        """
        for group in self.engine.optimizer.param_groups:
            group["lr"] = learning_rate
        total, sums = 0.0, dict[str, Tensor]()
        for place, batch in self._shares(batches):
            described = batch.example_lengths, self.config, place % len(batches) + 1, len(batches)
            with named_when_out_of_memory(*described):
                value = loss(self._outputs(batch, temperature), batch)
            counts = int(place < len(batches))
            losses = self._of_all_ranks(value.loss.detach())[:: self._sequence.size]
            first = place - self._sequence.number
            last = first + self._sequence.count >= len(batches)
            for number, one in enumerate(losses[: len(batches) - first], first + 1):
                if not math.isfinite(one):
                    self._drop_gradients(value.loss)
                    raise LossNotFinite(f"the loss of micro-batch {number} of {len(batches)} is {one}")
                total += one
            self.engine.set_gradient_accumulation_boundary(last)
            # DeepSpeed averages the gradients over the ranks; those that share a row have a part of its gradient each.
            with named_when_out_of_memory(*described):
                self.engine.backward(value.loss * (self.world * counts))
            for name, tensor in value.sums.items():
                share = tensor.detach() * (counts if self._sequence.place == 0 else 0)
                sums[name] = sums[name] + share if name in sums else share
            if self._plain and last:
                norm = self._gradient_norm()
            self.engine.step()
        if not self._plain:
            if not self.engine.was_step_applied():
                raise LossNotFinite("a gradient is not finite although the loss is")
            norm = float(self.engine.get_global_grad_norm())
        return StepResult(total, norm, {name: self._added_up(tensor) for name, tensor in sums.items()})

    @property
    def _plain(self) -> bool:
        """Whether DeepSpeed steps AdamW as it is. Otherwise its own optimizer, around AdamW, takes the gradients' norm
        and does not step where that is not finite."""
        return self.config.zero_stage == 0 and self.config.dtype == "float32"

    def _gradient_norm(self) -> float:
        norms = [p.grad.norm() for p in self.engine.module.parameters() if p.grad is not None]
        norm = torch.stack(norms).norm().item()
        if not math.isfinite(norm):
            self.engine.zero_grad()
            raise LossNotFinite("a gradient is not finite although the loss is")
        return norm

    def _drop_gradients(self, loss: Tensor) -> None:
        """Forget what earlier micro-batches left behind."""
        if self._plain:
            self.engine.zero_grad()
        else:
            # Shards of gradients lie where only DeepSpeed reaches them; it drops them all when one is not finite.
            self.engine.set_gradient_accumulation_boundary(True)
            self.engine.backward(loss * math.nan)
            self.engine.step()

    def _of_all_ranks(self, scalar: Float[Tensor, ""]) -> list[float]:
        if self.world == 1:
            return [scalar.item()]
        joined = [torch.empty_like(scalar) for _ in range(self.world)]
        torch.distributed.all_gather(joined, scalar)
        return [one.item() for one in joined]

    def _added_up(self, tensor: Tensor) -> Tensor:
        if self.world > 1:
            torch.distributed.all_reduce(tensor)
        return tensor.cpu()

    def reset_optimizer(self) -> None:
        """Forget the moving averages, without rebuilding the engine (§2.3.2: at the start of every iteration)."""
        optimizer = self.engine.optimizer
        getattr(optimizer, "optimizer", optimizer).state.clear()

    def weights(self) -> Iterator[tuple[str, Tensor]]:
        """All weights under their Hugging Face names, tied ones once.

        NOTE: with ZeRO 3 the ranks put together one weight after another: all of them have to use this up.
        """
        from deepspeed.runtime.zero import GatheredParameters

        for name, parameter in self.engine.module.named_parameters():
            if self.config.zero_stage < 3:
                yield name, parameter.data
            else:
                with GatheredParameters([parameter]):
                    whole = parameter.data.clone()
                yield name, whole

    def offload(self, part: Literal["optimizer", "weights"]) -> None:
        """Move to the host's memory what `onload` brings back; until then nothing may be computed.

        Args:
            part: "optimizer" is its states, its float32 weights and the gradients; "weights" those of the model.

        NOTE: with ZeRO 0 DeepSpeed raises AttributeError, and AssertionError with ZeRO 3 unless `fused_adam` is on;
        `HandoverConfig.check` refuses both.
        """
        from deepspeed.runtime.zero.offload_config import OffloadStateTypeEnum as State

        optimizer = {State.optim_states, State.hp_params, State.lp_grads, State.contiguous_grad_buffer}
        self.engine.offload_states(include=optimizer if part == "optimizer" else {State.lp_params})

    def onload(self) -> None:
        """Bring back what was offloaded."""
        self.engine.reload_states()

    @cached_property
    def _weight_server(self) -> WeightServer:
        return WeightServer()

    def send_weights(self, dtype: str, receive: Callable[[Sockets], None]) -> None:
        """Send the weights, in the engine's dtype, through checkpoint-engine: see `WeightServer.send`."""
        self._weight_server.send(self.weights(), getattr(torch, dtype), receive)

    def load_weights(self, model: Path) -> None:
        """Continue from the weights of another checkpoint of the same shape, with a fresh optimizer."""
        from deepspeed.runtime.zero import GatheredParameters

        source = self._load(model)
        with torch.no_grad():
            own = dict(self.engine.module.named_parameters())
            for name, parameter in source.named_parameters():
                with GatheredParameters([own[name]], modifier_rank=0, enabled=self.config.zero_stage == 3):
                    own[name].copy_(parameter)
        if not self._plain:
            # The step would otherwise continue from the optimizer's own copies in float32.
            self.engine.optimizer.refresh_fp32_params()
        self.reset_optimizer()

    def save(self, folder: Path) -> Path:
        """Write a complete Hugging Face checkpoint, tokenizer included, whole or not at all. The first rank writes."""
        # Only shards have to be put together; save_pretrained reads whole weights by itself.
        whole = dict(self.weights()) if self.config.zero_stage == 3 else None
        module = self.engine.module
        if (self.folder / _GENERATION).is_file() and module.can_generate():
            # transformers reads what it refuses to write: a temperature without do_sample, as several public models
            # have it. The file is copied below as it is.
            module.generation_config = module.generation_config_class()
        if self.rank == 0:
            with folder_written_aside(folder) as aside:
                module.save_pretrained(aside, state_dict=whole)
                for file in self.folder.iterdir():
                    if not file.is_file() or ".safetensors" in file.name:
                        # The weights and their index are the trainer's own.
                        continue
                    if file.name == _GENERATION or not (aside / file.name).exists():
                        shutil.copyfile(file, aside / file.name)
        return folder

    def close(self) -> None:
        """Leave the process group."""
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
