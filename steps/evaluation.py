"""Evaluation of every model: pass@1 averaged over several samples, response lengths, by domain.

Every model answers the held-out problems at the same temperature and length limit, so that the points of the
token-efficiency figure (Fig. 7) can be compared.

    longhaul run --only evaluate/rl --config configs/nano.yaml
"""

import math
import statistics
from collections.abc import Sequence

from infra.store.evaluation import DomainResult, EvaluatedResponse, Evaluation, LimitResult, TwinResult
from steps.answer_reading import with_answer_in_a_box
from steps.configs.evaluation import EvaluationConfig
from steps.problem import Problem
from steps.sampling_bench import SamplingBench


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ordered = sorted(values)
    # 0.07 * 100 is a little more than 7: without the slack it would round up to 8.
    return ordered[max(0, math.ceil(share * len(ordered) - 1e-9) - 1)]


SHORTEST_LIMIT = 16


def by_limit(rewards: Sequence[Sequence[float]], lengths: Sequence[Sequence[int]], longest: int) -> list[LimitResult]:
    """Accuracy by the tokens allowed for a response: powers of two below `longest`, and `longest` itself.

    `rewards` and `lengths` (in tokens) are by problem and response. A response of more tokens than the limit counts as
    wrong, for its answer stands at its end: that is what a shorter context leaves of it (Fig. 6).
    """
    limits = [SHORTEST_LIMIT]
    while 2 * limits[-1] < longest:
        limits.append(2 * limits[-1])
    return [
        LimitResult(
            tokens=limit,
            accuracy=statistics.fmean(
                statistics.fmean(reward * (length <= limit) for reward, length in zip(*pair, strict=True))
                for pair in zip(rewards, lengths, strict=True)
            ),
        )
        for limit in [*(limit for limit in limits if limit < longest), longest]
    ]


def shares(names: Sequence[str], means: Sequence[float], lengths: Sequence[Sequence[int]]) -> dict[str, DomainResult]:
    """What the problems of each name come to. By problem: its name, its mean reward, the lengths of its responses."""
    results = {}
    for name in sorted(set(names)):
        members = [i for i, other in enumerate(names) if other == name]
        results[name] = DomainResult(
            problems=len(members),
            accuracy=statistics.fmean(means[i] for i in members),
            mean_tokens=statistics.fmean(length for i in members for length in lengths[i]),
        )
    return results


def twins(problems: Sequence[Problem], means: Sequence[float]) -> TwinResult | None:
    """Problems drawn as images against the same in text, their twins; None without any."""
    rewards = {problem.id: mean for problem, mean in zip(problems, means, strict=True)}
    pairs = [
        (rewards[problem.twin], rewards[problem.id])
        for problem in problems
        if problem.images and problem.twin is not None and problem.twin in rewards
    ]
    if not pairs:
        return None
    texts, images = zip(*pairs, strict=True)
    return TwinResult(pairs=len(pairs), text_accuracy=statistics.fmean(texts), image_accuracy=statistics.fmean(images))


def evaluate(bench: SamplingBench, problems: Sequence[Problem], config: EvaluationConfig) -> Evaluation:
    """Evaluate the weights that are in the bench's engine."""
    prompts = bench.prompts(problems)
    completions = bench.sample(
        prompts, config.samples, config.max_response_tokens, config.temperature, name="evaluation"
    )
    texts = [[bench.chat.text(completion.tokens) for completion in row] for row in completions]
    judged = [
        (problem, with_answer_in_a_box(text, config.answer_reading) if problem.verifier == "math" else text)
        for problem, row in zip(problems, texts, strict=True)
        for text in row
    ]
    scores = bench.scorer.score_many(judged)
    rewards = [[s.value for s in scores[i : i + config.samples]] for i in range(0, len(scores), config.samples)]
    lengths = [[len(completion.tokens) for completion in row] for row in completions]
    means = [statistics.fmean(row) for row in rewards]
    all_lengths = [length for row in lengths for length in row]
    by_domain = shares([problem.domain for problem in problems], means, lengths)
    modalities = {}
    if any(problem.images for problem in problems):
        modalities = shares(["image" if problem.images else "text" for problem in problems], means, lengths)
    examples = [
        EvaluatedResponse(
            problem_id=problems[i].id,
            domain=problems[i].domain,
            prompt=problems[i].text,
            response=texts[i][0],
            reward=rewards[i][0],
            reason=scores[i * config.samples].reason,
            tokens=lengths[i][0],
            images=list(prompts[i].images),
        )
        for i in range(min(config.examples, len(problems)))
    ]
    return Evaluation(
        problems=len(problems),
        samples=config.samples,
        accuracy=statistics.fmean(means),
        standard_error=statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else 0.0,
        mean_tokens=statistics.fmean(all_lengths),
        median_tokens=statistics.median(all_lengths),
        p99_tokens=percentile(all_lengths, 0.99),
        answer_reading=config.answer_reading,
        domains=by_domain,
        modalities=modalities,
        twins=twins(problems, means),
        examples=examples,
        limits=by_limit(rewards, lengths, config.max_response_tokens),
    )
