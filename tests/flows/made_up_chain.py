"""A store in which a recipe's stages are recorded as finished, without an engine having run."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from flows.chain import Chain
from flows.cli.overrides import apply_overrides
from flows.runs import end_run, start_run
from flows.selection import Selection
from flows.topology import enabled_stages
from infra.stages.code_digest import definitions, digest_of
from infra.stages.key import KeyParts
from infra.stages.runner import StageTask
from infra.store import records
from infra.store.evaluation import Evaluation
from infra.store.evaluation_stages import is_evaluation
from infra.store.records import DefinitionsRecord, PortableKeyRecord, StageRecord
from infra.store.store import Ref
from steps.recipe import Recipe, check_recipe, load_recipe

OUTPUTS = {
    "data": {"data": "dataset"},
    "vanilla_sft": {"model": "model", "expanded": "dataset"},
    "curation": {"prompts": "dataset"},
    "long_cot_paths": {"paths": "dataset", "answers": "dataset", "samples": "samples"},
    "reward_models": {"classic_rm": "model", "cot_rm": "model"},
}
FILES = {"data": [f"{name}.jsonl" for name in ("train", "test", "sft", "long_cot")]}
SECONDS = 60.0


def recipe(store: Path, *settings: str) -> Recipe:
    raw = load_recipe(Path(__file__).parents[2] / "configs" / "smoke.yaml").model_dump(mode="json")
    return check_recipe(apply_overrides(raw, [f"store={store}", "tracking.mode=disabled", *settings]), "smoke")


def chain(store: Path, *settings: str, run: str = "run-1", **selection: Any) -> Chain:
    return Chain(recipe(store, *settings), run, Selection(**selection))


def evaluation(accuracy: float, mean_tokens: float = 80.0) -> Evaluation:
    return Evaluation(
        problems=12,
        samples=2,
        accuracy=accuracy,
        standard_error=0.05,
        mean_tokens=mean_tokens,
        median_tokens=mean_tokens,
        p99_tokens=2 * mean_tokens,
    )


def made_record(parts: KeyParts, run: str, stage: str, outputs: Mapping[str, Ref], **changes: Any) -> StageRecord:
    """The record of a stage that is said to have run."""
    return StageRecord(
        **{
            "stage": stage,
            "key": parts.key,
            "key_format": parts.format,
            "run": run,
            "started": "2026-01-01T00:00:00+00:00",
            "seconds": SECONDS,
            "peak_memory_mb": 1000,
            "seed": parts.seed,
            "config": parts.config,
            "inputs": {},
            "upstream": parts.upstream,
            "source_digests": parts.sources,
            "outputs": dict(outputs),
            "code": digest_of(parts.modules),
            "modules": parts.modules,
            "definitions": digest_of(parts.modules),
            "commit": None,
            "packages": parts.packages,
            "environment": parts.environment,
            "gates": [],
            "metrics": {},
            "history": [],
            "evaluation": None,
            **changes,
        }
    )


def put_outputs(made: Chain, task: StageTask, folder: Path, content: str) -> dict[str, Ref]:
    """Store what a stage is said to have made: other content, other bytes."""
    outputs = {}
    for name, kind in {} if is_evaluation(task.name) else OUTPUTS.get(task.name, {"model": "model"}).items():
        place = folder / made.name / task.name / name
        place.mkdir(parents=True, exist_ok=True)
        for file in FILES.get(task.name, ["content.json"]):
            (place / file).write_text(json.dumps([task.name, name, file, content]))
        outputs[name] = made.store.put(place, kind)
    return outputs


def finish(
    made: Chain, folder: Path, accuracy: float = 0.5, stages: Iterable[str] | None = None, same: Iterable[str] = ()
) -> dict[str, StageRecord]:
    """Record each stage as run by the chain's run; those in `same` make the same bytes whatever their keys."""
    start_run(made.store, made.name, made.recipe.model_dump(mode="json"), ["run"])
    done: dict[str, StageRecord] = {}
    for number, stage in enumerate(stages or enabled_stages(made.recipe)):
        task = made.task(stage, done)
        parts = task.parts
        done[stage] = made_record(
            parts,
            made.name,
            stage,
            put_outputs(made, task, folder, "the same" if stage in same else parts.key),
            started=f"2026-01-01T00:{number:02}:00+00:00",
            inputs=dict(task.inputs),
            sources={address: parts.sources[key] for key, address in task.addresses.items()},
            gates_key=task.gates_key,
            metrics={"number": number},
            evaluation=evaluation(accuracy) if is_evaluation(stage) else None,
        )
        modules = DefinitionsRecord(modules=definitions(parts.modules))
        records.write(made.store, f"definitions/{done[stage].definitions}", modules)
        entry = PortableKeyRecord(key=parts.key, stage=parts.stage)
        records.write(made.store, f"portable-keys/{parts.portable_key}", entry)
        records.write(made.store, f"stages/{parts.key}", done[stage])
        records.write(made.store, f"stage-runs/{made.name}", done[stage])
    end_run(made.store, made.name, "succeeded")
    return done
