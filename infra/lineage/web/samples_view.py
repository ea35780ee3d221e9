"""The responses that a stage trained on, a few at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infra.lineage.samples import iterations_of, samples_of
from infra.lineage.web.site import Site
from infra.store.store import Ref

ROWS = 10


@dataclass(frozen=True)
class SamplesView:
    """Some rows of an artifact of samples."""

    rows: Sequence[Mapping[str, Any]]
    iterations: Sequence[Mapping[str, Any]]
    """All iterations; none outside RL."""
    iteration: int | None
    """The selected one; None selects all."""
    offset: int
    after: int | None
    """Offset of the next rows; None where these are the last."""


def samples_view(site: Site, ref: Ref, iteration: int | None, offset: int) -> SamplesView:
    """Rows from `offset` on. Raises StoreError where they cannot be had, SamplesError where there are none."""
    rows = samples_of(site.store, ref, iteration=iteration, limit=ROWS + 1, offset=offset)
    after = offset + ROWS if len(rows) > ROWS else None
    iterations = [each for each in iterations_of(site.store, ref) if each["iteration"] is not None]
    return SamplesView(rows[:ROWS], iterations, iteration, offset, after)
