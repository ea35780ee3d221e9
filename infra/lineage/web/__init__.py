"""The lineage page: a web page over the index, for people; it reads and never writes.

Three invariants:
- Nothing leaves the machine: pages load files of this folder only, and a policy forbids the browser to load any other.
- Texts of records, models and data sets are never markup: the template engine makes every value visible and escapes it.
- Files are reached through a manifest of the store, so that no path of a request is ever joined to a folder.
"""
