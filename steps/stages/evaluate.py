"""The evaluate stage: a model on the held-out problems, and on public benchmarks. It makes nothing.

One stands beside each stage that makes a model; `longhaul evaluate` runs it for any other.

    longhaul run --config configs/nano.yaml --only evaluate/rl
"""

from collections.abc import Callable
from typing import Any

from infra.stages.contract import StageContext, StageOutput
from steps.benchmark_rows import source_key
from steps.benchmark_run import run_benchmark
from steps.configs.evaluation import EvaluationConfig
from steps.context_evaluation import evaluate_context
from steps.evaluation import evaluate
from steps.problem import load_problems
from steps.sampling_bench import SamplingBench
from steps.stages.sampling import sampling_bench
from steps.stages.settings import GenerateSettings


def run(
    context: StageContext,
    settings: GenerateSettings[EvaluationConfig],
    before: Callable[[SamplingBench], dict[str, Any]] = lambda bench: {},
) -> StageOutput:
    """Evaluate the input `model` on the test problems of the input `data`, on the benchmarks that are named, and on
    tasks in long texts where the recipe names the stage for them.

    `before` is called with the bench first; what it returns are the stage's metrics.
    """
    problems = load_problems(context.inputs["data"] / "test.jsonl")
    with sampling_bench(context, settings) as bench:
        metrics = before(bench)
        evaluation = evaluate(bench, problems, settings.own)
        benchmarks = {
            one.name: run_benchmark(bench, context.sources[source_key(one.name)], one)
            for one in settings.own.benchmarks
        }
        evaluation = evaluation.model_copy(update={"benchmarks": benchmarks})
        if settings.own.context is not None:
            evaluation.context = evaluate_context(bench, settings.own.context)
        metrics = {**metrics, "verdicts": dict(bench.scorer.counts)}
    figures = [f"{one.title} {one.accuracy:.1%}" for one in benchmarks.values()]
    return StageOutput({}, metrics, evaluation, "; ".join([evaluation.headline, *figures]))
