"""The part of the graph that a page draws: what is near a node, and near those that were expanded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, func, select

from infra.lineage.graph import Node, Subgraph, is_folded
from infra.lineage.index import LineageIndex
from infra.lineage.row_values import plain
from infra.lineage.tables import among, edges, nodes, reading
from infra.lineage.traversal import number_of, subgraph
from infra.lineage.web.templating import KINDS, percent
from infra.text import visible

MAX_DRAWN = 80
"""Most nodes that are drawn each way; more are unreadable."""
MAX_EXPANDED = 40
"""Most neighbours that one expansion adds each way."""
LABEL_CHARACTERS = 34

_WAYS = ((edges.c.target, edges.c.source), (edges.c.source, edges.c.target))
"""Columns of a step's start and end: upstream, then downstream."""


@dataclass(frozen=True)
class Neighbourhood:
    """Some nodes, all edges between them, and how many more neighbours each node has."""

    graph: Subgraph
    more: dict[str, int]


def neighbourhood_of(index: LineageIndex, node: str, hops: int, expanded: Sequence[str]) -> Neighbourhood:
    """What a node came from and what it led to, each within so many edges, and all neighbours of the expanded nodes.

    Other things that came from the same are left out until a node is expanded: with them, whatever shares a data set
    would be one tangle. Evaluations are left out, unless the node is one: its model's label and panel show them. Raises
    LineageError where there is no such node; expanded nodes that do not exist are ignored.
    """
    with reading(index.engine) as connection:
        centre = number_of(connection, node)
        numbers, cut = {centre: None}, 0
        for start, end in _WAYS:
            reached, left_out = _within(connection, centre, start, end, hops)
            numbers |= dict.fromkeys(reached)
            cut += left_out
        for id in expanded:
            known = connection.execute(select(nodes.c.node).where(nodes.c.id == plain(id))).scalar()
            if known is None:
                continue
            for start, end in _WAYS:
                reached, left_out = _step(connection, [known], start, end, MAX_EXPANDED)
                numbers |= dict.fromkeys(reached)
                cut += left_out
        graph = subgraph(connection, list(numbers), cut)
        degrees: Counter[int] = Counter()
        for start, end in _WAYS:
            counted = select(start, func.count()).join(nodes, nodes.c.node == end)
            counted = counted.where(among(connection, start, list(numbers)), ~nodes.c.folded).group_by(start)
            degrees.update({row[0]: row[1] for row in connection.execute(counted)})
    folded = {each.id for each in graph.nodes if is_folded(each)}
    ends = [pair for edge in graph.edges for pair in ((edge.source, edge.target), (edge.target, edge.source))]
    drawn = Counter(id for id, other in ends if other not in folded)
    more = {each.id: degrees[number] - drawn[each.id] for number, each in zip(numbers, graph.nodes, strict=True)}
    return Neighbourhood(graph, more)


def _within(
    connection: Connection, centre: int, start: Column[int], end: Column[int], hops: int
) -> tuple[list[int], int]:
    """Nodes that edges lead to within so many hops, nearest first, and how many are left out."""
    reached: dict[int, None] = {}
    last, cut = [centre], 0
    for _ in range(hops):
        numbers, cut = _step(connection, last, start, end, MAX_DRAWN - len(reached))
        last = [number for number in numbers if number not in reached]
        reached |= dict.fromkeys(last)
        if cut or not last:
            break
    return list(reached), cut


def _step(
    connection: Connection, last: Sequence[int], start: Column[int], end: Column[int], room: int
) -> tuple[list[int], int]:
    """The newest nodes at the other end of edges, and how many are left out."""
    near = select(end.label("node")).where(among(connection, start, last)).distinct().subquery()
    query = select(near.c.node, func.count().over()).join(nodes, nodes.c.node == near.c.node).where(~nodes.c.folded)
    rows = connection.execute(query.order_by(near.c.node.desc()).limit(max(room, 1))).all()
    return [row[0] for row in rows], rows[0][1] - len(rows) if rows else 0


def drawing(near: Neighbourhood) -> dict[str, Any]:
    """The nodes and edges as the page's script takes them: plain JSON, every text visible and short."""
    return {
        "nodes": [
            {
                "id": node.id,
                "kind": node.kind,
                "name": visible(node.label),
                "label": label(node),
                "kindName": KINDS[node.kind],
                "more": near.more[node.id],
                "broken": broken(node),
            }
            for node in near.graph.nodes
        ],
        "edges": [
            {"source": edge.source, "target": edge.target, "role": visible(edge.role)} for edge in near.graph.edges
        ],
        "cut": near.graph.cut,
    }


def broken(node: Node) -> bool:
    """Whether the node is of something that failed."""
    return node.facts.get("status") == "failed" or (node.kind == "gate" and node.facts.get("passed") is False)


def label(node: Node) -> str:
    """The text at a node: a line or two."""
    lines = [visible(node.label)]
    if node.kind == "source":
        lines = [visible(node.label).rstrip("/").rpartition("/")[2]]
    elif node.kind == "artifact" and " · " in node.label:
        stage, _, rest = visible(node.label).partition(" · ")
        lines = [rest, stage]
    if node.facts.get("accuracy") is not None and node.kind == "artifact":
        lines.append(percent(node.facts["accuracy"]))
    return "\n".join(_cut(line) for line in lines)


def _cut(text: str) -> str:
    return text if len(text) <= LABEL_CHARACTERS else f"{text[: LABEL_CHARACTERS - 1]}…"
