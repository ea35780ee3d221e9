"""The stages of the chain by name: their bodies, and the part of the recipe that each depends on."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel

from infra.files import write_text_atomically
from infra.stages import Body, StageRecord, StageRunner
from infra.store import Store
from steps.recipe import Recipe
from steps.stages import (
    curation,
    data,
    import_checkpoint,
    long2short,
    long_cot_sft,
    reward_models,
    rl,
    vanilla_sft,
)
from steps.stages.settings import StageSettings

HOME = Path(os.environ.get("LONGHAUL_HOME", ".longhaul"))
"""Runs, logs, caches and offline tracking; the store too, unless the recipe says otherwise."""


def _with_shared(recipe: Recipe, own: BaseModel | None) -> BaseModel:
    assert own is not None, "a stage whose section is missing is not run"
    return StageSettings(
        own=own,
        engine=recipe.engine,
        trainer=recipe.trainer,
        handover=recipe.handover,
        evaluation=recipe.evaluation,
    )


STAGES: dict[str, tuple[Body, Callable[[Recipe], BaseModel]]] = {
    "data": (data.run, lambda r: r.data),
    "import": (import_checkpoint.run, lambda r: _with_shared(r, r.import_checkpoint)),
    "vanilla_sft": (vanilla_sft.run, lambda r: _with_shared(r, r.vanilla_sft)),
    "curation": (curation.run, lambda r: _with_shared(r, r.curation)),
    "long_cot_sft": (long_cot_sft.run, lambda r: _with_shared(r, r.long_cot_sft)),
    "reward_models": (reward_models.run, lambda r: _with_shared(r, r.reward_models)),
    "rl": (rl.run, lambda r: _with_shared(r, r.rl)),
    "long2short/merge": (long2short.run_merge, lambda r: _with_shared(r, r.long2short.merge)),
    "long2short/shortest": (long2short.run_shortest, lambda r: _with_shared(r, r.long2short.shortest)),
    "long2short/dpo": (long2short.run_dpo, lambda r: _with_shared(r, r.long2short.dpo)),
    "long2short/rl": (rl.run, lambda r: _with_shared(r, r.long2short.rl)),
}
"""Body and settings of each stage, in the order in which they are told about."""


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        digest.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


class Chain:
    """The stages, run with one recipe under one run's name."""

    def __init__(self, recipe: Recipe, run: str) -> None:
        self.recipe = recipe
        self.name = run
        self.store = Store(recipe.store, HOME / "cache" / "store")
        self.runner = StageRunner(self.store, run, HOME, recipe.tracking)

    @staticmethod
    def order(stage: str) -> int:
        """Place of a stage in the chain."""
        return list(STAGES).index(stage)

    def run(self, stage: str, inputs: Mapping[str, StageRecord]) -> StageRecord:
        """Run one stage, or use an earlier run's outputs if its key is the same.

        Each input is the output of that name, or else the model, of the stage whose record is given.
        """
        body, settings = STAGES[stage]
        chosen = {name: (record, name if name in record.outputs else "model") for name, record in inputs.items()}
        return self.runner(stage, body, settings(self.recipe), self.recipe.seed, chosen, self._sources(stage))

    def _sources(self, stage: str) -> dict[str, str]:
        """Digests of the local files that a stage reads from outside the store; they are part of its key."""
        paths: list[str] = []
        if stage == "data" and self.recipe.data.files is not None:
            paths = self.recipe.data.files.paths
        elif stage == "import":
            paths = [self.recipe.import_checkpoint.checkpoint]
        return {path: _digest(Path(path)) for path in paths if Path(path).exists()}

    def write_report(self, html: str) -> Path:
        """Write the run's report. Returns its path."""
        path = HOME / "runs" / self.name / "report.html"
        write_text_atomically(path, html)
        return path
