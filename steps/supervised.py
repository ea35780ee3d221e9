"""The supervised loop that vanilla SFT, long-CoT SFT and shortest rejection sampling share.

Loss on responses only, examples packed into rows, learning rate warmed up and then decaying linearly, as §2.5.2 gives
a start and an end for each phase.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol, TypeVar

from torch import Tensor

from infra.progress.tasks import task
from infra.training.interface import LossValue
from infra.training.ranks import AnyTrainer
from steps.configs.phase import PhaseConfig
from steps.packing import PackedRows, pack
from steps.token_example import TokenExample


def learning_rate(phase: PhaseConfig, step: int, steps: int) -> float:
    """The rate of optimizer step `step` (from 0) of `steps`."""
    warmup = int(phase.warmup_share * steps)
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - 1 - warmup)
    return phase.learning_rate + share * (phase.final_learning_rate - phase.learning_rate)


@dataclass(frozen=True)
class ResponseLoss:
    """Mean negative log-probability of the response tokens of one optimizer step, micro-batch by micro-batch."""

    count: int
    """Response tokens in the whole step."""

    def __call__(self, logprobs: Tensor, batch: PackedRows) -> LossValue:
        return LossValue(-logprobs[batch.owners.to(logprobs.device) >= 0].sum() / self.count)


def response_loss(rows: Sequence[PackedRows]) -> ResponseLoss:
    """The loss of one optimizer step on these micro-batches."""
    return ResponseLoss(sum(int((r.owners >= 0).sum()) for r in rows))


def train(
    trainer: AnyTrainer,
    examples: Sequence[TokenExample],
    phase: PhaseConfig,
    rng: Random,
    name: str,
    log: Callable[[dict[str, Any]], None],
) -> int:
    """Train on the examples in an order drawn from `rng`. Returns the number of optimizer steps.

    Raises ValueError if there is nothing to train on, or an example does not fit a row.
    """
    if not examples:
        raise ValueError(f"{name}: there are no examples to train on")
    steps = optimizer_steps(examples, phase, rng)
    micro = max(1, trainer.config.micro_batch_tokens // phase.sequence_length)
    with task(name, total=len(steps), unit="steps") as progress:
        for number, chosen in enumerate(steps):
            rows = list(pack(chosen, phase.sequence_length, micro))
            rate = learning_rate(phase, number, len(steps))
            result = trainer.step(rows, response_loss(rows), rate)
            log({f"{name}/loss": result.loss, f"{name}/gradient_norm": result.gradient_norm, f"{name}/rate": rate})
            progress.advance(1)
            progress.note(f"loss {result.loss:.3f}")
    return len(steps)


class InTokens(Protocol):
    """An example of whatever kind."""

    @property
    def tokens(self) -> Sequence[int]: ...


ExampleT = TypeVar("ExampleT", bound=InTokens)


def optimizer_steps(examples: Sequence[ExampleT], phase: PhaseConfig, rng: Random) -> list[list[ExampleT]]:
    """The examples of each optimizer step: shuffled per epoch, cut where a step's tokens are full."""
    steps: list[list[ExampleT]] = []
    for _ in range(phase.epochs):
        order = list(examples)
        rng.shuffle(order)
        chosen: list[ExampleT] = []
        tokens = 0
        for example in order:
            if chosen and tokens + len(example.tokens) > phase.tokens_per_step:
                steps.append(chosen)
                chosen, tokens = [], 0
            chosen.append(example)
            tokens += len(example.tokens)
        steps.append(chosen)
    return steps
