"""The parts of the lineage that can be exported, as subgraphs and as plain data.

What a node came from or led to, the index itself answers: `upstream` and `downstream`.
"""

from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from sqlalchemy import select

from infra.lineage.graph import Node, Subgraph
from infra.lineage.index import LineageIndex
from infra.lineage.row_values import artifact_id
from infra.lineage.tables import among, nodes, reading
from infra.lineage.traversal import DIRECTIONS, every, number_of, reach, read_nodes, subgraph


def whole(index: LineageIndex) -> Subgraph:
    """All of the lineage."""
    with reading(index.engine) as connection:
        return subgraph(connection, every(connection), 0)


def of_run(index: LineageIndex, run: str) -> Subgraph:
    """A run: its stages' executions with their gates, and what these read and made.

    Raises LineageError where there is no such run.
    """
    index.run(run)
    with reading(index.engine) as connection:
        stages = reach(connection, [number_of(connection, f"run:{run}")], "upstream", depth=1)
        near = [reach(connection, stages[1:], direction, depth=1) for direction in DIRECTIONS]
        reached = list(dict.fromkeys(number for numbers in (stages, *near) for number in numbers))
        others = {
            number
            for number, node in zip(reached, read_nodes(connection, reached), strict=True)
            if node.kind == "run" and number != stages[0]
        }
        return subgraph(connection, [number for number in reached if number not in others], 0)


def makers(index: LineageIndex, digests: Collection[str]) -> list[Node]:
    """The executions that made artifacts, by the artifacts' digests."""
    ids = [artifact_id(digest) for digest in digests]
    with reading(index.engine) as connection:
        numbers = connection.execute(select(nodes.c.node).where(among(connection, nodes.c.id, ids))).scalars().all()
        reached = read_nodes(connection, reach(connection, numbers, "upstream", depth=1))
    return [node for node in reached if node.kind == "execution"]


def as_data(graph: Subgraph) -> dict[str, Any]:
    """Plain data: `nodes` with id, kind, label and facts, `edges` with source, target and role, `cut`."""
    return asdict(graph)
