"""The stage of shortest rejection sampling (§2.4).

longhaul run --config configs/nano.yaml --only long2short/shortest
"""

from infra.stages.contract import StageContext, StageOutput
from steps.configs.shortest import ShortestConfig
from steps.long2short.responses import sample_responses
from steps.long2short.samples import response_row
from steps.long2short.shortest import shortest, shortest_rejection_sampling
from steps.problem import load_problems
from steps.samples import keep_samples
from steps.stages.settings import TrainSettings
from steps.stages.trained import trained
from steps.stages.training import workbench


def run(context: StageContext, settings: TrainSettings[ShortestConfig]) -> StageOutput:
    """Fine-tune on the shortest right responses."""
    problems = load_problems(context.inputs["prompts"] / "problems.jsonl")
    with workbench(context, settings) as bench:
        responses = sample_responses(bench, problems, settings.own.responses)
        examples = shortest_rejection_sampling(bench, responses, settings.own)
        epochs = settings.own.phase.epochs
        rows = (response_row(bench.chat, *one, "imitated", epochs) for one in shortest(responses))
        samples = {"samples": keep_samples(context.folder, rows)}
        return trained(context, bench.trainer, {"examples": examples}, samples, f"{examples} shortest right responses")
