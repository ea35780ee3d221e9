"""The part of the graph that a page draws: what is near a node, and near those that were expanded."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from infra.lineage import walks
from infra.lineage.graph import Node, Subgraph
from infra.lineage.index import LineageIndex
from infra.lineage.tables import LineageError, among, edges
from infra.lineage.web.templating import KINDS, percent
from infra.text import visible

DRAWN = 150
"""Most nodes around the first one; more are unreadable."""
EXPANDED = 40
"""Most neighbours that one expansion adds."""
LABEL_CHARACTERS = 34


@dataclass(frozen=True)
class Nearby:
    """Some nodes, all edges between them, and how many more neighbours each node has."""

    graph: Subgraph
    more: dict[str, int]


def nearby(index: LineageIndex, node: str, hops: int, expanded: Sequence[str]) -> Nearby:
    """What is at most `hops` edges from a node, and the neighbours of the expanded nodes.

    Raises LineageError where there is no such node; expanded nodes that are not there are passed over.
    """
    first = index.neighbourhood(node, hops, DRAWN)
    ids = {each.id: None for each in first.nodes}
    cut = first.cut
    for id in expanded:
        try:
            added = index.neighbourhood(id, 1, EXPANDED)
        except LineageError:  # an old address of a store that was begun anew
            continue
        ids |= {each.id: None for each in added.nodes}
        cut += added.cut
    with index.engine.connect() as connection:
        numbers = [walks.number_of(connection, id) for id in ids]
        graph = walks.subgraph(connection, numbers, cut) if expanded else first
        all_edges: Counter[str] = Counter()
        for end in (edges.c.source, edges.c.target):
            counted = select(end, func.count()).where(among(connection, end, numbers)).group_by(end)
            found: dict[int, int] = dict(connection.execute(counted).tuples().all())
            all_edges.update({id: found.get(number, 0) for id, number in zip(ids, numbers, strict=True)})
    drawn = Counter(id for edge in graph.edges for id in (edge.source, edge.target))
    return Nearby(graph, {id: all_edges[id] - drawn[id] for id in ids})


def drawing(found: Nearby) -> dict[str, Any]:
    """The nodes and edges as the page's script takes them: plain JSON, every text visible and short."""
    return {
        "nodes": [
            {
                "id": node.id,
                "kind": node.kind,
                "name": visible(node.label),
                "label": label(node),
                "kindName": KINDS[node.kind],
                "more": found.more[node.id],
                "broken": broken(node),
            }
            for node in found.graph.nodes
        ],
        "edges": [
            {"source": edge.source, "target": edge.target, "role": visible(edge.role)} for edge in found.graph.edges
        ],
        "cut": found.graph.cut,
    }


def broken(node: Node) -> bool:
    """Whether the node is of something that failed."""
    return node.facts.get("status") == "failed" or (node.kind == "gate" and node.facts.get("passed") is False)


def label(node: Node) -> str:
    """What stands at a node: a line or two."""
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
