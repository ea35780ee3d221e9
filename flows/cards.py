"""Cards: what Metaflow's pages and `card get` show of a task.

A task saves its own. Metaflow's `@card` would start a process for it that loads the whole flow once more: two seconds
of every step, also of those that have nothing to show.
"""

from typing import Any
from uuid import uuid4

from metaflow import current
from metaflow.datastore import FlowDataStore
from metaflow.plugins.cards.card_datastore import CardDatastore


def save_card(flow: Any, html: str) -> None:
    """Save a page as the card of the task that is running, where Metaflow's own cards would be."""
    storage = flow._datastore.parent_datastore._storage_impl
    root = CardDatastore.get_storage_root(storage.TYPE)
    cards = FlowDataStore(flow.name, storage_impl=type(storage), ds_root=root)
    CardDatastore(cards, pathspec=current.pathspec).save_card(uuid4().hex, "html", html)
