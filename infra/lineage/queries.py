"""Queries of the lineage: which models saw a file, and what would rerun if it changed.

What came from what, to any depth, the index itself answers: `upstream` and `downstream`. What differs between two
models is in histories.py.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import func, select

from infra.lineage.errors import LineageError
from infra.lineage.graph import Node
from infra.lineage.index import LineageIndex, model_row, run_row
from infra.lineage.resolve import candidates, find
from infra.lineage.row_values import artifact_id, execution_id, number, plain, unpack
from infra.lineage.rows import ModelRow, RunRow
from infra.lineage.tables import among, edges, executions, items, reading, runs, stage_runs
from infra.lineage.traversal import number_of, reach
from infra.store.evaluation_stages import EVALUATE
from infra.store.records import StageRecord


def find_all(index: LineageIndex, name: str) -> list[Node]:
    """The nodes that a name means: one, or all versions of one file. Raises LineageError as `LineageIndex.find`."""
    with reading(index.engine) as connection:
        matches = candidates(connection, name)
        sources = bool(matches) and all(node.kind == "source" for node in matches)
        if sources and len({_address(node) for node in matches}) == 1:
            return matches
        return [find(connection, name)]


def is_known(index: LineageIndex, name: str) -> bool:
    """Whether a name means anything in the lineage."""
    with reading(index.engine) as connection:
        return bool(candidates(connection, name))


def _address(source: Node) -> str:
    return source.id.split(":", 2)[2]


def models_that_saw(index: LineageIndex, origins: Sequence[Node]) -> list[ModelRow]:
    """The models that any of these nodes led to, newest first: those trained on it, and those made from them."""
    with reading(index.engine) as connection:
        start = [number_of(connection, node.id) for node in origins]
        reached = reach(connection, start, "downstream")
        after = [each for each in reached if each not in set(start)]
        query = select(items).where(items.c.model, among(connection, items.c.node, after))
        rows = connection.execute(query.order_by(items.c.started.desc().nulls_last(), items.c.node.desc()))
        return [model_row(row) for row in rows]


def models_by_digest(index: LineageIndex, digests: Collection[str]) -> dict[str, ModelRow]:
    """The lines of models in the table of models, by digest."""
    with reading(index.engine) as connection:
        # By the digest alone: SQLite would look through all models for it.
        query = select(items).where(among(connection, items.c.digest, digests))
        return {row.digest: model_row(row) for row in connection.execute(query) if row.model}


@dataclass(frozen=True)
class Rerun:
    """A stage that would run again."""

    id: str
    """The execution's node."""
    stage: str
    run: str
    """The run that executed it."""
    because: tuple[str, ...]
    """What it reads that would differ: the file's address, or inputs as `name from stage`."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True)
class Reruns:
    """What would rerun in a run if a file or artifact changed."""

    run: str
    stages: tuple[Rerun, ...]
    """In the order in which they would run: a later one only if those before it made something else."""
    reused: tuple[str, ...]
    """The run's other stages, which would be reused."""

    @property
    def seconds(self) -> float:
        """How long the stages that would rerun took together."""
        return sum(stage.seconds for stage in self.stages)


def reruns(index: LineageIndex, name: str, run: str | None = None) -> Reruns:
    """What would have to run again if a file changed: the stages of a run that read it, and all that follow.

    Args:
        name: a file by its address or the end of it, or any other node of the lineage.
        run: a run; default: the newest that any version of the file is part of.

    Raises LineageError where the name is unknown or ambiguous, or no such run has read it.
    """
    changed = find_all(index, name)
    chosen = _newest_use(index, changed, run)
    if chosen is None:
        where = f"in run {run!r}" if run else "in any run"
        raise LineageError(f"nothing has read {name!r} {where}: if it changed, no stage would rerun")
    stages = index.run(chosen).stages
    reasons: dict[str, tuple[str, ...]] = {}
    again: dict[str, StageRecord] = {}
    while True:
        made = {ref.digest: record.stage for record in again.values() for ref in record.outputs.values()}
        reasons = {record.stage: _because(record, changed, made) for record in stages}
        affected = {record.stage: record for record in stages if reasons[record.stage]}
        if affected.keys() == again.keys():
            break
        again = affected
    rerun = [
        Rerun(
            execution_id(record.reused_from or record.run, record.stage),
            record.stage,
            record.reused_from or record.run,
            reasons[record.stage],
            number(record.seconds) or 0.0,
        )
        for record in stages
        if record.stage in again
    ]
    return Reruns(chosen, tuple(rerun), tuple(record.stage for record in stages if record.stage not in again))


def _newest_use(index: LineageIndex, changed: Sequence[Node], run: str | None) -> str | None:
    """The newest run with a stage that read one of the nodes, or is one."""
    with reading(index.engine) as connection:
        start = [number_of(connection, node.id) for node in changed]
        near = reach(connection, start, "downstream", depth=1)
        uses = select(runs.c.run).join(stage_runs, stage_runs.c.run == runs.c.run)
        uses = uses.where(among(connection, stage_runs.c.execution, near))
        if run is not None:
            uses = uses.where(runs.c.run == run)
        return connection.execute(uses.order_by(runs.c.started.desc(), runs.c.run.desc()).limit(1)).scalar()


def _because(record: StageRecord, changed: Sequence[Node], made: dict[str, str]) -> tuple[str, ...]:
    """What a stage reads that would differ; empty where nothing would.

    `made` names the stage that would run again by the digests of its outputs.
    """
    ids = {node.id for node in changed}
    addresses = {_address(node) for node in changed if node.kind == "source"}
    own = execution_id(record.reused_from or record.run, record.stage)
    return (
        *(["it would itself differ"] if own in ids else []),
        *sorted(address for address in record.sources if plain(address) in addresses),
        *sorted(name for name, ref in record.inputs.items() if artifact_id(ref.digest) in ids),
        *sorted(f"{name} from {made[ref.digest]}" for name, ref in record.inputs.items() if ref.digest in made),
    )


def running_runs(index: LineageIndex, limit: int) -> list[RunRow]:
    """Runs that have not ended, newest first; a run that was killed is one of them until its end is recorded."""
    with reading(index.engine) as connection:
        query = select(runs).where(runs.c.status == "running").order_by(runs.c.started.desc()).limit(limit)
        return [run_row(row) for row in connection.execute(query)]


def newest_run_of_chain(index: LineageIndex) -> str | None:
    """The newest run with a stage that is not an evaluation alone; None where there is none."""
    return next(iter(newest_runs_of_chain(index, 1)), None)


def newest_runs_of_chain(index: LineageIndex, limit: int) -> Sequence[str]:
    """The newest runs with a stage that is not an evaluation alone, newest first."""
    with reading(index.engine) as connection:
        stage = stage_runs.c.stage
        chain = select(stage_runs.c.run).where(
            stage_runs.c.run == runs.c.run, stage != EVALUATE, ~stage.startswith(f"{EVALUATE}/"), stage != "data"
        )
        query = select(runs.c.run).where(chain.exists()).order_by(runs.c.started.desc(), runs.c.run.desc())
        return connection.execute(query.limit(limit)).scalars().all()


def newest_executions(index: LineageIndex, stage: str, limit: int) -> list[StageRecord]:
    """Executions of a stage, also those that failed, newest first."""
    with reading(index.engine) as connection:
        query = select(executions.c.body).where(executions.c.stage == plain(stage))
        bodies = connection.execute(query.order_by(executions.c.started.desc()).limit(limit)).scalars()
        return [StageRecord.model_validate(unpack(body)) for body in bodies]


def runs_that_used(index: LineageIndex, id: str, limit: int) -> tuple[list[RunRow], int]:
    """The newest runs with a stage that read, or made, a file or an artifact, also by reusing it; and how many they
    are. Raises LineageError where there is no such node."""
    with reading(index.engine) as connection:
        item = number_of(connection, id)
        after, before = (
            select(end).where(other == item)
            for end, other in ((edges.c.target, edges.c.source), (edges.c.source, edges.c.target))
        )
        used = select(stage_runs.c.run).where(stage_runs.c.execution.in_(after.union(before)))
        where = runs.c.run.in_(used)
        total = connection.execute(select(func.count()).select_from(runs).where(where)).scalar_one()
        query = select(runs).where(where).order_by(runs.c.started.desc(), runs.c.run.desc()).limit(limit)
        return [run_row(row) for row in connection.execute(query)], total


def run_before(index: LineageIndex, row: RunRow) -> str | None:
    """The run of the same recipe that started last before a run; None where there is none."""
    with reading(index.engine) as connection:
        query = select(runs.c.run).where(runs.c.started < row.started, runs.c.recipe == row.recipe)
        return connection.execute(query.order_by(runs.c.started.desc()).limit(1)).scalar()
