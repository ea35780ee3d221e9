"""The long2short stages: merge, shortest rejection sampling and DPO. Long2short RL is `steps.stages.rl`."""

import shutil

from infra.stages.contract import StageContext, StageOutput
from steps.configs.dpo import DpoConfig
from steps.configs.merge import MergeConfig
from steps.configs.shortest import ShortestConfig
from steps.evaluation import evaluate
from steps.gates import pair_frame, pass_gate
from steps.long2short.dpo import dpo, preference_rows, sample_pairs
from steps.long2short.merge import merge_weights
from steps.long2short.responses import sample_responses
from steps.long2short.samples import response_row
from steps.long2short.shortest import shortest, shortest_rejection_sampling
from steps.samples import keep_samples
from steps.stages.common import finished, gated_problems, held_out, workbench
from steps.stages.settings import StageSettings


def run_merge(context: StageContext, settings: StageSettings[MergeConfig]) -> StageOutput:
    """Average the RL model (`model`) and the short-CoT one (`short`)."""
    test = held_out(context, settings)
    long = context.inputs["model"]
    merged = context.folder / "model"
    merge_weights(long, context.inputs["short"], settings.own.long_weight, merged)
    for file in long.iterdir():
        if not (merged / file.name).exists():
            shutil.copyfile(file, merged / file.name)
    with workbench(context, settings, merged) as bench:
        evaluation = evaluate(bench, test, settings.evaluation)
    metrics = {"long_weight": settings.own.long_weight}
    return StageOutput({"model": ("model", merged)}, metrics, evaluation.model_dump(), evaluation.headline)


def run_shortest(context: StageContext, settings: StageSettings[ShortestConfig]) -> StageOutput:
    """Fine-tune on the shortest right responses."""
    test = held_out(context, settings)
    problems = gated_problems(context, settings, context.inputs["prompts"] / "problems.jsonl", "RL prompts", test)
    with workbench(context, settings, context.inputs["model"]) as bench:
        responses = sample_responses(bench, problems, settings.own.responses)
        metrics = shortest_rejection_sampling(bench, responses, settings.own)
        epochs = settings.own.phase.epochs
        rows = (response_row(bench.chat, *one, "imitated", epochs) for one in shortest(responses))
        return finished(context, bench, settings, test, metrics, {"samples": keep_samples(context.folder, rows)})


def run_dpo(context: StageContext, settings: StageSettings[DpoConfig]) -> StageOutput:
    """Prefer the shortest right response to longer ones."""
    test = held_out(context, settings)
    problems = gated_problems(context, settings, context.inputs["prompts"] / "problems.jsonl", "RL prompts", test)
    with workbench(context, settings, context.inputs["model"]) as bench:
        pairs = sample_pairs(bench, problems, settings.own)
        texts = [(bench.chat.text(pair.chosen.response), bench.chat.text(pair.rejected.response)) for pair in pairs]
        pass_gate(context, settings.gates, "preference pairs", pair_frame(texts), {})
        metrics = dpo(bench, pairs, settings.own)
        rows = preference_rows(bench.chat, pairs, settings.own.epochs)
        return finished(context, bench, settings, test, metrics, {"samples": keep_samples(context.folder, rows)})
