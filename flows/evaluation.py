"""Evaluating a finished model again, and comparing it with the one that a tag names.

Both are evaluated on the data and with the settings that the recipe has now, each as a run of its own with the stages
`data` and `evaluate`; an evaluation of the same model, data, settings and code is reused, also the one that the chain
made beside the model. What is compared has therefore always been evaluated alike.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from flows.chain import Chain
from flows.cluster.pool_environments import find_on_pool
from flows.home import HOME, open_store
from flows.models import HUB_NAME, ModelNotFound, find_model_record, import_of, names_checkpoint, tagged
from flows.runs import end_run, start_run
from flows.topology import MODEL_STAGES
from infra.files import write_text_atomically
from infra.store import records
from infra.store.evaluation_stages import EVALUATE, evaluation_figures
from infra.store.records import StageRecord
from infra.store.store import Ref, Store, StoreError
from steps.promotion import PromotionCheck, PromotionRules, check_promotion
from steps.recipe import ConfigRefused, Recipe, check_recipe

FINISHED = tuple(stage for stage in MODEL_STAGES if stage == "rl" or stage.startswith("long2short/"))
"""Stages whose models are finished ones: RL and what follows it, in the chain's order."""


@dataclass(frozen=True)
class Evaluated:
    """A model, where it comes from, and how it did."""

    model: Ref
    stage: str
    run: str
    """The stage that made it, of the run that really ran it."""
    record: StageRecord
    """Of the evaluation."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "digest": self.model.digest,
            "stage": self.stage,
            "run": self.run,
            "evaluation": evaluation_figures(self.record),
            "evaluated_in": self.record.reused_from or self.record.run,
        }


@dataclass(frozen=True)
class Comparison:
    """A model beside the tagged one."""

    new: Evaluated
    tag: str
    tagged: Evaluated | None
    """None where nothing is tagged so."""
    checks: list[PromotionCheck]
    """Whether the model may take the tag; empty where there is nothing to compare with."""

    @property
    def verdict(self) -> str:
        """In a line."""
        if self.tagged is None:
            return f"no model is tagged {self.tag}: there is nothing to compare with"
        if self.tagged.model.digest == self.new.model.digest:
            return f"this is the model that is tagged {self.tag}"
        summary = "; ".join(check.reason for check in self.checks)
        return f"{'may take' if all(check.passed for check in self.checks) else 'may not take'} {self.tag}: {summary}"

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.new.plain(),
            "tag": self.tag,
            "tagged": self.tagged.plain() if self.tagged else None,
            "checks": [asdict(check) for check in self.checks],
            "verdict": self.verdict,
        }


def with_benchmarks(recipe: Recipe, names: Sequence[str], limit: int | None) -> Recipe:
    """The recipe with benchmarks besides its own: NAME, or NAME=FILE for rows that are in a file.

    Raises ConfigRefused for a benchmark that is not here, and for a limit without a benchmark.
    """
    raw = recipe.model_dump(mode="json")
    own = {one["name"]: one for one in raw["evaluation"]["benchmarks"]}
    for each in names:
        name, _, path = each.partition("=")
        own[name] = {**own.get(name, {"name": name}), **({"path": path} if path else {})}
    if limit is not None:
        if not own:
            raise ConfigRefused("--limit is for benchmarks, and there is none: name one with --benchmark NAME")
        own = {name: {**one, "limit": limit} for name, one in own.items()}
    raw["evaluation"]["benchmarks"] = list(own.values())
    return check_recipe(raw, "--benchmark") if names or limit is not None else recipe


def newest_model(store: Store) -> tuple[Ref, StageRecord]:
    """The finished model of the newest run that has one; of several, the last in the chain's order.

    Raises ModelNotFound where there is none.
    """
    runs = dict.fromkeys(key.split("/")[1] for key in reversed(store.list_records("stage-runs")))
    for run in runs:
        models = {
            record.stage: record
            for record in records.read_skipping(store, StageRecord, f"stage-runs/{run}")
            if record.failure is None and "model" in record.outputs
        }
        for stage in reversed(FINISHED):
            if stage in models:
                return models[stage].outputs["model"], models[stage]
    raise ModelNotFound(
        f"{store.backend.address} holds no finished model, of {', '.join(FINISHED)}: start a run with `longhaul run`, "
        "or name a model"
    )


def evaluate_model(recipe: Recipe, run: str, model: str, command: Sequence[str]) -> Evaluated:
    """Evaluate a model by its name (flows/models.py), or the newest one without, and record that as a run. A checkpoint
    outside the store is imported first, as the chain does.

    Raises ModelNotFound, StoreError, and what a stage raises, once the failure is recorded.
    """
    known = _stored_model(Chain(recipe, run).store, model)
    if known is None:
        recipe = recipe.model_copy(update={"import_checkpoint": import_of(model)})
    chain = Chain(recipe, run)
    start_run(chain.store, run, recipe.model_dump(mode="json"), command)
    try:
        ref, made = known or _imported(chain)
        record = _evaluated(chain, ref, made)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        with suppress(StoreError):  # what broke the stage may be the store: the stage's own error is the one to see
            summary = None if interrupted else f"{type(error).__name__}: {error}".partition("\n")[0]
            end_run(chain.store, run, "interrupted" if interrupted else "failed", summary)
        raise
    end_run(chain.store, run, "succeeded")
    return Evaluated(ref, made.stage, made.reused_from or made.run, record)


def _stored_model(store: Store, name: str) -> tuple[Ref, StageRecord] | None:
    """None where the name is that of a checkpoint outside the store. Raises ModelNotFound."""
    if not name:
        return newest_model(store)
    if names_checkpoint(name):
        return None
    try:
        return find_model_record(store, name)
    except ModelNotFound as error:
        if HUB_NAME.fullmatch(name) and name not in MODEL_STAGES:
            return None
        raise ModelNotFound(
            f"{error}; a checkpoint outside the store is a folder, an s3:// address or a hub's owner/name"
        ) from None


def _imported(chain: Chain) -> tuple[Ref, StageRecord]:
    made = chain.run("import", {})
    assert made is not None
    return made.outputs["model"], made


def evaluate_tagged(recipe: Recipe, run: str, tag: str, command: Sequence[str]) -> Evaluated | None:
    """Evaluate what a tag names; None where it names nothing."""
    set_to = tagged(Chain(recipe, run).store, tag)
    if set_to is None or set_to.model is None:
        return None
    return evaluate_model(recipe, run, set_to.model.digest, command)


def reuse_evaluation(recipe: Recipe, run: str, model: str, command: Sequence[str]) -> bool:
    """Record an evaluation as evaluate_model does, where a node of the evaluation's pool has nothing left to do for it.
    Returns whether it is recorded.

    Raises ModelNotFound, StoreError.
    """
    chain = Chain(recipe, run)
    known = _stored_model(chain.store, model)
    data = chain.reusable("data", chain.parts("data", {})).record
    if known is None or data is None:
        return False
    task = chain.evaluation_task(EVALUATE, _named(*known), data)
    cached = find_on_pool(chain, EVALUATE, EVALUATE, task.parts)
    if cached is None or cached[1].record is None or cached[1].record.gates_key != task.gates_key:
        return False
    start_run(chain.store, run, recipe.model_dump(mode="json"), command)
    chain.reuse({"data": data})
    chain.runner.reuse(cached[1].record, replace(task, parts=cached[0]))
    end_run(chain.store, run, "succeeded")
    return True


def evaluated_in(store: Store, run: str) -> Evaluated | None:
    """What a run evaluated; None where it has finished no evaluation. Raises ModelNotFound."""
    done = {
        record.stage: record
        for record in records.read_skipping(store, StageRecord, f"stage-runs/{run}")
        if record.failure is None
    }
    if EVALUATE not in done:
        return None
    model = done[EVALUATE].inputs["model"]
    imported = done.get("import")
    _, made = (model, imported) if imported is not None else find_model_record(store, model.digest)
    return Evaluated(model, made.stage, made.reused_from or made.run, done[EVALUATE])


def compare(new: Evaluated, tag: str, tagged: Evaluated | None, rules: PromotionRules) -> Comparison:
    """Whether the model keeps what the tagged one has."""
    same = tagged is None or tagged.model.digest == new.model.digest
    return Comparison(
        new, tag, tagged, [] if same or tagged is None else check_promotion(new.record, tagged.record, rules)
    )


def write_comparison(recipe: Recipe, run: str, comparison: Comparison) -> tuple[str, Path]:
    """Write report.html and evaluation.json into the run's folder. Returns the page, and its path."""
    from infra.store.stored_images import StoredImages
    from steps.report.evaluation_page import render_evaluation

    images = StoredImages.of(open_store(recipe.store), [comparison.new.record])
    page = render_evaluation(recipe.name, comparison.plain(), images)
    folder = HOME / "runs" / run
    write_text_atomically(folder / "evaluation.json", json.dumps(comparison.plain(), indent=1))
    write_text_atomically(folder / "report.html", page)
    return page, folder / "report.html"


def _evaluated(chain: Chain, model: Ref, made: StageRecord) -> StageRecord:
    data = chain.run("data", {})
    assert data is not None
    return chain.evaluate(EVALUATE, _named(model, made), data)


def _named(model: Ref, made: StageRecord) -> StageRecord:
    """The record of a model's stage with that model alone: one that is named by its digest is an output of that name,
    whatever the stage calls it."""
    return made.model_copy(update={"outputs": {"model": model}})
