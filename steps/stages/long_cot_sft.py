"""The long-CoT SFT stage."""

from infra.stages.contract import StageContext, StageOutput
from steps.configs.long_cot import LongCotConfig
from steps.long_cot import long_cot_sft
from steps.problem import save_rows
from steps.samples import example_rows, keep_samples
from steps.stages.common import finished, gate_examples, gated_examples, gated_problems, held_out, workbench
from steps.stages.settings import StageSettings


def run(context: StageContext, settings: StageSettings[LongCotConfig]) -> StageOutput:
    """Outputs the model and the verified paths it was trained on, as data and as samples."""
    test = held_out(context, settings)
    with workbench(context, settings, context.inputs["model"]) as bench:
        row, data = settings.own.phase.sequence_length, context.inputs["data"]
        paths = gated_examples(context, settings, data / "long_cot.jsonl", "long paths", test, bench.chat, row)
        problems = gated_problems(context, settings, context.inputs["prompts"] / "problems.jsonl", "RL prompts", test)
        result = long_cot_sft(bench, paths, problems, settings.own)
        gate_examples(context, settings, "chosen paths", result.chosen, test, bench.chat, row)
        save_rows(context.folder / "paths" / "long_cot.jsonl", result.chosen)
        metrics = {
            "candidates": result.candidates,
            "of_curated_problems": result.of_curated_problems,
            "verified": result.verified,
            "chosen": len(result.chosen),
            "behaviours": result.behaviours,
        }
        rows = example_rows(bench.chat, result.chosen, settings.own.phase.epochs, result.scores)
        outputs = {
            "paths": ("dataset", context.folder / "paths"),
            "samples": keep_samples(context.folder, rows),
        }
        return finished(context, bench, settings, test, metrics, outputs)
