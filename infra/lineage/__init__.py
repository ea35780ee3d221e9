"""Lineage: from a model back to all that made it, and from a file or prompt on to all that it touched.

The store's records are the truth; the graph is an index over them (`index.py`) that can be rebuilt at any time.
"""
