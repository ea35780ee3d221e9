"""Direct preference optimisation for short responses (§2.4; Rafailov et al., arXiv 2305.18290).

Chosen: the shortest right response. Rejected: longer ones, both wrong ones and right ones at least 1.5 times as long.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.nn import functional

from infra.progress import task
from infra.trainer import Trainer
from steps.long2short.responses import Responses, ResponsesConfig, sample_responses
from steps.packing import PackedRows, TokenExample, pack
from steps.problem import Problem
from steps.workbench import Workbench


class DpoConfig(BaseModel):
    """Direct preference optimisation."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    responses: ResponsesConfig = ResponsesConfig()
    pairs_per_problem: int = Field(2, ge=1, description="Most rejected responses set against the chosen one.")
    longer: float = Field(1.5, gt=1, description="How many times longer a right response must be to be rejected.")
    beta: float = Field(0.1, gt=0, description="β, the strength of the pull towards the model that DPO starts from.")
    learning_rate: float = Field(gt=0, description="Constant learning rate.")
    pairs_per_step: int = Field(32, ge=1, description="Pairs per optimizer step.")
    epochs: int = Field(1, ge=1, description="Passes over the pairs.")
    sequence_length: int = Field(512, ge=16, description="Tokens in a packed row.")


@dataclass(frozen=True)
class Pair:
    """A preference: two responses to one prompt."""

    chosen: TokenExample
    rejected: TokenExample


def preference_pairs(responses: Sequence[Responses], config: DpoConfig, rng: Random) -> list[Pair]:
    """Pairs of each problem that has a right response and a longer one to reject."""
    pairs = []
    for one in responses:
        best = one.shortest_right
        if best is None:
            continue
        worse = [
            response
            for response in one.judged
            if len(response.tokens) > len(best.tokens)
            and (not response.right or len(response.tokens) >= config.longer * len(best.tokens))
        ]
        chosen = TokenExample([*one.prompt, *best.tokens], len(one.prompt))
        pairs += [
            Pair(chosen, TokenExample([*one.prompt, *rejected.tokens], len(one.prompt)))
            for rejected in rng.sample(worse, min(config.pairs_per_problem, len(worse)))
        ]
    return pairs


def dpo_loss(chosen: Tensor, rejected: Tensor, chosen_ref: Tensor, rejected_ref: Tensor, beta: float) -> Tensor:
    """−log σ(β·((log π(chosen) − log π_ref(chosen)) − (log π(rejected) − log π_ref(rejected)))), summed over pairs.

    All arguments are log-probabilities of whole responses [pairs].
    """
    return -functional.logsigmoid(beta * ((chosen - chosen_ref) - (rejected - rejected_ref))).sum()


@dataclass(frozen=True)
class PairRows:
    """A micro-batch of pairs: all chosen responses first, then all rejected ones."""

    packed: PackedRows
    pairs: int
    reference: Tensor
    """Log-probability of each response under the model that DPO starts from [2 · pairs]."""

    @property
    def tokens(self) -> Tensor:
        """[rows, length]"""
        return self.packed.tokens

    @property
    def positions(self) -> Tensor:
        """[rows, length]"""
        return self.packed.positions


def _rows(trainer: Trainer, pairs: Sequence[Pair], length: int) -> PairRows:
    examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    # The loss couples a pair's two responses, so that all of a step's pairs go through one forward pass.
    (packed,) = pack(examples, length, rows=len(examples))
    reference = packed.per_example(trainer.reference_logprobs(packed.tokens, packed.positions), len(examples))
    return PairRows(packed, len(pairs), reference.cpu())


def sample_pairs(bench: Workbench, problems: Sequence[Problem], config: DpoConfig) -> list[Pair]:
    """Pairs from responses of the model in the bench's engine, in the order in which they are trained on."""
    rng = bench.random("dpo")
    pairs = preference_pairs(sample_responses(bench, problems, config.responses), config, rng)
    if not pairs:
        raise ValueError("long2short.dpo: no problem has a right response and a longer one; sample more responses")
    rng.shuffle(pairs)
    return pairs


def dpo(bench: Workbench, pairs: Sequence[Pair], config: DpoConfig) -> dict[str, Any]:
    """Optimise; the model is in the bench's trainer and engine. Returns what the stage reports."""
    steps = [pairs[i : i + config.pairs_per_step] for i in range(0, len(pairs), config.pairs_per_step)]
    prepared = [_rows(bench.trainer, step, config.sequence_length) for step in steps]
    agreed: list[Tensor] = []

    def loss(logprobs: Tensor, rows: PairRows) -> Tensor:
        values = rows.packed.per_example(logprobs, 2 * rows.pairs)
        reference = rows.reference.to(values.device)
        n = rows.pairs
        agreed.append(((values - reference)[:n] > (values - reference)[n:]).float().mean().cpu())
        return dpo_loss(values[:n], values[n:], reference[:n], reference[n:], config.beta) / n

    with task("DPO", total=config.epochs * len(prepared), unit="steps") as progress:
        for _ in range(config.epochs):
            for rows in prepared:
                result = bench.trainer.step([rows], loss, config.learning_rate)
                bench.log({"dpo/loss": result.loss, "dpo/agreement": agreed[-1].item()})
                progress.advance(1)
    bench.hand_over()
    return {"pairs": len(pairs), "agreement": torch.stack(agreed[-len(prepared) :]).mean().item()}
