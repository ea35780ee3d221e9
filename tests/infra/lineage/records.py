"""Histories that never happened: records of runs as the chain writes them, made in bulk.

`history` makes them as plain records; `write_history` writes them into a local store's folder, without syncing each to
disk, so that a thousand runs take seconds.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.lineage.index import LineageIndex
from infra.store.evaluation_stages import evaluation_stage, is_evaluation
from infra.store.records import Failure, Record, RunRecord, StageRecord, TagRecord
from infra.store.store import Ref, Store

Opened = Callable[[], LineageIndex]
"""The fixture `opened`: opens the index of a test, each time with connections of its own."""

START = datetime(2026, 1, 1, tzinfo=UTC)

CHAIN: dict[str, dict[str, str]] = {
    "data": {},
    "import": {"data": "data"},
    "vanilla_sft": {"data": "data", "model": "import"},
    "curation": {"data": "data", "model": "vanilla_sft"},
    "long_cot_sft": {"data": "data", "model": "vanilla_sft", "prompts": "curation"},
    "rl": {"data": "data", "model": "long_cot_sft", "prompts": "curation"},
    "long2short/merge": {"data": "data", "model": "rl", "short": "vanilla_sft"},
    "long2short/shortest": {"data": "data", "model": "rl", "prompts": "curation"},
    "long2short/dpo": {"data": "data", "model": "rl", "prompts": "curation"},
    "long2short/rl": {"data": "data", "model": "rl", "prompts": "curation"},
}
"""Stages, and the stage that each input comes from."""

NO_MODEL = {"data": "data", "curation": "prompts"}
"""Stages that make a data set instead of a model, and what it is called."""


def digest(*parts: object) -> str:
    """64 hex digits."""
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def ref(kind: str, *parts: object, store: str = "/store") -> Ref:
    """A reference to content that is nowhere."""
    made = digest(*parts)
    return Ref(kind=kind, digest=made, address=f"{store}/objects/{made[:2]}/{made}/content", files=3, size=4096)


def time(minutes: float) -> str:
    """So many minutes after the first run."""
    return (START + timedelta(minutes=minutes)).isoformat(timespec="seconds")


def stage_record(
    stage: str, run: str, *, key: str | None = None, minutes: float = 0, extra_outputs: int = 0, **changed: Any
) -> StageRecord:
    """A stage's record; what is not given is as the chain would have it."""
    key = key or digest(stage, run)
    output = NO_MODEL.get(stage, "model")
    kind = "dataset" if stage in NO_MODEL else "model"
    outputs = {} if is_evaluation(stage) else {output: ref(kind, key, output)}
    outputs |= {f"extra-{number}": ref("dataset", key, number) for number in range(extra_outputs)}
    accuracy = int(digest("accuracy", key)[:4], 16) / 0x10000
    values: dict[str, Any] = {
        "stage": stage,
        "key": key,
        "run": run,
        "started": time(minutes),
        "seconds": 30.0,
        "peak_memory_mb": 900.0,
        "seed": 0,
        "config": {"own": {"learning_rate": 1e-4}, "engine": {"dtype": "float32"}},
        "inputs": {},
        "upstream": {},
        "sources": {},
        "outputs": outputs,
        "code": digest("code"),
        "modules": {f"steps.{stage.split('/')[0]}": digest("code", stage), "infra.inference.engine": digest("engine")},
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "packages": {"python": "3.11.7", "torch": "2.13.0"},
        "gates": [{"gate": f"{stage} rows", "passed": True, "rows": 100, "checks": [CHECK]}],
        "metrics": {"loss": 0.5},
        "history": [{"step": step, "loss": 1 / (step + 1)} for step in range(3)],
        "evaluation": None if stage in NO_MODEL else EVALUATION | {"accuracy": accuracy},
    }
    if is_evaluation(stage):
        values |= {"config": {"evaluation": {"samples": 4, "temperature": 1.0}}, "metrics": {}, "history": []}
    return StageRecord.model_validate(values | changed)


EVALUATION = {
    "problems": 3,
    "samples": 4,
    "accuracy": 0.5,
    "standard_error": 0.01,
    "mean_tokens": 70.5,
    "median_tokens": 60.0,
    "p99_tokens": 320,
    "domains": {"sums": {"problems": 3, "accuracy": 0.5, "mean_tokens": 70.5}},
    "examples": [],
}

CHECK = {
    "expectation": "expect_column_values_to_be_unique",
    "column": "id",
    "rule": "no two rows share an id",
    "success": True,
    "unexpected": 0,
    "examples": [],
    "observed": None,
    "error": None,
}


@dataclass
class History:
    """Records by the name under which a store keeps them, oldest first."""

    records: list[tuple[str, Record]] = field(default_factory=list)

    def add_run(
        self,
        run: str,
        *,
        minutes: float = 0,
        reuse: dict[str, StageRecord] | None = None,
        fails_at: str | None = None,
        status: str | None = None,
        extra_outputs: int = 0,
        sources: dict[str, dict[str, str]] | None = None,
        evaluated: bool = True,
        **changed: Any,
    ) -> dict[str, StageRecord]:
        """A run of the whole chain. Returns its stages' records.

        Args:
            reuse: stages whose outputs are used again, with the records of those who made them.
            fails_at: a stage that fails; nothing runs after it.
            status: how the run ends: `running` for one that does not, `succeeded` or `failed` without it.
            extra_outputs: data sets that each stage makes beside its own output.
            sources: what stages read from outside, by stage.
            evaluated: whether evaluations are stages of their own; otherwise they are in the records of the models'
                stages, as in older stores.
            changed: fields that are changed in the record of every stage that runs and is not an evaluation.
        """
        recipe = {"name": "made-up", "seed": changed.get("seed", 0), "store": "/store"}
        self.records.append(
            (f"runs/{run}", RunRecord(run=run, event="started", time=time(minutes), recipe=recipe, command=["run"]))
        )
        done: dict[str, StageRecord] = {}
        failed = False
        for number, (stage, feeds) in enumerate(CHAIN.items()):
            own: dict[str, Any] = {
                "inputs": {name: done[of].outputs[NO_MODEL.get(of, "model")] for name, of in feeds.items()},
                "upstream": {name: done[of].key for name, of in feeds.items()},
                "sources": (sources or {}).get(stage, {}),
                "extra_outputs": extra_outputs,
            }
            if evaluated and stage not in NO_MODEL:
                own["evaluation"] = None
            if stage == fails_at:
                failed = True
                own |= {"outputs": {}, "evaluation": None, "failure": Failure(error="ValueError: no luck")}
            done[stage] = self._add_stage(stage, run, minutes + number, reuse or {}, own | changed)
            if failed:
                break
            if evaluated and stage not in NO_MODEL and "model" in done[stage].outputs:
                inputs = {"model": done[stage].outputs["model"], "data": done["data"].outputs["data"]}
                own = {"inputs": inputs, "upstream": {"model": done[stage].key, "data": done["data"].key}}
                name = evaluation_stage(stage)
                done[name] = self._add_stage(name, run, minutes + number + 0.5, reuse or {}, own)
        ended = status or ("failed" if failed else "succeeded")
        if ended != "running":
            values = {"run": run, "event": "ended", "time": time(minutes + len(CHAIN)), "status": ended}
            error = "ValueError: no luck" if failed else None
            self.records.append((f"runs/{run}", RunRecord.model_validate(values | {"error": error})))
        return done

    def _add_stage(
        self, stage: str, run: str, minutes: float, reuse: dict[str, StageRecord], values: dict[str, Any]
    ) -> StageRecord:
        """Add the records of a stage that a run ran, or reused."""
        if stage in reuse:
            made = reuse[stage]
            record = made.model_copy(update={"run": run, "reused_from": made.reused_from or made.run})
        else:
            record = stage_record(stage, run, minutes=minutes, **values)
            if record.failure is None:
                self.records.append((f"stages/{record.key}", record))
        self.records.append((f"stage-runs/{run}", record))
        return record

    def set_tag(self, tag: str, made: StageRecord | None, minutes: float = 0) -> None:
        """Set a tag to the model of a stage, or take it away."""
        model = made.outputs["model"] if made else None
        values = {"stage": made.stage, "run": made.run} if made else {"stage": None, "run": None}
        record = TagRecord(tag=tag, model=model, time=time(minutes), by="someone", reason="it is the best", **values)
        self.records.append((f"tags/{tag}", record))


def reused(made: dict[str, StageRecord], *stages: str) -> dict[str, StageRecord]:
    """Stages of a run for another to reuse, with their evaluations."""
    names = [name for stage in stages for name in (stage, evaluation_stage(stage)) if name in made]
    return {name: made[name] for name in names}


BEFORE_RL = ("data", "import", "vanilla_sft", "curation", "long_cot_sft")


def two_runs(evaluated: bool = True) -> History:
    """The second run reuses what the first one made until RL, which fails."""
    history = History()
    sources = {"data": {"data/train.jsonl": digest("train")}}
    first = history.add_run("first", sources=sources, seed=3, evaluated=evaluated)
    history.add_run(
        "second",
        minutes=60,
        reuse=reused(first, *BEFORE_RL),
        fails_at="rl",
        seed=3,
        evaluated=evaluated,
    )
    return history


def big_history(runs: int = 1000, artifacts_per_run: int = 100) -> Iterator[tuple[str, Record]]:
    """Many runs, a few records at a time: all reuse the first run's data and base, every tenth fails at RL, every fifth
    reuses all up to RL of the run before."""
    first: dict[str, StageRecord] = {}
    last: dict[str, StageRecord] = {}
    # A run runs some seven of the stages on average, and each makes one output of its own.
    extra = max(0, artifacts_per_run // 7)
    for number in range(runs):
        history = History()
        reuse = reused(first, "data", "import")
        if last and number % 5 == 4:
            reuse |= reused(last, *BEFORE_RL)
        made = history.add_run(
            f"2026-{number:05d}-made-up",
            minutes=60 * number,
            reuse=reuse,
            fails_at="rl" if number % 10 == 9 else None,
            extra_outputs=extra + (2 if number % 2 else 0),
            sources={"data": {"data/train.jsonl": digest("train"), "data/test.jsonl": digest("test")}},
            seed=number % 3,
        )
        first = first or made
        last = made
        if number % 50 == 10:
            history.set_tag("production", made.get("rl"), minutes=60 * number)
        yield from history.records


def write_history(store: Path, records: Iterator[tuple[str, Record]] | list[tuple[str, Record]], first: int = 0) -> int:
    """Write records into a local store's folder, in their order. Returns their number.

    `first` is the number of records that were written before: times go on from it.
    """
    number = first
    for number, (name, record) in enumerate(records, first + 1):
        folder = store / "records" / name
        folder.mkdir(parents=True, exist_ok=True)
        unique = hashlib.sha256(f"{number}".encode()).hexdigest()[:32]
        text = json.dumps(record.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)
        (folder / f"{number:020d}-{unique}.json").write_text(text, encoding="utf-8")
    return number - first


def indexed(opened: Opened, store: Store, history: History) -> LineageIndex:
    """The index of a store that holds a history."""
    write_history(Path(store.backend.address), history.records)
    index = opened()
    index.sync(store)
    return index
