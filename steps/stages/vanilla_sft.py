"""The vanilla SFT stage."""

from itertools import chain

from infra.stages.contract import StageContext, StageOutput
from steps.configs.sft import SftConfig
from steps.problem import save_rows
from steps.samples import example_rows, keep_samples
from steps.sft import vanilla_sft
from steps.stages.common import finished, gate_examples, gated_examples, gated_problems, held_out, workbench
from steps.stages.settings import StageSettings


def run(context: StageContext, settings: StageSettings[SftConfig]) -> StageOutput:
    """Outputs the model, the examples that rejection sampling added, and the samples: all that was trained on."""
    data = context.inputs["data"]
    test = held_out(context, settings)
    with workbench(context, settings, context.inputs["model"]) as bench:
        lengths = [phase.sequence_length for phase in settings.own.phases]
        examples = gated_examples(context, settings, data / "sft.jsonl", "SFT examples", test, bench.chat, min(lengths))
        problems = gated_problems(context, settings, data / "train.jsonl", "problems to expand on", test)
        result = vanilla_sft(bench, examples, problems, settings.own)
        if settings.own.expansion.problems:
            gate_examples(context, settings, "expanded examples", result.expanded, test, bench.chat, lengths[1])
        save_rows(context.folder / "expanded" / "sft.jsonl", result.expanded)
        metrics = {"examples": result.examples, "sampled": result.sampled, "expanded": len(result.expanded)}
        first, second = (phase.epochs for phase in settings.own.phases)
        rows = chain(
            example_rows(bench.chat, examples, first + second),
            example_rows(bench.chat, result.expanded, second, result.scores),
        )
        outputs = {
            "expanded": ("dataset", context.folder / "expanded"),
            "samples": keep_samples(context.folder, rows),
        }
        return finished(context, bench, settings, test, metrics, outputs)
