"""Which models saw a prompt: an index of the prompts in all samples of a store, in the database of the lineage's index.

Samples never change under their digest. Each artifact is read once, by the first query after it was made; a rebuild of
the lineage's index leaves this one as it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Float, Index, Integer, MetaData, String, Table, func, select

from infra.lineage.graph import Node
from infra.lineage.index import LineageIndex
from infra.lineage.queries import models_that_saw
from infra.lineage.row_values import artifact_id, plain
from infra.lineage.rows import ModelRow
from infra.lineage.sample_row import KIND
from infra.lineage.samples import SamplesError, as_digests, prompts_in
from infra.lineage.tables import among, edges, items, nodes, reading, writing
from infra.lineage.traversal import read_nodes
from infra.store.store import Ref, Store, StoreError

BATCH = 50
"""Artifacts that are added at a time."""

_metadata = MetaData()

_prompts = Table(
    "lineage_prompts",
    _metadata,
    Column("prompt", Integer, primary_key=True, autoincrement=False),
    Column("digest", String, nullable=False, unique=True),
)

_samples = Table(
    "lineage_samples",
    _metadata,
    Column("samples", Integer, primary_key=True, autoincrement=False),
    Column("digest", String, nullable=False, unique=True),
)

_uses = Table(
    "lineage_prompt_uses",
    _metadata,
    Column("prompt", Integer, primary_key=True, autoincrement=False),
    Column("samples", Integer, primary_key=True, autoincrement=False),
    Column("responses", BigInteger, nullable=False),
    Column("passes", BigInteger, key="times_trained", nullable=False),
    Column("mean_reward", Float),
    Index("lineage_prompt_uses_samples", "samples"),
    sqlite_with_rowid=False,
)


@dataclass(frozen=True)
class PromptUse:
    """Samples that contain a prompt."""

    samples: str
    """Their digest."""
    responses: int
    times_trained: int
    """How many times the optimizer was given one of the responses; 0 where none was trained on."""
    mean_reward: float | None
    executions: tuple[Node, ...]
    """The executions of the stage that left these samples."""


@dataclass(frozen=True)
class PromptUses:
    """Where a prompt was used."""

    digest: str
    uses: tuple[PromptUse, ...]
    trained: tuple[ModelRow, ...]
    """Models that a stage made which trained on it, newest first."""
    descendants: tuple[ModelRow, ...]
    """Models that were made from these, newest first."""
    problems: tuple[str, ...]
    """Samples that could not be read, and why: they may contain it as well."""


def models_that_saw_prompt(index: LineageIndex, store: Store, prompt: str) -> PromptUses:
    """Where a prompt was used, by its text or its digest, or an image of prompts, by its digest.

    What does not matter in a text is `infra.lineage.prompt_digest`'s; samples of earlier versions are looked up under
    the digest that these gave it.

    New samples are read first; the records have to be in the index (`LineageIndex.sync`). Raises LineageError
    where the database fails.
    """
    problems = read_new_samples(index, store)
    digests = as_digests(prompt)
    uses = tuple(_uses_of(index, digests))
    executions = [node for use in uses if use.times_trained for node in use.executions]
    made_by = {(node.facts.get("run"), node.facts.get("stage")) for node in executions}
    models = models_that_saw(index, executions) if executions else []
    own = [(row.run, row.stage) in made_by for row in models]
    trained, descendants = (
        tuple(row for row, is_own in zip(models, own, strict=True) if is_own is side) for side in (True, False)
    )
    return PromptUses(digests[0], uses, trained, descendants, problems)


def read_new_samples(index: LineageIndex, store: Store) -> tuple[str, ...]:
    """Read the samples that have not been read yet. Returns a message for each that cannot be read."""
    with writing(index.engine) as connection:
        _metadata.create_all(connection)
    with reading(index.engine) as connection:
        known = select(_samples.c.digest)
        query = select(items).where(items.c.kind == KIND, ~items.c.source, items.c.digest.not_in(known))
        rows = connection.execute(query.order_by(items.c.node)).all()
    new = [Ref(kind=KIND, digest=r.digest, address=r.address, files=r.files, size=r.size) for r in rows]
    problems = []
    for start in range(0, len(new), BATCH):
        read: dict[str, list[tuple[str, int, int, float | None]]] = {}
        for ref in new[start : start + BATCH]:
            try:
                read[ref.digest] = prompts_in(store, ref)
            except (StoreError, SamplesError) as error:
                problems.append(plain(str(error)))
        with writing(index.engine) as connection:
            _add(connection, read)
    return tuple(problems)


def _add(connection: Connection, read: dict[str, list[tuple[str, int, int, float | None]]]) -> None:
    # Another process may have read some of them meanwhile.
    query = select(_samples.c.digest).where(among(connection, _samples.c.digest, read))
    present = set(connection.execute(query).scalars())
    new = {digest: rows for digest, rows in read.items() if digest not in present}
    numbers = _numbered(connection, _samples, "samples", list(new))
    prompts = _numbered(connection, _prompts, "prompt", list({row[0]: None for rows in new.values() for row in rows}))
    uses: list[dict[str, Any]] = [
        {"prompt": prompts[row[0]], "samples": numbers[digest]}
        | {"responses": row[1], "times_trained": row[2], "mean_reward": row[3]}
        for digest, rows in new.items()
        for row in rows
    ]
    if uses:
        connection.execute(_uses.insert(), uses)


def _numbered(connection: Connection, table: Table, name: str, digests: Sequence[str]) -> dict[str, int]:
    """The numbers of digests; new ones get the next numbers."""
    known = select(table.c.digest, table.c[name]).where(among(connection, table.c.digest, digests))
    numbers: dict[str, int] = {digest: number for digest, number in connection.execute(known)}
    last = connection.execute(select(func.max(table.c[name]))).scalar() or 0
    new = {digest: number for number, digest in enumerate((d for d in digests if d not in numbers), last + 1)}
    if new:
        connection.execute(table.insert(), [{name: number, "digest": digest} for digest, number in new.items()])
    return numbers | new


def _uses_of(index: LineageIndex, digests: Sequence[str]) -> list[PromptUse]:
    with reading(index.engine) as connection:
        query = select(_samples.c.digest, _uses.c.responses, _uses.c.times_trained, _uses.c.mean_reward)
        query = query.join(_uses, _uses.c.samples == _samples.c.samples)
        query = query.join(_prompts, _prompts.c.prompt == _uses.c.prompt)
        # A database that was rebuilt for another store still knows the samples of the one before.
        query = query.where(_prompts.c.digest.in_(digests), _samples.c.digest.in_(select(items.c.digest)))
        rows = connection.execute(query.order_by(_samples.c.samples)).all()
        made_by = _executions(connection, [artifact_id(row.digest) for row in rows])
    return [
        PromptUse(
            row.digest, row.responses, row.times_trained, row.mean_reward, tuple(made_by[artifact_id(row.digest)])
        )
        for row in rows
    ]


def _executions(connection: Connection, ids: Sequence[str]) -> dict[str, list[Node]]:
    """By artifact: what made it."""
    edge = select(nodes.c.id, edges.c.source).join(edges, edges.c.target == nodes.c.node)
    rows = connection.execute(edge.where(among(connection, nodes.c.id, ids)).order_by(edges.c.source)).all()
    makers = {row.source for row in rows}
    known = dict(zip(makers, read_nodes(connection, list(makers)), strict=True))
    made_by: dict[str, list[Node]] = {id: [] for id in ids}
    for row in rows:
        made_by[row.id].append(known[row.source])
    return made_by
