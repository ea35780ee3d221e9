"""The values of the index's rows and nodes, computed from records: plain functions.

Invariant: whatever a record holds, no function here fails; what is not of the expected type is left out. Stages put
into metrics and gates what they like.
"""

import json
import math
import zlib
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from infra.store.evaluation_stages import (
    EVALUATE,
    evaluated_stage,
    evaluation_figures,
    evaluation_stage,
    has_own_row,
    is_evaluation,
)
from infra.store.records import StageRecord, TagRecord
from infra.store.store import Ref

KEY_DIGITS = 12
"""Leading hex digits that name a key or a digest to people."""


def plain(text: str) -> str:
    """A text that every database takes: without NUL, without halves of surrogate pairs."""
    return text.replace("\0", "\u2400").encode("utf-8", "replace").decode()


def pack(raw: dict[str, Any]) -> bytes:
    """A record's JSON, compressed."""
    return zlib.compress(json.dumps(raw).encode(), 1)


class DamagedRow(ValueError):
    """A row of the index that does not hold what was written; the message says what it is instead."""


def unpack(body: bytes) -> dict[str, Any]:
    """What was packed. Raises DamagedRow."""
    try:
        raw: dict[str, Any] = json.loads(zlib.decompress(body))
    except (zlib.error, TypeError, ValueError) as error:
        raise DamagedRow(f"a record in it cannot be read ({error})") from error
    return raw


def number(value: Any) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def whole(value: Any) -> int | None:
    """A whole number that a table's column holds, or None."""
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 2**63:
        return None
    return value


def time_of_stamp(stamp: str) -> str | None:
    """When a record was written (UTC, ISO 8601), from the name of its file; None where that has no time."""
    nanoseconds = stamp.partition("-")[0]
    try:
        return datetime.fromtimestamp(int(nanoseconds) // 10**9, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None


def artifact_id(digest: str) -> str:
    return f"artifact:{digest}"


def execution_id(run: str, stage: str) -> str:
    return plain(f"execution:{run}:{stage}")


def source_id(digest: str, address: str) -> str:
    return plain(f"source:{digest}:{address}")


def made_by(record: StageRecord) -> dict[str, Ref]:
    """All that an execution made, by name: its outputs, and the iterations that it kept to continue from."""
    return record.outputs | {f"iteration-{number}": ref for number, ref in record.iterations.items()}


def evaluation_number(record: StageRecord | None, name: str) -> float | None:
    """A figure of the evaluation that a record holds; None where there is none."""
    return number(evaluation_figures(record).get(name))


def evaluation_rank(stage: str, started: str, run: str) -> tuple[int, str, str, str]:
    """What decides between several evaluations of one model; the greatest counts.

    The newest of the chain's evaluations comes first, then that of the record which made the model, then the newest of
    `longhaul evaluate`, whose settings may differ from the recipe's.
    """
    kind = 2 if evaluated_stage(stage) is not None else 0 if stage == EVALUATE else 1
    return kind, started, run, stage


def execution_facts(run: str, record: StageRecord) -> dict[str, Any]:
    return {
        "run": run,
        "stage": plain(record.stage),
        "status": "failed" if record.failure else "succeeded",
        "started": plain(record.started),
        "seconds": number(record.seconds),
        "seed": record.seed,
        "accuracy": evaluation_number(record, "accuracy"),
        "key": plain(record.key[:KEY_DIGITS]),
        "commit": plain(record.commit[:KEY_DIGITS]) if record.commit else None,
        "same_key_other_bytes": plain(record.other_bytes.run) if record.other_bytes else None,
        **({"forked_from": plain(str(record.forked_from))} if record.forked_from else {}),
    }


def gate_facts(gate: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Label and facts of a gate's node."""
    checks = gate.get("checks")
    each = [check for check in checks if isinstance(check, dict)] if isinstance(checks, list) else []
    facts = {
        "passed": gate.get("passed") is True,
        "rows": number(gate.get("rows")),
        "checks": len(each),
        "failed_checks": sum(check.get("success") is not True for check in each),
    }
    return str(gate.get("gate", "gate")), facts


def tag_facts(record: TagRecord) -> dict[str, Any]:
    return {
        "model": record.model.digest if record.model else None,
        "stage": plain(record.stage) if record.stage else None,
        "run": plain(record.run) if record.run else None,
        "time": plain(record.time),
        "by": plain(record.by),
        "reason": plain(record.reason),
    }


def item_values(
    item: dict[str, Any], first: tuple[Any, ...] | None, evaluation: tuple[Any, ...], tags: Sequence[str]
) -> dict[str, Any]:
    """The row of an artifact or source.

    `first` is of the first execution that made it, or, for a source, that read it: started, run, stage and role.
    `evaluation` is a model's accuracy and mean_tokens.
    """
    started, run, stage, role = first or (None, None, None, item["kind"])
    accuracy, mean_tokens = evaluation
    name = item["address"] if item["source"] else role
    ordered_tags = sorted(tags)
    words = (name, item["digest"], item["kind"], stage, run, *ordered_tags)
    return item | {
        "name": name,
        "stage": stage,
        "run": run,
        "started": started,
        "accuracy": accuracy,
        "mean_tokens": mean_tokens,
        "tags": json.dumps(ordered_tags),
        "search": "\n".join(word for word in words if word).casefold(),
    }


def item_facts(row: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Label and facts of the node of an artifact or source."""
    names = ("kind", "digest", "stage", "run", "started", "size", "files", "accuracy")
    facts = {name: row[name] for name in names if row[name] is not None}
    if row["source"]:
        return row["address"], facts
    if row["stage"] is None:
        return f"{row['kind']} {row['digest'][:KEY_DIGITS]}", facts
    kind = "" if row["kind"] == row["name"] else f" ({row['kind']})"
    return f"{row['stage']} · {row['name']}{kind}", facts | {"tags": json.loads(row["tags"])}


def run_values(run: str, events: Sequence[Any], stages: Sequence[Any]) -> dict[str, Any]:
    """The row of a run, from the rows of its events and of its stages, both oldest first."""
    start = next((unpack(row.body) for row in reversed(events) if row.event == "started"), {})
    end = unpack(events[-1].body) if events and events[-1].event == "ended" else None
    failed = [each.stage for each in stages if each.failed and not each.reused]
    if end is not None:
        status = end["status"]
    elif start:
        status = "running"
    else:
        status = "failed" if failed else "unknown"
    recipe = start.get("recipe") or {}
    seed = recipe.get("seed", stages[0].seed if stages else None)
    name = recipe.get("name")
    started = start.get("time") or min((each.started for each in stages), default=(end or {}).get("time", ""))
    names = {each.stage for each in stages}
    counted = [each for each in stages if has_own_row(each.stage, names)]
    row = {
        "run": run,
        "recipe": plain(name) if isinstance(name, str) else None,
        "status": status,
        "started": plain(started),
        "seconds": _between(started, end["time"]) if end and start else None,
        "stages": len(counted),
        "reused": sum(each.reused for each in counted),
        "failed_stage": failed[-1] if failed else None,
        "accuracy": _last_accuracy(stages),
        "seed": whole(seed),
    }
    words = (run, row["recipe"], status, row["failed_stage"])
    return row | {"search": "\n".join(word for word in words if word).casefold()}


def _last_accuracy(stages: Sequence[Any]) -> float | None:
    """Of the last stage whose model was evaluated; of the last evaluation where a run has nothing else."""
    accuracies = {each.stage: each.accuracy for each in stages if each.accuracy is not None}
    made = [each.stage for each in stages if not is_evaluation(each.stage)]
    for stage in reversed(made):
        for name in (evaluation_stage(stage), stage):
            if name in accuracies:
                return float(accuracies[name])
    return next(reversed(accuracies.values()), None)


def _between(started: str, ended: str) -> float | None:
    """Seconds from one time to another; None where the clock was set back, or where one is not a time."""
    try:
        seconds = (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except (ValueError, TypeError):
        return None
    return seconds if seconds >= 0 else None
