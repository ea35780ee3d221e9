"""The vanilla SFT stage.

longhaul run --config configs/nano.yaml --only vanilla_sft
"""

from itertools import chain

from infra.stages.contract import StageContext, StageOutput
from steps.configs.sft import SftConfig
from steps.gates.gates import Gates
from steps.image_files import keep_images
from steps.problem import load_examples, load_problems, save_rows
from steps.samples import example_rows, keep_samples
from steps.sft import vanilla_sft
from steps.stages.settings import TrainSettings
from steps.stages.trained import trained
from steps.stages.training import workbench


def run(context: StageContext, settings: TrainSettings[SftConfig]) -> StageOutput:
    """Outputs the model, the examples that rejection sampling added, and the samples: all that was trained on."""
    data = context.inputs["data"]
    examples, problems = load_examples(data / "sft.jsonl"), load_problems(data / "train.jsonl")
    with workbench(context, settings) as bench:
        result = vanilla_sft(bench, examples, problems, settings.own)
        first, second = settings.own.phases
        if settings.own.expansion.problems:
            with Gates(context, settings.gates) as gates:
                gates.examples("expanded examples", result.expanded, bench.chat, second.sequence_length)
        save_rows(context.folder / "expanded" / "sft.jsonl", result.expanded)
        keep_images(result.expanded, context.folder / "expanded", bench.chat.images)
        metrics = {"examples": result.examples, "sampled": result.sampled, "expanded": len(result.expanded)}
        rows = chain(
            example_rows(bench.chat, examples, first.epochs + second.epochs),
            example_rows(bench.chat, result.expanded, second.epochs, result.scores),
        )
        outputs = {
            "expanded": ("dataset", context.folder / "expanded"),
            "samples": keep_samples(context.folder, rows),
        }
        return trained(
            context, bench.trainer, metrics, outputs, f"{result.examples} examples, {len(result.expanded)} added"
        )
