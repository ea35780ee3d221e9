"""A subgraph as a Mermaid diagram, for pages and notes that draw them. Evaluations are part of their model's label.

Invariant: a name or label can neither end a label nor be taken for markup: every character but plain letters, digits
and a few signs is written as its number.
"""

import re

from infra.lineage.graph import Node, NodeKind, Subgraph, fold
from infra.text import visible

LONGEST_LABEL = 80
"""Characters of a label; what comes after is left out."""

_SHAPES: dict[NodeKind, tuple[str, str]] = {
    "source": ("[/", "/]"),
    "execution": ("[", "]"),
    "artifact": ("([", "])"),
    "gate": ("{{", "}}"),
    "run": ("((", "))"),
    "tag": (">", "]"),
}


def mermaid(graph: Subgraph) -> str:
    """The diagram's text. By default, Mermaid itself refuses to draw more than some hundred edges."""
    graph = fold(graph)
    names = {node.id: f"n{place}" for place, node in enumerate(graph.nodes)}
    lines = ["flowchart LR"]
    for node in graph.nodes:
        before, after = _SHAPES[node.kind]
        lines.append(f'    {names[node.id]}{before}"{_label(node)}"{after}:::{node.kind}')
    lines += [f'    {names[edge.source]} -->|"{escaped(edge.role)}"| {names[edge.target]}' for edge in graph.edges]
    if graph.cut:
        lines.append(f'    cut["{graph.cut} more are left out"]')
    return "\n".join([*lines, ""])


def escaped(text: str) -> str:
    """A text as a label holds it."""
    text = visible(" ".join(text.split()))
    if len(text) > LONGEST_LABEL:
        text = f"{text[:LONGEST_LABEL]}…"
    return re.sub(r"[^A-Za-z0-9 ._/·…-]", lambda match: f"#{ord(match.group())};", text)


def _label(node: Node) -> str:
    where = node.facts.get("run") if node.kind == "execution" else node.facts.get("digest", "")[:12]
    accuracy = node.facts.get("accuracy") if node.kind == "artifact" else None
    figure = f"accuracy {100 * accuracy:.1f}" if accuracy is not None else ""
    return "<br/>".join(escaped(part) for part in (node.label, str(where or ""), figure) if part)
