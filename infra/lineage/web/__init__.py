"""The lineage page: a web page over the index, for people; it reads and never writes.

Three invariants:
- Nothing leaves the machine: pages ask for files of this folder alone, and the browser is told to load nothing else.
- What records, models and data sets say is text and never markup: the template engine shows and escapes every value.
- Files are reached through a manifest of the store, so that no path of a request is ever joined to a folder.
"""
