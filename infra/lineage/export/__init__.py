"""The lineage for other tools: as data, as a Mermaid diagram, as OpenLineage events.

What is exported is chosen first, as a subgraph: all of it, a run with what its stages read and made, or what a node
came from or led to.
"""
