"""The long-CoT SFT stage.

longhaul run --config configs/nano.yaml --only long_cot_sft
"""

from infra.stages.contract import StageContext, StageOutput
from infra.vision.folders import ImageFolders
from steps.configs.long_cot import LongCotConfig
from steps.gates.gates import Gates
from steps.image_files import keep_images
from steps.long_cot import long_cot_sft
from steps.long_paths import load_paths
from steps.problem import load_problems, save_rows
from steps.samples import example_rows, keep_samples
from steps.stages.judging import open_scorer
from steps.stages.settings import SupervisedSettings, trainer_of
from steps.stages.trained import trained
from steps.training_bench import open_training_bench


def run(context: StageContext, settings: SupervisedSettings[LongCotConfig]) -> StageOutput:
    """Outputs the model and the verified paths it was trained on, as data and as samples."""
    paths = load_paths(context.inputs)
    problems = load_problems(context.inputs["prompts"] / "problems.jsonl")
    phase = settings.own.phase
    model = context.inputs["model"]
    images = ImageFolders.among(context.inputs.values())
    with open_training_bench(
        model,
        trainer=trainer_of(settings),
        seed=context.seed,
        scorer=lambda: open_scorer(context, settings.judging),
        log=context.log,
        images=images,
    ) as bench:
        result = long_cot_sft(bench, paths, problems, settings.own)
        with Gates(context, settings.gates) as gates:
            gates.examples("chosen paths", result.chosen, bench.chat, phase.sequence_length)
        save_rows(context.folder / "paths" / "long_cot.jsonl", result.chosen)
        keep_images(result.chosen, context.folder / "paths", images)
        metrics = {
            "candidates": result.candidates,
            "of_curated_problems": result.of_curated_problems,
            "verified": result.verified,
            "chosen": len(result.chosen),
            "behaviours": result.behaviours,
        }
        rows = example_rows(bench.chat, result.chosen, phase.epochs, result.scores)
        outputs = {
            "paths": ("dataset", context.folder / "paths"),
            "samples": keep_samples(context.folder, rows),
        }
        return trained(context, bench.trainer, metrics, outputs, f"{len(result.chosen)} of {len(paths)} paths")
