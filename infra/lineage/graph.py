"""The graph's vocabulary: its kinds of nodes, and what an edge means.

    source ─▶ execution ─▶ artifact ─▶ execution ─▶ artifact …
                ▲   │                      │
        gate ───┘   └──▶ run               └──▶ tag

An execution is one stage that really ran. It depends on what it read and on the gates that it passed; what it made,
the run that it was part of and the runs that reused its outputs depend on it. Edges go from a node to what depends on
it, so `upstream` follows them backwards: from a tag to its model and all that made it, from a run to all that its
stages read.

An evaluation is an execution that reads a model and makes nothing: a leaf, which drawings fold into the model.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from infra.store.evaluation_stages import is_evaluation

NodeKind = Literal["source", "execution", "artifact", "gate", "run", "tag"]


@dataclass(frozen=True, order=True, slots=True)
class Node:
    """Something in the graph.

    Ids: `artifact:<digest>`, `execution:<run>:<stage>` (of the run that really ran it), `source:<sha256>:<address>`,
    `gate:<run>:<stage>:<number from 0>`, `run:<run>`, `tag:<tag>`. Texts in them come from users: hostile to a page.
    """

    id: str
    kind: NodeKind
    label: str
    """A short name for people: the stage, the output's name and kind, the file's address."""
    facts: dict[str, Any] = field(default_factory=dict, compare=False, hash=False)
    """A few plain values that a list or a tooltip shows."""


@dataclass(frozen=True, order=True, slots=True)
class Edge:
    """From a node to one that depends on it."""

    source: str
    target: str
    role: str
    """The input's or output's name, `reads` from a source, `checks` from a gate, `uses` to a run, `tags` to a tag."""


@dataclass(frozen=True)
class Subgraph:
    """Some nodes and all edges between them."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    cut: int = 0
    """Nodes that were left out because there were too many. The traversal ended there: more may follow them."""


def fold(graph: Subgraph) -> Subgraph:
    """A graph without evaluations, and without gates that belong to evaluations alone; its first node always stays."""
    first = graph.nodes[0].id if graph.nodes else None
    folded = {node.id for node in graph.nodes if is_folded(node) and node.id != first}
    edges = tuple(edge for edge in graph.edges if not {edge.source, edge.target} & folded)
    joined = {id for edge in edges for id in (edge.source, edge.target)}
    cut_off = {edge.source for edge in graph.edges if edge.target in folded} - joined
    gates = {node.id for node in graph.nodes if node.kind == "gate" and node.id in cut_off and node.id != first}
    return Subgraph(tuple(node for node in graph.nodes if node.id not in folded | gates), edges, graph.cut)


def is_folded(node: Node) -> bool:
    """Whether a node is an evaluation, which drawings fold into its model."""
    return node.kind == "execution" and is_evaluation(str(node.facts.get("stage", "")))
