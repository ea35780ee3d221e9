"""The history of a model, stage by stage, and what differs between the histories of two."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from infra.flatten import flatten
from infra.lineage.errors import LineageError
from infra.lineage.graph import Node
from infra.lineage.index import LineageIndex
from infra.lineage.row_values import artifact_id, plain
from infra.lineage.tables import edges, executions, nodes, reading, stage_runs
from infra.store.evaluation_stages import evaluation_figures
from infra.store.records import StageRecord

OTHER_BYTES = "other bytes"
"""What a change is called where two executions with the same key made something else."""


@dataclass(frozen=True)
class Change:
    """A value that differs between two executions of a stage."""

    what: str
    """seed, config, code, package, data, input, environment, other bytes (of the same key), metric or evaluation."""
    name: str
    """The setting, module, package, address, input, part of the environment, output or metric; '' where `what` says
    all."""
    before: Any
    """The first execution's value; None where it has none."""
    after: Any


@dataclass(frozen=True)
class StageDifference:
    """A stage in two histories."""

    stage: str
    before: str | None
    """The run that executed it; None where the first history has no such stage."""
    after: str | None
    changes: tuple[Change, ...]
    """Empty where both histories have the same execution, or two that differ in nothing."""

    @property
    def same(self) -> bool:
        """Whether both histories have the same execution."""
        return self.before is not None and self.before == self.after


def history(index: LineageIndex, name: str) -> list[StageRecord]:
    """The executions that made a model, the model's own first, each before those that made its inputs.

    `name` is any name of a model, or one of an execution. Raises LineageError where it is neither.
    """
    model = _execution_of(index, index.find(name), name)
    seen = {(model.run, model.stage)}
    finished: list[StageRecord] = []
    path = [(model, _makers(index, model))]
    while path:
        record, makers = path[-1]
        maker = next(makers, None)
        if maker is None:
            finished.append(record)
            path.pop()
        elif (maker.run, maker.stage) not in seen:
            seen.add((maker.run, maker.stage))
            path.append((maker, _makers(index, maker)))
    return finished[::-1]


def differences(index: LineageIndex, before: str, after: str) -> list[StageDifference]:
    """What differs between the histories of two models, stage by stage, earliest stage first.

    Evaluations that are stages of their own are part of the stage whose model they evaluated. Raises LineageError where
    a name is unknown, ambiguous or not a model's.
    """
    first, second = (_by_stage(history(index, name)) for name in (before, after))
    stages = [*reversed(list(second)), *(stage for stage in reversed(list(first)) if stage not in second)]
    return [_difference(index, stage, first.get(stage), second.get(stage)) for stage in stages]


def changes(
    before: StageRecord, after: StageRecord, evaluations: tuple[StageRecord | None, StageRecord | None]
) -> tuple[Change, ...]:
    """The values that differ between two executions: those that shape a stage first, and its results last.

    `evaluations` are the records that hold the evaluation of each execution's model.
    """
    first, second = (_figures(record) for record in evaluations)
    pairs: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("seed", {"": before.seed}, {"": after.seed}),
        ("config", flatten(before.config), flatten(after.config)),
        ("code", dict(before.modules), dict(after.modules)),
        ("package", dict(before.packages), dict(after.packages)),
        ("data", dict(before.sources), dict(after.sources)),
        ("input", {n: r.digest for n, r in before.inputs.items()}, {n: r.digest for n, r in after.inputs.items()}),
        ("environment", dict(before.environment), dict(after.environment)),
        (OTHER_BYTES, *_outputs_of_one_key(before, after)),
        ("metric", flatten(before.metrics), flatten(after.metrics)),
        ("evaluation", first, second),
    ]
    if not before.modules or not after.modules:
        pairs[2] = ("code", {"": before.code}, {"": after.code})
    return tuple(
        Change(what, name, one.get(name), other.get(name))
        for what, one, other in pairs
        for name in sorted(one.keys() | other.keys())
        if name not in one or name not in other or one[name] != other[name]
    )


def _outputs_of_one_key(before: StageRecord, after: StageRecord) -> tuple[dict[str, Any], dict[str, Any]]:
    """Digests of the outputs of two executions with the same key, which should be the same; empty of other keys."""
    if before.key != after.key or before.failure or after.failure:
        return {}, {}
    first, second = ({name: ref.digest for name, ref in record.outputs.items()} for record in (before, after))
    return first, second


def _figures(record: StageRecord | None) -> dict[str, Any]:
    """An evaluation without the responses, which are for reading."""
    return {name: value for name, value in flatten(evaluation_figures(record)).items() if name != "examples"}


def _by_stage(records: Sequence[StageRecord]) -> dict[str, StageRecord]:
    """By stage; of a stage that a history has twice, the second is named after its run."""
    by_stage: dict[str, StageRecord] = {}
    for record in records:
        by_stage[record.stage if record.stage not in by_stage else f"{record.stage} of {record.run}"] = record
    return by_stage


def _difference(
    index: LineageIndex, stage: str, before: StageRecord | None, after: StageRecord | None
) -> StageDifference:
    runs_of = (before.run if before else None, after.run if after else None)
    if before is None or after is None or before.run == after.run:
        return StageDifference(stage, *runs_of, ())
    evaluations = index.evaluation_of(before), index.evaluation_of(after)
    return StageDifference(stage, *runs_of, changes(before, after, evaluations))


def _execution_of(index: LineageIndex, node: Node, name: str) -> StageRecord:
    """The execution that a node is, or that made it."""
    if node.kind == "tag":
        node = index.upstream(node.id, depth=1).nodes[1]
    if node.kind == "execution":
        return index.stage_record(node.facts["run"], node.facts["stage"])
    if node.kind == "artifact":
        maker = _maker(index, node.id, None, None)
        if maker is not None:
            return maker
        raise LineageError(f"{name!r} ({node.id}) is only known as an input: no record says what made it")
    raise LineageError(f"{name!r} is a {node.kind} ({node.id}): give a model's tag, RUN:STAGE or digest")


def _makers(index: LineageIndex, record: StageRecord) -> Iterator[StageRecord]:
    """The executions that made a stage's inputs."""
    for name, ref in sorted(record.inputs.items()):
        key = record.upstream.get(name) if record.key_format == 1 else None
        maker = _maker(index, artifact_id(ref.digest), record.run, key)
        if maker is not None:
            yield maker


def _maker(index: LineageIndex, artifact: str, run: str | None, key: str | None) -> StageRecord | None:
    """The execution that made an artifact. Of several that made the same content: the one with the key that the reader
    recorded (keys of format 1); then the one that is part of the reader's run; then the first."""
    with reading(index.engine) as connection:
        node = connection.execute(select(nodes.c.node).where(nodes.c.id == artifact)).scalar()
        of_run = select(stage_runs.c.execution).where(stage_runs.c.run == run)
        made = select(executions.c.run, executions.c.stage).join(edges, edges.c.source == executions.c.node)
        best = made.where(edges.c.target == node).order_by(
            (executions.c.key == plain(key or "")).desc(),
            executions.c.node.in_(of_run).desc(),
            executions.c.started,
            executions.c.run,
            executions.c.stage,
        )
        row = connection.execute(best.limit(1)).first()
    return index.execution(row.run, row.stage) if row is not None else None
