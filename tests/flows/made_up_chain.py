"""A store in which a recipe's stages are recorded as finished, without an engine having run."""

import json
from pathlib import Path
from typing import Any

from flows.chain import STAGES, Chain, output_for, wanted_stages
from flows.cli.overrides import apply_overrides
from flows.runs import end_run, start_run
from flows.selection import Selection
from infra.stages.code_digest import digest_of
from infra.store import records
from infra.store.records import StageRecord
from steps.recipe import Recipe, check_recipe, load_recipe

OUTPUTS = {
    "data": {"data": "dataset"},
    "curation": {"prompts": "dataset"},
    "reward_models": {"classic_rm": "model", "cot_rm": "model"},
}
SECONDS = 60.0


def recipe(store: Path, *settings: str) -> Recipe:
    raw = load_recipe(Path(__file__).parents[2] / "configs" / "smoke.yaml").model_dump(mode="json")
    return check_recipe(apply_overrides(raw, [f"store={store}", "tracking.mode=disabled", *settings]), "smoke")


def chain(store: Path, *settings: str, run: str = "run-1", **selection: Any) -> Chain:
    return Chain(recipe(store, *settings), run, Selection(**selection))


def evaluation(accuracy: float, mean_tokens: float = 80.0) -> dict[str, Any]:
    return {
        "problems": 12,
        "samples": 2,
        "accuracy": accuracy,
        "standard_error": 0.05,
        "mean_tokens": mean_tokens,
        "median_tokens": mean_tokens,
        "p99_tokens": 2 * mean_tokens,
        "domains": {},
        "shown": [],
    }


def finish(made: Chain, folder: Path, accuracy: float = 0.5) -> dict[str, StageRecord]:
    """Record each stage as run by the chain's run."""
    start_run(made.store, made.name, made.recipe.model_dump(mode="json"), ["run"])
    done: dict[str, StageRecord] = {}
    for number, stage in enumerate(wanted_stages(made.recipe)):
        inputs = STAGES[stage].inputs(made.recipe)
        parts = made.parts(stage, {name: record.key for name, record in done.items()})
        outputs = {}
        for name, kind in OUTPUTS.get(stage, {"model": "model"}).items():
            place = folder / made.name / stage / name
            place.mkdir(parents=True)
            (place / "content.json").write_text(json.dumps([stage, name, parts.key]))
            outputs[name] = made.store.put(place, kind)
        done[stage] = StageRecord(
            **vars(parts),
            key=parts.key,
            run=made.name,
            started=f"2026-01-01T00:{number:02}:00+00:00",
            seconds=SECONDS,
            peak_memory_mb=1000,
            inputs={name: output_for(name, done[source]) for name, source in inputs.items()},
            outputs=outputs,
            code=digest_of(parts.modules),
            commit=None,
            gates=[],
            metrics={"number": number},
            history=[],
            evaluation=evaluation(accuracy) if "model" in outputs else None,
        )
        records.write(made.store, f"stages/{parts.key}", done[stage])
        records.write(made.store, f"stage-runs/{made.name}", done[stage])
    end_run(made.store, made.name, "succeeded")
    return done
