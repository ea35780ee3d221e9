"""The graph's vocabulary: what its nodes are called and what an edge means.

    source ─▶ execution ─▶ artifact ─▶ execution ─▶ artifact …
                ▲   │                      │
        gate ───┘   └──▶ run               └──▶ tag

An execution is one stage that really ran. It depends on what it read and on the gates that it passed; on it depend what
it made, the run that it was part of and those that used its outputs again. Edges go from a node to what depends on it,
so `upstream` walks against them: from a tag to its model and all that made it, from a run to all that its stages read.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

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
    """What a person calls it: the stage, the output's name and kind, the file's address."""
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
    """Nodes that were left out because there were too many. The walk ended with them: there may be more behind."""
