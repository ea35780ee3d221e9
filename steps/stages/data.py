"""The data stage: the recipe's data sets, generated or converted from files into the one schema.

longhaul run --config configs/nano.yaml --only data
"""

from infra.stages.contract import StageContext, StageOutput
from infra.store.source import Source
from steps.configs.data import DataConfig
from steps.nano_world.world import generate
from steps.problem import Example, MalformedRow, Problem, load_examples, load_problems, save_rows
from steps.stages.settings import Settings


def run(context: StageContext, settings: Settings[DataConfig]) -> StageOutput:
    """Write train, test, sft and long_cot as JSONL. Raises MalformedRow naming file, line and reason."""
    folder = context.folder / "data"
    config = settings.own
    if config.nano_world is not None:
        generate(config.nano_world, context.seed).save(folder)
    else:
        assert config.files is not None
        for name in config.files.by_name:
            rows = _rows(name, context.sources[f"data.files.{name}"], config.files.format)
            save_rows(folder / f"{name}.jsonl", rows)
    rows_of = {path.stem: sum(1 for _ in path.open()) for path in sorted(folder.glob("*.jsonl"))}
    return StageOutput({"data": ("dataset", folder)}, {"rows": rows_of})


def _rows(name: str, source: Source, form: str) -> list[Problem] | list[Example]:
    try:
        return load_problems(source.path, form) if name in ("train", "test") else load_examples(source.path)
    except MalformedRow as error:
        raise MalformedRow(str(error).replace(str(source.path), source.address)) from error
