"""Finding a node by the name that people use for it.

Invariant: a name that could mean two nodes is refused, with the ids of both; an id always means one.
"""

from collections.abc import Sequence

from sqlalchemy import Connection, select

from infra.lineage.errors import LineageError
from infra.lineage.graph import Node
from infra.lineage.row_values import plain
from infra.lineage.tables import items, nodes, runs, stage_runs, tags
from infra.lineage.traversal import read_nodes

SHORTEST_DIGEST = 6
"""Fewest leading hex digits that count as a digest."""

MAX_NAMES = 10
"""How many names a message lists."""


def find(connection: Connection, name: str) -> Node:
    """The node with that name. Raises LineageError where there is none, or more than one, with those that there are."""
    matches = candidates(connection, name)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise LineageError(
            f"{name!r} could be any of these: {_joined([node.id for node in matches])}; give one of the ids"
        )
    raise LineageError(f"nothing in the lineage is called {name!r}. {_known(connection)}")


def candidates(connection: Connection, name: str) -> list[Node]:
    """All nodes that the name could mean, by the first of these that there is any for: an id; a run, RUN:STAGE, a stage
    of the newest run that has it, or a tag; a digest's beginning; a file's address; the end of one."""
    name = plain(name)
    exact = connection.execute(select(nodes.c.node).where(nodes.c.id == name)).scalars().all()
    for numbers in (exact, _named(connection, name), _by_digest(connection, name), _by_address(connection, name)):
        if numbers:
            return list(read_nodes(connection, numbers))
    return []


def newest_run(connection: Connection) -> str | None:
    """The run that started last."""
    return connection.execute(select(runs.c.run).order_by(runs.c.started.desc(), runs.c.run.desc()).limit(1)).scalar()


def _named(connection: Connection, name: str) -> list[int]:
    run, colon, stage = name.partition(":")
    executions = select(stage_runs.c.execution)
    # A stage alone is that of the newest run that has it: runs of `longhaul evaluate` have none of the chain's.
    newest = (
        executions.where(stage_runs.c.stage == name, stage_runs.c.run == runs.c.run)
        .order_by(runs.c.started.desc(), runs.c.run.desc())
        .limit(1)
    )
    queries = (
        select(runs.c.node).where(runs.c.run == name),
        executions.where(stage_runs.c.run == run, stage_runs.c.stage == stage) if colon else newest,
        select(tags.c.node).where(tags.c.tag == name),
    )
    return [number for query in queries for number in connection.execute(query).scalars()]


def _by_digest(connection: Connection, name: str) -> Sequence[int]:
    digits = name.lower()
    if len(digits) < SHORTEST_DIGEST or set(digits) - set("0123456789abcdef"):
        return []
    within = items.c.digest.between(digits, digits + "g")
    query = select(items.c.node).where(within).order_by(items.c.node).limit(MAX_NAMES + 1)
    return connection.execute(query).scalars().all()


def _by_address(connection: Connection, name: str) -> Sequence[int]:
    files = select(items.c.node).where(items.c.source).order_by(items.c.node)
    exact = connection.execute(files.where(items.c.address == name)).scalars().all()
    return (
        exact or connection.execute(files.where(items.c.address.endswith(f"/{name}", autoescape=True))).scalars().all()
    )


def _known(connection: Connection) -> str:
    run = newest_run(connection)
    if run is None:
        return "It is empty: no run has been recorded yet"
    stages = connection.execute(select(stage_runs.c.stage).where(stage_runs.c.run == run)).scalars().all()
    parts = [f"The newest run is {run}, with the stages {_joined(stages)}"]
    if set_tags := connection.execute(select(tags.c.tag).order_by(tags.c.tag)).scalars().all():
        parts.append(f"tags: {_joined(set_tags)}")
    return "; ".join([*parts, "a digest's beginning or the end of a file's address is a name too"])


def _joined(names: Sequence[str]) -> str:
    return ", ".join(names[:MAX_NAMES]) + (", …" if len(names) > MAX_NAMES else "")
