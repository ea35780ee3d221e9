"""Direct preference optimisation for short responses (§2.4; Rafailov et al., arXiv 2305.18290).

Chosen: the shortest right response of the RL model. Rejected: longer ones, both wrong ones and right ones at least 1.5
times as long. The report gives neither the number of samples nor of pairs: here both are the recipe's.

    longhaul run --only long2short/dpo --config configs/nano.yaml
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Any

from torch import Tensor
from torch.nn import functional

from infra.lineage.sample_row import SampleRow
from infra.progress.tasks import task
from infra.training.interface import LossValue
from infra.training.ranks import AnyTrainer
from steps.chat import Chat
from steps.configs.dpo import DpoConfig
from steps.long2short.responses import JudgedResponse, Responses, sample_responses
from steps.long2short.samples import response_row
from steps.packing import PackedRows, pack
from steps.problem import Problem
from steps.token_example import TokenExample
from steps.workbench import Workbench


@dataclass(frozen=True)
class Pair:
    """A preference: two responses to one prompt."""

    responses: Responses
    """The responses that both are of."""
    better: JudgedResponse
    worse: JudgedResponse

    @cached_property
    def chosen(self) -> TokenExample:
        """The better response, as it is trained on."""
        return self.responses.example(self.better)

    @cached_property
    def rejected(self) -> TokenExample:
        """The worse one."""
        return self.responses.example(self.worse)


def pair_table(chat: Chat, pairs: Sequence[Pair]) -> dict[str, list[Any]]:
    """Preference pairs, by columns: the chosen response and the rejected one."""
    return {
        "id": list(range(len(pairs))),
        "chosen": [chat.text(pair.chosen.response) for pair in pairs],
        "rejected": [chat.text(pair.rejected.response) for pair in pairs],
    }


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
        pairs += [
            Pair(one, best, rejected) for rejected in rng.sample(worse, min(config.pairs_per_problem, len(worse)))
        ]
    return pairs


def dpo_loss(chosen: Tensor, rejected: Tensor, chosen_ref: Tensor, rejected_ref: Tensor, beta: float) -> Tensor:
    """−log σ(β·((log π(chosen) − log π_ref(chosen)) − (log π(rejected) − log π_ref(rejected)))), summed over pairs.

    All arguments are log-probabilities of whole responses [pairs].
    """
    return -functional.logsigmoid(beta * ((chosen - chosen_ref) - (rejected - rejected_ref))).sum()


@dataclass(frozen=True)
class PairRows(PackedRows):
    """A micro-batch of pairs: all chosen responses first, then all rejected ones."""

    pairs: int
    reference: Tensor
    """Log-probability of each response under the model that DPO starts from [2 · pairs]."""


def micro_batches(pairs: Sequence[Pair], max_tokens: int) -> list[list[Pair]]:
    """Cut the pairs of a step so that each forward pass holds at most `max_tokens`, or a single pair.

    The loss couples a pair's two responses, so that both go through one forward pass.
    """
    batches: list[list[Pair]] = []
    tokens = 0
    for pair in pairs:
        size = len(pair.chosen.tokens) + len(pair.rejected.tokens)
        if not batches or tokens + size > max_tokens:
            batches.append([])
            tokens = 0
        batches[-1].append(pair)
        tokens += size
    return batches


def pair_rows(trainer: AnyTrainer, pairs: Sequence[Pair], length: int) -> PairRows:
    """Pack a micro-batch of pairs, with its reference from the trainer as it is."""
    examples = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    (packed,) = pack(examples, length, rows=len(examples))
    (logprobs,) = trainer.reference_logprobs([packed])
    reference = packed.per_example(logprobs, len(examples))
    return PairRows(**vars(packed), pairs=len(pairs), reference=reference)


@dataclass(frozen=True)
class StepLoss:
    """The mean loss over the pairs of one optimizer step, micro-batch by micro-batch.

    Its sum "agreed" counts the pairs whose chosen response has gained more than the rejected one.
    """

    beta: float
    count: int
    """Pairs in the whole step."""

    def __call__(self, logprobs: Tensor, rows: PairRows) -> LossValue:
        n = rows.pairs
        values = rows.per_example(logprobs, 2 * n)
        reference = rows.reference.to(values.device)
        gain = (values - reference).detach()
        loss = dpo_loss(values[:n], values[n:], reference[:n], reference[n:], self.beta) / self.count
        return LossValue(loss, {"agreed": (gain[:n] > gain[n:]).sum()})


def sample_pairs(bench: Workbench, problems: Sequence[Problem], config: DpoConfig) -> list[Pair]:
    """Pairs from responses of the model in the bench's engine, in the order in which they are trained on."""
    rng = bench.random("dpo")
    pairs = preference_pairs(sample_responses(bench, problems, config.responses), config, rng)
    if not pairs:
        raise ValueError("long2short.dpo: no problem has a right response and a longer one; sample more responses")
    rng.shuffle(pairs)
    return pairs


@dataclass(frozen=True)
class DpoResult:
    """What the stage reports."""

    pairs: int
    agreement: float
    """Share of the pairs, in the last epoch, whose chosen response has gained more than the rejected one."""


def dpo(bench: Workbench, pairs: Sequence[Pair], config: DpoConfig) -> DpoResult:
    """Optimise; the model is in the bench's trainer."""
    bench.resume_training()
    steps = [pairs[i : i + config.pairs_per_step] for i in range(0, len(pairs), config.pairs_per_step)]
    prepared = [
        [
            pair_rows(bench.trainer, batch, config.sequence_length)
            for batch in micro_batches(step, bench.trainer.config.micro_batch_tokens)
        ]
        for step in steps
    ]
    agreed = 0.0

    with task("DPO", total=config.epochs * len(prepared), unit="steps") as progress:
        for epoch in range(config.epochs):
            agreed = 0.0
            for batches in prepared:
                count = sum(rows.pairs for rows in batches)
                result = bench.trainer.step(batches, StepLoss(config.beta, count), config.learning_rate)
                agreement = result.sums["agreed"].item()
                agreed += agreement
                bench.log({"dpo/loss": result.loss, "dpo/agreement": agreement / count})
                progress.advance(1)
            progress.note(f"epoch {epoch + 1}: {agreed / len(pairs):.0%} of pairs agreed with")
    return DpoResult(len(pairs), agreed / len(pairs))


def preference_rows(chat: Chat, pairs: Sequence[Pair], times_trained: int) -> Iterator[SampleRow]:
    """Two rows of each preference pair, in the order in which the pairs are trained on."""
    for number, pair in enumerate(pairs):
        yield response_row(chat, pair.responses, pair.better, "chosen", times_trained, number)
        yield response_row(chat, pair.responses, pair.worse, "rejected", times_trained, number)
