"""The data stage: the recipe's data sets, generated or converted from files into the one schema.

longhaul run --config configs/nano.yaml --only data
"""

from pathlib import Path
from typing import Any

from infra.images import FOLDER
from infra.stages.contract import StageContext, StageOutput
from steps.configs.data import DataConfig
from steps.data_sets import make_data_sets
from steps.problem import save_rows
from steps.stages.settings import Settings


def run(context: StageContext, settings: Settings[DataConfig]) -> StageOutput:
    """Write train, test, sft and long_cot as JSONL. Raises MalformedRow naming file, line and reason."""
    folder = context.folder / "data"
    sets = make_data_sets(settings.own, context.sources, context.seed, folder=folder)
    for role, rows in sets.rows.items():
        save_rows(folder / f"{role}.jsonl", rows)
    dropped = {role: len(ids) for role, ids in sets.duplicates.items()}
    metrics: dict[str, Any] = {
        "rows": {role: len(rows) for role, rows in sorted(sets.rows.items())},
        "duplicates": dropped,
    }
    if used := {image for rows in sets.rows.values() for row in rows for image in row.images}:
        metrics["images"] = len(used)
    _drop_unused(folder, used)
    notes = []
    if counts := [f"{count} of {role}" for role, count in dropped.items() if count]:
        notes.append(f"dropped problems whose prompt occurs before: {', '.join(counts)}")
    if refused := {part.key: len(part.refused) for part in sets.sources if part.refused}:
        metrics["refused"] = refused
        notes.append(f"skipped rows that cannot be read: {sum(refused.values())}")
    return StageOutput({"data": ("dataset", folder)}, metrics, headline="; ".join(notes))


def _drop_unused(folder: Path, used: set[str]) -> None:
    """Remove images of rows that are not part of the data: duplicates, and rows that a mixture left out."""
    for path in (folder / FOLDER).glob("*"):
        if path.relative_to(folder).as_posix() not in used:
            path.unlink()
