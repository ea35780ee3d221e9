"""The chain run with one recipe: what each stage's key is made of, what may be reused, and running what may not."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.cluster.plan import ON_CLUSTER
from flows.forks import Fork, find_fork
from flows.home import HOME, open_store
from flows.models import run_records
from flows.selection import Selection
from flows.stage_selectors import Stages
from flows.topology import (
    CHECKS,
    STAGES,
    Input,
    StageSpec,
    enabled_stages,
    evaluation_spec,
    inputs_of,
    stages_of_step,
    upstream_of,
)
from infra.errors import LonghaulError
from infra.files import write_text_atomically
from infra.stages.code_digest import digest_of, reached_code
from infra.stages.contract import Body, StageContext, StageOutput
from infra.stages.key import UNKNOWN, KeyParts, digest_of_files
from infra.stages.packages import package_versions
from infra.stages.reuse import CachedStage
from infra.stages.runner import StageRunner, StageTask
from infra.store import records
from infra.store.evaluation_stages import evaluated_stage, evaluation_stage, is_evaluation
from infra.store.records import StageRecord
from infra.store.source import Source
from infra.store.sources import ResolvedSource, bring
from infra.store.store import Ref
from steps.recipe import Recipe


class StageMissing(LonghaulError, RuntimeError):
    """A stage that is not to be run has no outputs to use; the message names it and the way out."""


class DataChanged(LonghaulError, RuntimeError):
    """What a stage reads from outside is not what it was when its key was made; the message names the address."""


Known = Mapping[str, StageRecord | None]
"""Of stages that ran or are reused, their records; None for those that are yet to run."""


class Chain:
    """The stages, run with one recipe under one run's name."""

    def __init__(self, recipe: Recipe, run: str, selection: Selection | None = None) -> None:
        self.recipe = recipe
        self.name = run
        self.selection = selection or Selection()
        self.store = open_store(recipe.store)
        self.runner = StageRunner(self.store, run, HOME, recipe.tracking, recipe.reuse_across_environments)
        before = {stage: upstream_of(recipe, stage) for stage in enabled_stages(recipe)}
        evaluations = {stage: name for stage in before if (name := evaluation_stage(stage)) in before}
        self._resolved: dict[str, dict[str, ResolvedSource]] = {}
        self.selected = self.selection.choose(Stages(before, evaluations, self._modified))
        self.needed = self.selected.union(*(before[stage] for stage in self.selected))
        """What is selected and all before it."""

    def _modified(self) -> tuple[set[str], str]:
        """The stages whose own settings, code, data, seed or packages are not those of an earlier run, whatever has
        become of their inputs; and that run, '' where nothing of it succeeded. Raises ModelNotFound where there is
        none."""
        earlier = {record.stage: record for record in run_records(self.store, self.selection.against)}
        stages = enabled_stages(self.recipe)
        nothing: Known = dict.fromkeys(stages)
        modified = {
            stage
            for stage in stages
            if stage not in earlier
            or any(
                difference.kind not in ("input", "environment")
                for difference in self.parts(stage, nothing).differences(KeyParts.of(earlier[stage]))
            )
        }
        return modified, next((record.run for record in earlier.values()), "")

    @property
    def _digests(self) -> Path:
        """The file that remembers digests of data outside the store."""
        return HOME / "cache" / "file_digests.json"

    @staticmethod
    def order(stage: str) -> int:
        """Place of a stage in the chain."""
        return list(STAGES).index(stage)

    @cached_property
    def fork(self) -> Fork | None:
        """The iteration from which the forked stage continues. Raises ForkRefused, and ModelNotFound for its run."""
        return find_fork(self.store, self.selection.fork) if self.selection.fork else None

    def fork_of(self, stage: str) -> Fork | None:
        """The same of a stage: None for all but the forked one."""
        return self.fork if stage == self.selection.forked else None

    def check_fork(self, stage: str, parts: KeyParts) -> None:
        """Whether a stage can continue from where it is to. Raises ForkRefused."""
        if (fork := self.fork_of(stage)) is not None:
            spec = STAGES[stage]
            fork.check(
                parts.upstream, spec.inputs(self.recipe)["model"].stage, spec.settings(self.recipe).own.iterations
            )

    def parts(self, stage: str, known: Known) -> KeyParts:
        """What the stage's key is made of, given the records of the stages before it."""
        return self._parts(STAGES[stage], STAGES[stage].inputs(self.recipe), known)

    def _parts(self, spec: StageSpec, inputs: Mapping[str, Input], known: Known) -> KeyParts:
        fork = self.fork_of(spec.name)
        upstream = {name: self._digest(each, known) for name, each in inputs.items()}
        return KeyParts.now(
            spec.name,
            spec.key_settings(self.recipe),
            self.recipe.seed if spec.uses_seed(self.recipe) else None,
            upstream | (fork.upstream(self.store) if fork else {}),
            {key: source.digest for key, source in self.sources(spec).items()},
            spec.module,
            self._variables,
        )

    def gates_key(self, stage: str, known: Known) -> str | None:
        """The digest of all that decides whether what a stage reads passes its gates."""
        spec = STAGES[stage]
        if spec.check is None:
            return None
        return self._gates_key(spec, inputs_of(self.recipe, stage), known)

    def _gates_key(self, spec: StageSpec, inputs: Mapping[str, Input], known: Known) -> str:
        parts = [
            spec.suite(self.recipe).model_dump(mode="json"),
            {name: self._digest(each, known) for name, each in inputs.items()},
            self._gates_code,
        ]
        if is_evaluation(spec.name) and self.recipe.evaluation.benchmarks:
            parts.append({key: source.digest for key, source in self.sources(spec).items()})
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    @cached_property
    def _gates_code(self) -> list[Any]:
        """Digest of the gates' code, and the versions of what it computes with."""
        reached = reached_code(CHECKS, lambda module: module.startswith("infra.progress"))
        return [digest_of(reached.digests), package_versions(reached.packages)]

    @cached_property
    def _variables(self) -> dict[str, str]:
        """Environment variables that the recipe sets for stages' processes, where it sets them."""
        cluster = self.recipe.cluster
        return dict(cluster.environment) if cluster is not None and ON_CLUSTER in os.environ else {}

    def _digest(self, each: Input, known: Known) -> str:
        record = known[each.stage]
        if record is None:
            return UNKNOWN
        ref = output_of(record, each)
        return digest_of_files(self.store.manifest(ref.digest), ref.digest, each.files) if each.files else ref.digest

    def sources(self, spec: StageSpec) -> dict[str, ResolvedSource]:
        """What a stage reads from outside the store, by the recipe's key; looked up once."""
        if spec.name not in self._resolved:
            self._resolved[spec.name] = spec.sources(self.recipe, self._digests)
        return self._resolved[spec.name]

    def reusable(self, stage: str, parts: KeyParts, read: bool = True) -> CachedStage:
        """What may be reused for a stage: what has its key, or what the run has that was named to be reused.

        Raises StageMissing where that run has no such stage, and a selected one needs it.
        """
        if self.selection.reuse is None or stage in self.selected:
            return self.runner.find_reusable(parts, read)
        finished = [
            record
            for record in records.read_skipping(self.store, StageRecord, f"stage-runs/{self.selection.reuse}")
            if record.stage == stage and record.failure is None
        ]
        if finished:
            return CachedStage(finished[-1], [])
        if stage not in self.needed or evaluated_stage(stage) is not None:
            return CachedStage(None, [])
        raise StageMissing(f"run {self.selection.reuse} has no finished stage {stage!r} to use")

    def run(self, stage: str, done: Mapping[str, StageRecord]) -> StageRecord | None:
        """Run one stage on the records of earlier ones, or reuse an earlier run's outputs if its key is the same.

        None for a stage that the recipe does not have, and for one that was not selected, is not needed and has no
        outputs to use. Raises StageMissing for one that is needed and has none.
        """
        spec = STAGES[stage]
        if not spec.enabled(self.recipe):
            return None
        if not {each.stage for each in inputs_of(self.recipe, stage).values()} <= done.keys():
            return None
        task = self.task(stage, done)
        if stage in self.selected:
            return self.runner(task, self.selection.force)
        cached = self.reusable(stage, task.parts)
        if cached.record is not None:
            return self.runner.reuse(cached.record, task)
        if stage in self.needed:
            raise StageMissing(missing(stage, self.selection, cached))
        return None

    def run_step(self, step: str, done: Mapping[str, StageRecord]) -> list[StageRecord]:
        """Run the stage that a step of the flow is, and the evaluation of the model that it makes. Returns the records
        of those that are part of the run."""
        made: dict[str, StageRecord] = {}
        for stage in stages_of_step(step):
            record = self.run(stage, {**done, **made})
            if record is not None:
                made[stage] = record
        return list(made.values())

    def reuse(self, cached: Mapping[str, StageRecord]) -> list[StageRecord]:
        """Record each stage as reused, whatever else there is to it."""
        done: dict[str, StageRecord] = {}
        for stage, record in cached.items():
            done[stage] = self.runner.reuse(record, self.task(stage, done))
        return list(done.values())

    def task(self, stage: str, done: Mapping[str, StageRecord]) -> StageTask:
        """A stage of the chain as it is to be run."""
        spec, inputs, parts = STAGES[stage], inputs_of(self.recipe, stage), self.parts(stage, done)
        self.check_fork(stage, parts)
        return self._task(stage, spec, parts, inputs, done)

    def evaluate(self, name: str, model: StageRecord, data: StageRecord) -> StageRecord:
        """Evaluate the model that a record holds, as the chain does beside the stage that makes it; an evaluation of
        the same model that is there already is reused.

        Args:
            name: of the evaluation's own stage: evaluate, or evaluate/STAGE.
        """
        return self.runner(self.evaluation_task(name, model, data))

    def evaluation_task(self, name: str, model: StageRecord, data: StageRecord) -> StageTask:
        """What `evaluate` runs."""
        spec = evaluation_spec(name, {"model": Input(model.stage)})
        known = {model.stage: model, "data": data}
        # What models wrote is compared with benchmarks in the run itself.
        inputs = {part: each for part, each in spec.reads(self.recipe).items() if each.stage in known}
        return self._task(name, spec, self._parts(spec, inputs, known), inputs, known)

    def _task(
        self, name: str, spec: StageSpec, parts: KeyParts, inputs: Mapping[str, Input], done: Mapping[str, StageRecord]
    ) -> StageTask:
        sources, fork = self.sources(spec), self.fork_of(spec.name)
        refs = {part: output_of(done[each.stage], each) for part, each in inputs.items()}

        def open_sources(folder: Path) -> dict[str, Source]:
            return {key: bring(source, folder / key) for key, source in sources.items()}

        return StageTask(
            name=name,
            parts=parts,
            settings=spec.settings(self.recipe),
            load_body=self._read_unchanged(spec, sources) if sources else spec.load,
            inputs=refs | (fork.inputs if fork else {}),
            addresses={key: source.address for key, source in sources.items()},
            open_sources=open_sources,
            load_check=spec.load_check if spec.check else None,
            gates_key=self._gates_key(spec, inputs, done) if spec.check else None,
            forked_from=fork.point if fork else None,
        )

    def _read_unchanged(self, spec: StageSpec, sources: Mapping[str, ResolvedSource]) -> Callable[[], Body]:
        """The body of a stage that reads from outside: it raises DataChanged where that is not what its key says."""

        def load() -> Body:
            body = spec.load()

            def run(context: StageContext, settings: Any) -> StageOutput:
                output = body(context, settings)
                if changed := [source.address for source in sources.values() if source.changed(self._digests)]:
                    del self._resolved[spec.name]
                    raise DataChanged(
                        f"{', '.join(changed)} changed while it was read: the next attempt reads it again"
                    )
                return output

            return run

        return load

    def write_report(self, html: str) -> Path:
        """Write the run's report. Returns its path."""
        path = HOME / "runs" / self.name / "report.html"
        write_text_atomically(path, html)
        return path


def output_of(record: StageRecord, each: Input) -> Ref:
    """The output of a finished stage that an input names."""
    return record.outputs[each.output]


def missing(stage: str, selection: Selection, cached: CachedStage) -> str:
    """Why a stage that is needed and not selected cannot be had, and what to do."""
    reason = cached.problems[0] if cached.problems else "no earlier run made it with this key"
    return (
        f"stage {stage!r} is needed, is not among those to run ({selection.options}), and cannot be reused: {reason}. "
        f"Begin there (--from {stage}), or name a run whose outputs to use (--reuse RUN)"
    )
