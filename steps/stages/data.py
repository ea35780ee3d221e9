"""The data stage: the recipe's data sets, generated or converted from files into the one schema."""

from pathlib import Path

from infra.stages.contract import StageContext, StageOutput
from infra.store.s3 import SCHEME, download_file
from steps.configs.data import DataConfig, FilesConfig
from steps.nano_world.world import generate
from steps.problem import Example, MalformedRow, Problem, load_examples, load_problems, save_rows


def run(context: StageContext, config: DataConfig) -> StageOutput:
    """Write train, test, sft and long_cot as JSONL.

    Raises MalformedRow naming file, line and reason, and StoreError for a file that S3 does not give.
    """
    folder = context.folder / "data"
    if config.nano_world is not None:
        generate(config.nano_world, context.seed).save(folder)
    else:
        assert config.files is not None
        for name, address in config.files.by_name.items():
            save_rows(folder / f"{name}.jsonl", _rows(config.files, name, address, context.folder / "downloads" / name))
    rows = {path.stem: sum(1 for _ in path.open()) for path in sorted(folder.glob("*.jsonl"))}
    return StageOutput({"data": ("dataset", folder)}, {"rows": rows})


def _rows(files: FilesConfig, name: str, address: str, downloads: Path) -> list[Problem] | list[Example]:
    path = download_file(address, downloads) if address.startswith(SCHEME) else Path(address)
    try:
        return load_problems(path, files.format) if name in ("train", "test") else load_examples(path)
    except MalformedRow as error:
        raise MalformedRow(str(error).replace(str(path), address)) from error
