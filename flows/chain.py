"""The stages of the chain: how they follow one another, and the part of the recipe that each depends on.

Invariant: everything that a stage's key is made of can be told without running or importing a stage, so that a plan and
the run that follows it decide the same.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from flows.home import HOME, open_store
from flows.selection import Selection
from infra.errors import LonghaulError
from infra.files import write_text_atomically
from infra.stages.contract import Body, StageContext, StageOutput
from infra.stages.key import KeyParts
from infra.stages.runner import Earlier, StageRunner, find_earlier
from infra.store import records
from infra.store.records import StageRecord
from infra.store.s3 import SCHEME
from infra.store.source_digest import digest_of_address
from infra.store.store import Ref, StoreError
from steps.recipe import Recipe
from steps.stages.settings import StageSettings


class NotThere(LonghaulError, RuntimeError):
    """A stage that is not to be run has no outputs to use; the message names it and the way out."""


class DataChanged(LonghaulError, RuntimeError):
    """What a stage reads from outside is not what it was when its key was made; the message names the address."""


def _judge(reward: str) -> dict[str, str]:
    """The reward model that RL with this `reward` depends on, as an input."""
    return {} if reward == "rules" else {reward: "reward_models"}


@dataclass(frozen=True)
class StageSpec:
    """A stage as it stands in the chain."""

    name: str
    section: str
    """Its own section of the recipe, by its key."""
    body: str
    """MODULE:FUNCTION of its body, imported only when it is run."""
    inputs: Callable[[Recipe], dict[str, str]]
    """By name, the stage whose output of that name, or else whose model, the input is."""
    wanted: Callable[[Recipe], bool] = lambda recipe: True
    """Whether the recipe has this stage."""

    @property
    def module(self) -> str:
        """The module of the body."""
        return self.body.partition(":")[0]

    def load(self) -> Body:
        """The body."""
        body: Body = getattr(importlib.import_module(self.module), self.body.partition(":")[2])
        return body

    def settings(self, recipe: Recipe) -> BaseModel:
        """What the stage depends on in the recipe."""
        own: BaseModel = recipe
        for key in self.section.split("."):
            own = getattr(own, key)
        if self.section == "data":
            return own
        return StageSettings(
            own=own,
            engine=recipe.engine,
            trainer=recipe.trainer,
            handover=recipe.handover,
            evaluation=recipe.evaluation,
            gates=recipe.gates.suite(self.name),
        )


_PROMPTS = {"data": "data", "prompts": "curation"}

_CHAIN = (
    StageSpec("data", "data", "steps.stages.data:run", lambda r: {}),
    StageSpec("import", "import_checkpoint", "steps.stages.import_checkpoint:run", lambda r: {"data": "data"}),
    StageSpec(
        "vanilla_sft", "vanilla_sft", "steps.stages.vanilla_sft:run", lambda r: {"model": "import", "data": "data"}
    ),
    StageSpec("curation", "curation", "steps.stages.curation:run", lambda r: {"model": "vanilla_sft", "data": "data"}),
    StageSpec(
        "long_cot_sft", "long_cot_sft", "steps.stages.long_cot_sft:run", lambda r: {"model": "vanilla_sft", **_PROMPTS}
    ),
    StageSpec(
        "reward_models",
        "reward_models",
        "steps.stages.reward_models:run",
        lambda r: {"model": "long_cot_sft", **_PROMPTS},
        wanted=lambda r: r.reward_models is not None,
    ),
    StageSpec(
        "rl", "rl", "steps.stages.rl:run", lambda r: {"model": "long_cot_sft", **_PROMPTS, **_judge(r.rl.reward)}
    ),
    StageSpec(
        "long2short/merge",
        "long2short.merge",
        "steps.stages.long2short:run_merge",
        lambda r: {"model": "rl", "short": "vanilla_sft", "data": "data"},
    ),
    StageSpec(
        "long2short/shortest",
        "long2short.shortest",
        "steps.stages.long2short:run_shortest",
        lambda r: {"model": "rl", **_PROMPTS},
    ),
    StageSpec(
        "long2short/dpo", "long2short.dpo", "steps.stages.long2short:run_dpo", lambda r: {"model": "rl", **_PROMPTS}
    ),
    StageSpec(
        "long2short/rl",
        "long2short.rl",
        "steps.stages.rl:run",
        lambda r: {"model": "rl", **_PROMPTS, **_judge(r.long2short.rl.reward)},
    ),
)

STAGES: dict[str, StageSpec] = {spec.name: spec for spec in _CHAIN}
"""Each stage by its name, in the order in which they are told about; a stage stands after all that it depends on."""


def wanted_stages(recipe: Recipe) -> list[str]:
    """The stages that the recipe has, in order."""
    return [name for name, spec in STAGES.items() if spec.wanted(recipe)]


def upstream_of(recipe: Recipe, stage: str) -> set[str]:
    """All stages that a stage depends on, directly or not."""
    direct = set(STAGES[stage].inputs(recipe).values())
    return direct.union(*(upstream_of(recipe, each) for each in direct))


class Chain:
    """The stages, run with one recipe under one run's name."""

    def __init__(self, recipe: Recipe, run: str, selection: Selection | None = None) -> None:
        self.recipe = recipe
        self.name = run
        self.selection = selection or Selection()
        self.store = open_store(recipe.store)
        self.runner = StageRunner(self.store, run, HOME, recipe.tracking)
        before = {stage: upstream_of(recipe, stage) for stage in wanted_stages(recipe)}
        self.selected = self.selection.choose(before)
        self.needed = self.selected.union(*(before[stage] for stage in self.selected))
        """What is selected and all before it."""

    @staticmethod
    def order(stage: str) -> int:
        """Place of a stage in the chain."""
        return list(STAGES).index(stage)

    def parts(self, stage: str, keys: Mapping[str, str]) -> KeyParts:
        """What the stage's key is made of, given the keys of the stages before it."""
        spec = STAGES[stage]
        upstream = {name: keys[source] for name, source in spec.inputs(self.recipe).items()}
        settings = spec.settings(self.recipe)
        return KeyParts.now(stage, settings, self.recipe.seed, upstream, self._sources(stage), spec.module)

    def earlier(self, stage: str, parts: KeyParts, read: bool = True) -> Earlier:
        """What may be used again for a stage: what has its key, or what the run has that was named to be used.

        Raises NotThere where that run has no such stage.
        """
        if self.selection.reuse is None or stage in self.selected:
            return find_earlier(self.store, stage, parts.key, read)
        found = [
            record
            for record in records.read(self.store, StageRecord, f"stage-runs/{self.selection.reuse}")
            if record.stage == stage and record.failure is None
        ]
        if not found:
            raise NotThere(f"run {self.selection.reuse} has no finished stage {stage!r} to use")
        return Earlier(found[-1], [])

    def run(self, stage: str, done: Mapping[str, StageRecord]) -> StageRecord | None:
        """Run one stage on the records of earlier ones, or use an earlier run's outputs if its key is the same.

        None for a stage that the recipe does not have, and for one that was not selected, is not needed and has no
        outputs to use. Raises NotThere for one that is needed and has none.
        """
        spec = STAGES[stage]
        inputs = spec.inputs(self.recipe)
        if not spec.wanted(self.recipe) or not set(inputs.values()) <= done.keys():
            return None
        parts = self.parts(stage, {name: record.key for name, record in done.items()})
        if stage in self.selected:
            refs = {name: output_for(name, done[source]) for name, source in inputs.items()}
            load = self._read_unchanged(stage, parts) if parts.sources else spec.load
            return self.runner(parts, load, spec.settings(self.recipe), refs, self.selection.force)
        earlier = self.earlier(stage, parts)
        if earlier.record is not None:
            return self.runner.use_again(earlier.record)
        if stage in self.needed:
            raise NotThere(not_there(stage, self.selection, earlier))
        return None

    def _read_unchanged(self, stage: str, parts: KeyParts) -> Callable[[], Body]:
        """The body of a stage that reads from outside: it raises DataChanged where that is not what its key says."""

        def load() -> Body:
            body = STAGES[stage].load()

            def run(context: StageContext, settings: Any) -> StageOutput:
                output = body(context, settings)
                now = self._sources(stage)
                if changed := [address for address, digest in parts.sources.items() if now.get(address) != digest]:
                    raise DataChanged(f"{', '.join(changed)} changed while it was read: the next attempt reads it anew")
                return output

            return run

        return load

    def _sources(self, stage: str) -> dict[str, str]:
        """Digests of what a stage reads from outside the store, by address; they are part of its key.

        NOTE: of a checkpoint named as on a hub there is none; its name is in the stage's settings.
        """
        named: dict[str, str] = {}
        if stage == "data" and self.recipe.data.files is not None:
            named = {f"data.files.{name}": path for name, path in self.recipe.data.files.by_name.items()}
        elif stage == "import":
            named = {"import_checkpoint.checkpoint": self.recipe.import_checkpoint.checkpoint}
        cache = HOME / "cache" / "file_digests.json"
        digests = {}
        for key, path in named.items():
            if path.startswith(SCHEME) or Path(path).exists():
                try:
                    digests[path] = digest_of_address(path, cache)
                except StoreError as error:
                    raise StoreError(f"{key}: {error}") from error
        return digests

    def write_report(self, html: str) -> Path:
        """Write the run's report. Returns its path."""
        path = HOME / "runs" / self.name / "report.html"
        write_text_atomically(path, html)
        return path


def output_for(name: str, record: StageRecord) -> Ref:
    """The output of a stage that serves as the input of this name: the one of the same name, or else the model."""
    return record.outputs[name if name in record.outputs else "model"]


def not_there(stage: str, selection: Selection, earlier: Earlier) -> str:
    """Why a stage that is needed and not selected cannot be had, and what to do."""
    why = earlier.problems[0] if earlier.problems else "no earlier run made it with this key"
    return (
        f"stage {stage!r} is needed, is not among those to run ({selection.told}), and cannot be used again: {why}. "
        f"Begin there (--from {stage}), or name a run whose outputs to use (--reuse RUN)"
    )
