"""A model on a public benchmark: avg@n, pass@k, and maj@k with votes by the math verifier's equality.

longhaul evaluate MODEL --benchmark gsm8k
"""

import statistics
from collections.abc import Sequence

from infra.intervals import interval
from infra.progress.tasks import say
from infra.store.evaluation import BenchmarkResult
from infra.store.source import Source
from steps.answer_reading import with_answer_in_a_box
from steps.benchmark_figures import classes_of, clustered, majority_at, pass_at, powers_of_two
from steps.benchmark_rows import as_published, chosen, load_benchmark, rows_digest
from steps.configs.benchmarks import BenchmarkConfig
from steps.problem import Problem
from steps.rewards.math.compare import Comparison, Undecided
from steps.rewards.math.forms import Unreadable
from steps.rewards.math.judge import LONGEST_ANSWER
from steps.rewards.math.parse import read
from steps.rewards.math.pool import MathPool
from steps.rewards.score import boxed_answer
from steps.sampling_bench import SamplingBench


def run_benchmark(bench: SamplingBench, source: Source, config: BenchmarkConfig) -> BenchmarkResult:
    """Evaluate the weights that are in the bench's engine. Raises MalformedRow, PromptTooLong."""
    every = load_benchmark(source, config)
    published = as_published(every, config)
    if published is False:
        say(f"{config.title}: {source.address} does not have the rows that the definition knows; the record says so")
    problems = chosen(every, config)
    prompts = bench.prompts(problems)
    room = min(config.max_response_tokens, bench.context - max(map(len, prompts)))
    completions = bench.sample(prompts, config.samples, room, config.temperature, name=f"benchmark {config.name}")
    texts = [
        [_read(problem, bench.chat.text(completion.tokens), config) for completion in row]
        for problem, row in zip(problems, completions, strict=True)
    ]
    pairs = [(problem, text) for problem, row in zip(problems, texts, strict=True) for text in row]
    scores = bench.scorer.score_many(pairs)
    rows = [scores[start : start + config.samples] for start in range(0, len(scores), config.samples)]
    means = [statistics.fmean(score.value for score in row) for row in rows]
    right = [[score.right for score in row] for row in rows]
    mean, error = clustered(means)
    low, high = interval(mean, error, len(problems))
    counts = powers_of_two(config.samples)
    return BenchmarkResult(
        title=config.title,
        problems=len(problems),
        samples=config.samples,
        accuracy=mean,
        standard_error=error,
        low=low,
        high=high,
        pass_at={k: statistics.fmean(pass_at(sum(row), len(row), k) for row in right) for k in counts},
        majority_at=_majorities(problems, texts, right, counts),
        mean_tokens=statistics.fmean(len(completion.tokens) for row in completions for completion in row),
        cut_off=statistics.fmean(completion.ended == "length" for row in completions for completion in row),
        max_response_tokens=room,
        temperature=config.temperature,
        answer_reading=config.answer_reading,
        address=source.address,
        rows_digest=rows_digest(every),
        as_published=published,
        licence=config.licence,
        citation=config.citation,
    )


def _read(problem: Problem, text: str, config: BenchmarkConfig) -> str:
    return with_answer_in_a_box(text, config.answer_reading) if problem.verifier == "math" else text


def _majorities(
    problems: Sequence[Problem], texts: Sequence[Sequence[str]], right: Sequence[Sequence[bool]], counts: Sequence[int]
) -> dict[int, float]:
    """maj@k over the problems of mathematics; empty where there are none, or one response to each."""
    places = [place for place, problem in enumerate(problems) if problem.verifier == "math"]
    if not places or max(counts) == 1:
        return {}
    pool = MathPool(workers=1)
    try:
        same = _Equality(pool)
        classes = {place: classes_of([boxed_answer(text) for text in texts[place]], same) for place in places}
    finally:
        pool.close()
    return {k: statistics.fmean(majority_at(classes[place], right[place], k) for place in places) for k in counts}


class _Equality:
    """The math verifier's equality of two answers, under its limits. What it cannot read or decide is equal by text."""

    def __init__(self, pool: MathPool) -> None:
        self._comparison = Comparison(pool, False)

    def __call__(self, one: str, other: str) -> bool:
        if one == other:
            return True
        if max(len(one), len(other)) > LONGEST_ANSWER:
            return False
        try:
            return self._comparison.same(read(one), read(other))
        except (Unreadable, Undecided):
            return False
