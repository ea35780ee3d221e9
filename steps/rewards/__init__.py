"""Verifiable rewards (§2.3.5): r(x, y, y*) ∈ {0, 1} for a response, by its final answer or by tests of its program.

NOTE: empty on purpose. The math worker starts with this package and must not wait for what the others import.
"""
