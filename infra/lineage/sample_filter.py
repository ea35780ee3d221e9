"""Samples chosen by what they are and by what they say, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from infra.lineage.samples import SAMPLE_ORDERS, as_digests, open_samples, order_by, rows_of
from infra.store.store import Ref, Store

MAX_CHOICES = 1000
"""Values of one column that a form offers."""


@dataclass(frozen=True)
class SampleFilter:
    """What samples have to be; None and '' choose all."""

    iteration: int | None = None
    outcome: str | None = None
    stop: str | None = None
    least_reward: float | None = None
    greatest_reward: float | None = None
    """Of the verifier. A response without a reward is chosen only where neither bound is set."""
    fewest_tokens: int | None = None
    most_tokens: int | None = None
    text: str = ""
    """In the prompt, the response or the problem's id; case does not count."""
    prompt: str | None = None
    """The prompt's text or digest."""
    pattern: str | None = None
    """A regular expression (RE2's syntax) that the response matches; case does not count."""

    @property
    def conditions(self) -> tuple[str, list[Any]]:
        """A WHERE clause, empty where all are chosen, and its values."""
        parts: list[tuple[str, Any]] = [
            ("iteration = ?", self.iteration),
            ("outcome = ?", self.outcome),
            ("stop = ?", self.stop),
            ("reward >= ?", self.least_reward),
            ("reward <= ?", self.greatest_reward),
            ("tokens >= ?", self.fewest_tokens),
            ("tokens <= ?", self.most_tokens),
            ("contains(lower(concat_ws(chr(10), problem_id, prompt, response)), lower(?))", self.text or None),
            ("regexp_matches(response, ?, 'i')", self.pattern),
        ]
        chosen = [(condition, value) for condition, value in parts if value is not None]
        conditions = [condition for condition, _ in chosen]
        values = [value for _, value in chosen]
        if self.prompt is not None:
            digests = as_digests(self.prompt)
            conditions.append(f"prompt_digest IN ({', '.join('?' * len(digests))})")
            values += digests
        return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), values


@dataclass(frozen=True)
class SamplePage:
    """Some of the samples that a filter chooses."""

    rows: Sequence[dict[str, Any]]
    """Rows of `infra.lineage.sample_files.SCHEMA`."""
    total: int
    """How many the filter chooses."""
    all: int
    """How many there are without the filter."""
    iterations: Sequence[int]
    """Of all samples; none outside RL."""
    outcomes: Sequence[str]
    stops: Sequence[str]


def select_samples(
    store: Store, ref: Ref, chosen: SampleFilter, order: str = "number", limit: int = 50, offset: int = 0
) -> SamplePage:
    """A page of the samples that a filter chooses, and what a form may offer to choose by.

    Raises as `infra.lineage.samples.samples_of` does.
    """
    where, values = chosen.conditions
    by = order_by(order, SAMPLE_ORDERS, then="iteration, number")
    with open_samples(store, ref) as samples:
        rows = rows_of(
            samples.execute(f"SELECT * FROM samples {where} {by} LIMIT ? OFFSET ?", [*values, limit, offset])
        )
        counts = samples.execute(f"SELECT count(*), (SELECT count(*) FROM samples) FROM samples {where}", values)
        total, everything = counts.fetchall()[0]

        def choices(column: str) -> list[Any]:
            query = f"SELECT DISTINCT {column} FROM samples WHERE {column} IS NOT NULL ORDER BY 1 LIMIT {MAX_CHOICES}"
            return [value for (value,) in samples.execute(query).fetchall()]

        return SamplePage(rows, total, everything, choices("iteration"), choices("outcome"), choices("stop"))
