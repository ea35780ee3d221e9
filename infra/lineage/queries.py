"""Questions about the lineage: which models saw this, and what would rerun if it changed.

What came from what, to any depth, is the index's own: `upstream` and `downstream`. What differs between two models is
in histories.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select

from infra.lineage.graph import Node
from infra.lineage.index import LineageIndex, model_row
from infra.lineage.resolve import candidates, find
from infra.lineage.row_values import artifact_id, execution_id, number, plain
from infra.lineage.rows import ModelRow
from infra.lineage.tables import LineageError, among, items, reading, runs, stage_runs
from infra.lineage.traversal import number_of, reach
from infra.store.records import StageRecord


def find_all(index: LineageIndex, name: str) -> list[Node]:
    """The nodes that a name means: one, or all versions of one file. Raises LineageError as `LineageIndex.find`."""
    with reading(index.engine) as connection:
        found = candidates(connection, name)
        if found and all(node.kind == "source" for node in found) and len({_address(node) for node in found}) == 1:
            return found
        return [find(connection, name)]


def is_known(index: LineageIndex, name: str) -> bool:
    """Whether a name means anything in the lineage."""
    with reading(index.engine) as connection:
        return bool(candidates(connection, name))


def _address(source: Node) -> str:
    return source.id.split(":", 2)[2]


def models_that_saw(index: LineageIndex, given: Sequence[Node]) -> list[ModelRow]:
    """The models that any of these nodes led to, newest first: those trained on it, and those made from them."""
    with reading(index.engine) as connection:
        start = [number_of(connection, node.id) for node in given]
        reached = reach(connection, start, "downstream")
        after = [each for each in reached if each not in set(start)]
        listed = select(items).where(items.c.model, among(connection, items.c.node, after))
        rows = connection.execute(listed.order_by(items.c.started.desc().nulls_last(), items.c.node.desc()))
        return [model_row(row) for row in rows]


@dataclass(frozen=True)
class Rerun:
    """A stage that would run again."""

    id: str
    """The execution's node."""
    stage: str
    run: str
    """The run that executed it."""
    because: tuple[str, ...]
    """What it reads that would be another: the file's address, or inputs as `name from stage`."""
    seconds: float
    """How long it took."""


@dataclass(frozen=True)
class Reruns:
    """What would rerun in a run if a file or artifact changed."""

    run: str
    stages: tuple[Rerun, ...]
    """In the order in which they would run."""
    reused: tuple[str, ...]
    """The run's other stages, which would be used again."""

    @property
    def seconds(self) -> float:
        """How long those that would rerun took together."""
        return sum(stage.seconds for stage in self.stages)


def reruns(index: LineageIndex, name: str, run: str | None = None) -> Reruns:
    """What would have to run again if a file changed: the stages of a run that read it, and all that follow.

    Args:
        name: a file by its address or the end of it; anything else in the lineage will do too.
        run: the run that is meant; the newest that any version of the file is part of without it.

    Raises LineageError where the name is unknown or ambiguous, or no such run has read it.
    """
    given = find_all(index, name)
    chosen = _newest_use(index, given, run)
    if chosen is None:
        where = f"in run {run!r}" if run else "in any run"
        raise LineageError(f"nothing has read {name!r} {where}: if it changed, no stage would rerun")
    stages = index.run(chosen).stages
    others: dict[str, tuple[str, ...]] = {}
    again: dict[str, StageRecord] = {}
    while True:
        # A stage's key is made of the keys before it: what reads another key's outputs runs, whatever they hold.
        keys = {record.key: record.stage for record in again.values()}
        others = {record.stage: _because(record, given, keys) for record in stages}
        found = {record.stage: record for record in stages if others[record.stage]}
        if found.keys() == again.keys():
            break
        again = found
    told = [
        Rerun(
            execution_id(record.reused_from or record.run, record.stage),
            record.stage,
            record.reused_from or record.run,
            others[record.stage],
            number(record.seconds) or 0.0,
        )
        for record in stages
        if record.stage in again
    ]
    return Reruns(chosen, tuple(told), tuple(record.stage for record in stages if record.stage not in again))


def _newest_use(index: LineageIndex, given: Sequence[Node], run: str | None) -> str | None:
    """The newest run with a stage that read one of the nodes, or is one."""
    with reading(index.engine) as connection:
        start = [number_of(connection, node.id) for node in given]
        near = reach(connection, start, "downstream", depth=1)
        uses = select(runs.c.run).join(stage_runs, stage_runs.c.run == runs.c.run)
        uses = uses.where(among(connection, stage_runs.c.execution, near))
        if run is not None:
            uses = uses.where(runs.c.run == run)
        return connection.execute(uses.order_by(runs.c.started.desc(), runs.c.run.desc()).limit(1)).scalar()


def _because(record: StageRecord, given: Sequence[Node], keys: dict[str, str]) -> tuple[str, ...]:
    """What a stage reads that would be another; empty where nothing would."""
    ids = {node.id for node in given}
    addresses = {_address(node) for node in given if node.kind == "source"}
    own = execution_id(record.reused_from or record.run, record.stage)
    return (
        *(["it would be another itself"] if own in ids else []),
        *sorted(address for address in record.sources if plain(address) in addresses),
        *sorted(name for name, ref in record.inputs.items() if artifact_id(ref.digest) in ids),
        *sorted(f"{name} from {keys[key]}" for name, key in record.upstream.items() if key in keys),
    )
