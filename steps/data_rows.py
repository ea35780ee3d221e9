"""The rows of a role's sources, put together or mixed; rows that cannot be read are refused by their place."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from random import Random

from infra.progress.tasks import task
from infra.store.source import Source
from steps.configs.data import SourcesConfig, images_key, source_key
from steps.configs.data_source import Role, SourceConfig
from steps.data_mixture import counts, mix
from steps.problem import MalformedRow, Problem
from steps.row_images import RowImages
from steps.source_rows import Read, read_source


@dataclass
class SourceRows:
    """What was read of one source."""

    key: str
    address: str
    rows: list[Read] = field(default_factory=list)
    refused: list[MalformedRow] = field(default_factory=list)
    used: int = 0
    """Rows that are part of the role's data: fewer where sources are mixed by weight."""


def stop(refused: MalformedRow) -> None:
    """What is done about a row that cannot be read, if nothing else is said: it is raised."""
    raise refused


def read_role(
    sources: Mapping[str, Source],
    config: SourcesConfig,
    role: Role,
    seed: int,
    on_refused: Callable[[MalformedRow], None] = stop,
    images: RowImages | None = None,
) -> tuple[list[Read], list[SourceRows]]:
    """All rows of a role, and what each of its sources has.

    Args:
        sources: what was brought, by the recipe's keys.
        images: where the rows' images go; default: they are read and checked, and not kept.
        on_refused: called with each row that cannot be read, where its source does not skip them.

    Raises MalformedRow for a file that cannot be read, for a source without rows, for an id that occurs twice, and for
    a weight that is too small for a single row.
    """
    images = images or RowImages()
    parts: list[SourceRows] = []
    places: dict[str, str] = {}
    with task(f"read {role}", unit="rows") as progress:
        for place, one in enumerate(config.of(role)):
            key = source_key(role, place)
            folder = sources.get(images_key(key))
            files = folder.path if folder else None
            part = SourceRows(key, sources[key].address)
            for row in islice(
                _accepted(read_source(sources[key], one, role, images, files), one, part, on_refused, places), one.limit
            ):
                part.rows.append(row)
                progress.advance(1)
            if not part.rows and not part.refused:
                raise MalformedRow(f"{part.address}: it has no rows ({key}): give a file that has, or leave it out")
            if not part.rows and on_refused is stop:
                raise MalformedRow(f"{part.refused[0]} (and no other of the {len(part.refused)} rows can be read)")
            parts.append(part)
    chosen = [part.rows for part in parts]
    if config.weighted(role) and all(chosen):
        chosen = mix(chosen, [one.weight or 0 for one in config.of(role)], Random(f"{seed} mixture of {role}"))
        for part, rows in zip(parts, chosen, strict=True):
            if not rows:
                raise MalformedRow(
                    f"{part.key}.weight is so small that none of its {len(part.rows)} rows is taken: raise it, or "
                    "leave the source out"
                )
    for part, rows in zip(parts, chosen, strict=True):
        part.used = len(rows)
    return list(chain.from_iterable(chosen)), parts


def _accepted(
    rows: Iterable[tuple[str, Read | MalformedRow]],
    config: SourceConfig,
    part: SourceRows,
    on_refused: Callable[[MalformedRow], None],
    places: dict[str, str],
) -> Iterator[Read]:
    for place, row in rows:
        if isinstance(row, Problem) and row.id in places:
            row = MalformedRow(
                f"{place}: id {row.id!r} occurs twice, first at {places[row.id]}: correct it, or give one source "
                "another `name` if the rows have no ids"
            )
        if not isinstance(row, MalformedRow):
            if isinstance(row, Problem):
                places[row.id] = place
            yield row
            continue
        part.refused.append(row)
        if not config.skip_refused:
            on_refused(row)


def mixed(configs: Sequence[SourceConfig], rows: Sequence[int]) -> list[int]:
    """How many rows of each source of a role are used."""
    weights = [one.weight for one in configs if one.weight]
    return counts(rows, weights) if weights else list(rows)
