"""Vanilla SFT (§2.5.2): two phases, each with its own sequence length and learning-rate decay.

The report trains on about a million text examples and as many with images, one epoch in rows of 32k tokens (learning
rate 2e-5 to 2e-6) and one in rows of 128k (1e-5 to 1e-6), several examples packed into a row; reasoning examples are
expanded by rejection sampling. Ours in the same way, on text and images mixed as the data is; lengths, rates and epochs
are the recipe's (configs/report.yaml has the report's). Where the report leaves open when it expands, here the model of
the first phase does: it answers problems, the verifiers judge, and what is right is added to the second phase. Where
there are no examples, the imported model answers, and the second phase trains on what is right alone.

    longhaul run --only vanilla_sft --config configs/nano.yaml
"""

from collections.abc import Sequence
from dataclasses import dataclass

from steps.configs.sft import ExpansionConfig, SftConfig
from steps.problem import Example, Problem
from steps.rewards.score import Score
from steps.supervised import train
from steps.workbench import Workbench


@dataclass(frozen=True)
class SftResult:
    """What the stage reports."""

    examples: int
    expanded: list[Example]
    """The examples that rejection sampling added."""
    scores: list[Score]
    """What the verifiers said of each of them."""
    sampled: int
    """Answers that were sampled for it."""


def rejection_sample(
    bench: Workbench, problems: Sequence[Problem], config: ExpansionConfig
) -> list[tuple[Example, Score]]:
    """Right answers of the model in the bench's engine, at most `keep` different ones of each problem."""
    prompts = bench.prompts(problems)
    answers = bench.sample(
        prompts, config.samples, config.max_response_tokens, config.temperature, name="rejection sampling"
    )
    pairs = [
        (problem, text)
        for problem, row in zip(problems, answers, strict=True)
        for text in dict.fromkeys(bench.chat.text(a.tokens) for a in row if a.ended == "stop")
    ]
    retained: dict[str, list[tuple[Example, Score]]] = {}
    for (problem, text), score in zip(pairs, bench.scorer.score_many(pairs), strict=True):
        chosen = retained.setdefault(problem.id, [])
        if score.right and len(chosen) < config.keep:
            example = Example(
                problem_id=problem.id,
                system=problem.system,
                prompt=problem.prompt,
                response=text,
                kind="reasoning",
                source=f"rejection sampling on {problem.source}",
                licence=problem.licence,
            )
            chosen.append((example, score))
    return [one for row in retained.values() for one in row]


def vanilla_sft(
    bench: Workbench, examples: Sequence[Example], problems: Sequence[Problem], config: SftConfig
) -> SftResult:
    """Both phases, or the second alone where there are no examples; the trained model is in the bench's trainer.

    Raises ValueError where there is nothing to train on.
    """
    first, second = config.phases
    chosen = bench.random("expansion").sample(list(problems), min(config.expansion.problems, len(problems)))
    # A prompt that is too long must be found before anything trains.
    bench.prompts(chosen)
    tokenised = [bench.chat.conversation(example) for example in examples]
    if tokenised:
        train(bench.trainer, tokenised, first, bench.random("sft phase 1"), "SFT phase 1", bench.log)
    expanded: list[tuple[Example, Score]] = []
    if chosen:
        bench.hand_over()
        expanded = rejection_sample(bench, chosen, config.expansion)
        bench.resume_training()
    tokenised += [bench.chat.conversation(example) for example, _ in expanded]
    if not tokenised:
        raise ValueError(
            f"vanilla_sft: data.sources.sft names no examples, the problems have no solutions, and none of "
            f"{len(chosen) * config.expansion.samples} sampled answers is right: name a source of examples, raise "
            "vanilla_sft.expansion, or say in data.instructions how the answer is to be given"
        )
    bench.trainer.reset_optimizer()
    train(bench.trainer, tokenised, second, bench.random("sft phase 2"), "SFT phase 2", bench.log)
    added, scores = [example for example, _ in expanded], [score for _, score in expanded]
    return SftResult(len(examples), added, scores, len(chosen) * config.expansion.samples)
