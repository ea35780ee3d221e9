"""Traversals of the graph: what is near a node, and all that it came from or led to.

Invariant: there is one query for each hop, whatever the number of nodes there; a node that thousands depend on takes
no more of a result than the limit leaves it.
"""

import json
from collections.abc import Collection, Sequence
from typing import Literal

from sqlalchemy import Connection, func, select, union_all

from infra.lineage.errors import LineageError
from infra.lineage.graph import Edge, Node, Subgraph
from infra.lineage.row_values import plain
from infra.lineage.tables import among, edges, nodes

Direction = Literal["upstream", "downstream"]
DIRECTIONS: tuple[Direction, ...] = ("upstream", "downstream")


def read_nodes(connection: Connection, numbers: Sequence[int]) -> tuple[Node, ...]:
    """Nodes by their numbers, in the same order."""
    rows = connection.execute(select(nodes).where(among(connection, nodes.c.node, numbers))).all()
    # Parsed at once: one by one, a hundred thousand texts take twice as long.
    facts = json.loads(f"[{','.join([row.facts for row in rows])}]")
    by_number = {row.node: Node(row.id, row.kind, row.label, each) for row, each in zip(rows, facts, strict=True)}
    return tuple([by_number[each] for each in numbers])


def number_of(connection: Connection, id: str) -> int:
    """A node's number. Raises LineageError where there is no such node."""
    number = connection.execute(select(nodes.c.node).where(nodes.c.id == plain(id))).scalar()
    if number is None:
        raise LineageError(f"the lineage has no node {id!r}")
    return number


def every(connection: Connection) -> list[int]:
    """Numbers of all nodes."""
    return list(connection.execute(select(nodes.c.node).order_by(nodes.c.node)).scalars())


def subgraph(connection: Connection, numbers: Sequence[int], cut: int) -> Subgraph:
    """Nodes and all edges between them."""
    members = read_nodes(connection, numbers)
    ids = {number: node.id for number, node in zip(numbers, members, strict=True)}
    # Few edges lead to a node, but thousands may lead away from one: the sum keeps the database from looking up every
    # pair of nodes.
    between = select(edges.c.source, edges.c.target, edges.c.role).where(
        among(connection, edges.c.target, numbers), among(connection, edges.c.source + 0, numbers)
    )
    rows = connection.execute(between.order_by(edges.c.target, edges.c.source, edges.c.role)).all()
    return Subgraph(members, tuple([Edge(ids[source], ids[target], role) for source, target, role in rows]), cut)


def neighbourhood(connection: Connection, id: str, hops: int, limit: int, fold: bool = False) -> Subgraph:
    """Nodes at most so many hops away, whichever way the edges go, nearest first; at most `limit` of them.

    Where a hop has more than fit, each node of the hop before gets some of its neighbours in turn, newest first, and
    the traversal ends.

    Args:
        fold: leave out evaluations, unless the node itself is one.
    """
    reached = [number_of(connection, id)]
    last, cut = reached, 0
    for _ in range(hops):
        near = union_all(
            *(
                select(at.label("at"), to.label("node")).where(among(connection, at, last))
                for at, to in ((edges.c.source, edges.c.target), (edges.c.target, edges.c.source))
            )
        ).subquery()
        turn = func.row_number().over(partition_by=near.c.at, order_by=near.c.node.desc())
        turns = select(near.c.node, turn.label("turn")).where(~among(connection, near.c.node, reached))
        if fold:
            turns = turns.join(nodes, nodes.c.node == near.c.node).where(~nodes.c.folded)
        ranked = turns.subquery()
        room = limit - len(reached)
        hop = connection.execute(
            select(ranked.c.node, func.count().over().label("total"))
            .group_by(ranked.c.node)
            .order_by(func.min(ranked.c.turn), ranked.c.node.desc())
            .limit(max(room, 1))
        ).all()
        if not hop:
            break
        last = [row.node for row in hop[:room]]
        reached = reached + last
        cut = hop[0].total - len(last)
        if cut:
            break
    return subgraph(connection, reached, cut)


def reach(
    connection: Connection,
    start: Collection[int],
    direction: Direction,
    depth: int | None = None,
    limit: int | None = None,
) -> list[int]:
    """Numbers of all nodes that the edges lead to from some nodes, those included, nearest first.

    It ends after `depth` hops, or after the hop that reaches more than `limit` nodes.
    """
    at, to = edges.c.source, edges.c.target
    if direction == "upstream":
        at, to = to, at
    seen = dict.fromkeys(start)
    last, hops = list(seen), 0
    while last and hops != depth and (limit is None or len(seen) <= limit):
        step = select(to).where(among(connection, at, last)).distinct().order_by(to)
        last = [node for node in connection.execute(step).scalars() if node not in seen]
        seen.update(dict.fromkeys(last))
        hops += 1
    return list(seen)
