"""The data stage: the recipe's data sets, generated or converted from files into the one schema."""

from pathlib import Path

from infra.stage import StageContext, StageOutput
from steps.nano_world.world import generate
from steps.problem import load_examples, load_problems, save_rows
from steps.recipe_data import DataConfig


def run(context: StageContext, config: DataConfig) -> StageOutput:
    """Write train, test, sft and long_cot as JSONL. Raises MalformedRow naming file, line and reason."""
    folder = context.folder / "data"
    if config.nano_world is not None:
        generate(config.nano_world, context.seed).save(folder)
    else:
        assert config.files is not None
        for name in ("train", "test"):
            save_rows(folder / f"{name}.jsonl", load_problems(Path(getattr(config.files, name)), config.files.format))
        for name in ("sft", "long_cot"):
            save_rows(folder / f"{name}.jsonl", load_examples(Path(getattr(config.files, name))))
    rows = {path.stem: sum(1 for _ in path.open()) for path in sorted(folder.glob("*.jsonl"))}
    return StageOutput({"data": ("dataset", folder)}, {"rows": rows})
